"""What follows from each error that sending can end with."""

import inspect

import pytest
from aiokafka import errors as driver

from huleedu_service_libs.kafka import errors as ours
from huleedu_service_libs.kafka.driver_errors import (
    InvalidRecordError,
    KafkaUnreachableError,
    PublishTimeoutError,
    is_transient,
)

CONTENT = {
    driver.MessageSizeTooLargeError,
    driver.RecordListTooLargeError,
    driver.RecordTooLargeError,
    driver.CorruptRecordException,
    driver.InvalidTopicError,
    driver.InvalidTimestampError,
    driver.InvalidRequestError,
    driver.UnsupportedForMessageFormatError,
    driver.PolicyViolationError,
    InvalidRecordError,
}
MISTAKES_OF_A_CALLER = {driver.ConsumerStoppedError, driver.IllegalOperation}
DRIVERS = sorted(
    {one for one in vars(driver).values() if inspect.isclass(one) and issubclass(one, Exception)},
    key=lambda one: str(one.__name__),
)


@pytest.mark.parametrize("kind", DRIVERS, ids=lambda kind: kind.__name__)
def test_errors_of_the_driver(kind: type[Exception]) -> None:
    """What the broker refuses for its content stays refused; anything else may be over later."""
    assert is_transient(kind()) == (kind not in CONTENT | MISTAKES_OF_A_CALLER)


def test_a_refused_record_is_told_from_the_brokers_general_error() -> None:
    """Code 87 is the record's own fault; -1 says nothing of it, and may be over later."""
    assert driver.for_code(87) is InvalidRecordError
    assert not is_transient(driver.for_code(87)())
    assert is_transient(driver.for_code(-1)())


OURS: list[tuple[Exception, bool]] = [
    (ours.EnvelopeEncodingError("essay.v1", "object"), False),
    (ours.InvalidTopicError("a b"), False),
    (ours.InvalidMessageError("t", "text"), False),
    (ours.MessageTooLargeError("t", size=2, limit=1), False),
    (ours.KafkaBusStoppedError("bus", "t"), True),
    (ours.MessageHeldBackError("t", "an earlier one"), True),
    (KafkaUnreachableError("bus", "kafka:9092", "refused"), True),
    (PublishTimeoutError("t", 1.0), True),
]


@pytest.mark.parametrize(("error", "transient"), OURS, ids=lambda value: type(value).__name__)
def test_errors_of_our_own(error: Exception, transient: bool) -> None:  # noqa: FBT001  # from the table
    """What is wrong with the message itself stays wrong."""
    assert is_transient(error) is transient


def test_none_of_our_own_is_forgotten() -> None:
    """A new error has to be put on one of the two sides."""
    kinds = [*ours.KafkaPublishError.__subclasses__(), *ours.UnsendableMessageError.__subclasses__()]
    known = {one for one in kinds if one.__module__.startswith("huleedu_service_libs.")}
    assert known - {ours.UnsendableMessageError} == {type(error) for error, _ in OURS}


@pytest.mark.parametrize(
    ("error", "transient"),
    [(OSError(), True), (TimeoutError(), True), (ValueError(), False), (TypeError(), False)],
    ids=lambda value: type(value).__name__,
)
def test_errors_of_python(error: Exception, transient: bool) -> None:  # noqa: FBT001  # from the table
    """The network's errors pass, a programmer's mistake does not."""
    assert is_transient(error) is transient


def test_an_address_with_a_scheme_is_told_so() -> None:
    """Whoever gave a URL, as for every other server, is told the form of a broker's address."""
    told = str(KafkaUnreachableError("bus", "kafka://broker:9092", "refused"))
    assert told.endswith("Addresses of brokers have no scheme: give host:port,host:port")
    assert "scheme" not in str(KafkaUnreachableError("bus", "broker:9092", "refused"))
