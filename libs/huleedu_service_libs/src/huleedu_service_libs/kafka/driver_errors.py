"""Errors that are also the driver's, and what follows from an error of the broker.

`KafkaBus`, its producer host and its batches use it. See ``errors`` for the whole tree.
"""

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.kafka.errors import KafkaPublishError, UnsendableMessageError
from huleedu_service_libs.outages import is_outage, is_refused_by_kafka

with requires_extra("kafka", module=__name__):
    from aiokafka import errors as driver

__all__ = [
    "InvalidRecordError",
    "KafkaError",
    "KafkaUnreachableError",
    "PublishTimeoutError",
    "is_sequence_error",
    "is_transient",
    "needs_new_producer",
]


KafkaError: type[Exception] = driver.KafkaError
"""Root of the driver's errors, for breakers that count those."""


class KafkaUnreachableError(KafkaPublishError, driver.KafkaConnectionError):  # type: ignore[misc]  # untyped base
    """No broker answered in time.

    Attributes:
        client_id: The bus.
        bootstrap_servers: Where it looked, without credentials.
        reason: What the driver said.
    """

    def __init__(self, client_id: str, bootstrap_servers: str, reason: str) -> None:
        super().__init__(client_id, bootstrap_servers, reason)
        self.client_id = client_id
        self.bootstrap_servers = bootstrap_servers
        self.reason = reason

    def __str__(self) -> str:
        if not self.bootstrap_servers.strip():
            return (
                f"Kafka bus {self.client_id!r} has no address of a broker: "
                "give bootstrap_servers (KAFKA_BOOTSTRAP_SERVERS) as host:port,host:port"
            )
        fix = "Do brokers run there, and may this host reach them?"
        if "://" in self.bootstrap_servers:
            fix = "Addresses of brokers have no scheme: give host:port,host:port"
        return f"Kafka bus {self.client_id!r} reached no broker at {self.bootstrap_servers}: {self.reason}. {fix}"


class PublishTimeoutError(KafkaPublishError, driver.KafkaTimeoutError, TimeoutError):  # type: ignore[misc]  # untyped base
    """The broker has not acknowledged in time; whether the message arrives is unknown, unless it was not sent.

    Attributes:
        topic: Where it was to go.
        timeout_s: How long was waited, seconds.
        sent: Whether the driver had it; ``False`` when earlier messages were in the way all the time.
    """

    def __init__(self, topic: str, timeout_s: float, *, sent: bool = True) -> None:
        super().__init__(topic, timeout_s)
        self.topic = topic
        self.timeout_s = timeout_s
        self.sent = sent

    def __str__(self) -> str:
        if not self.sent:
            return (
                f"Topic {self.topic!r}: not sent within {self.timeout_s:g} s, because earlier messages are not "
                "acknowledged; the message will not arrive. Is the broker well, and does anybody limit what is published?"
            )
        return f"Topic {self.topic!r}: no acknowledgement within {self.timeout_s:g} s; the message may still arrive"


class InvalidRecordError(driver.BrokerResponseError):  # type: ignore[misc]  # untyped base
    """A record that the broker's topic does not take, as one without key for a compacted topic (``INVALID_RECORD``).

    aiokafka does not know this code, and would report the broker's general error in its place, which
    says nothing about the message.
    """

    errno = 87
    message = "INVALID_RECORD"
    description = "The broker refused the record; a compacted topic takes none without a key."


driver.kafka_errors.setdefault(InvalidRecordError.errno, InvalidRecordError)

_SEQUENCE_ERRORS = (
    driver.OutOfOrderSequenceNumber,
    driver.UnknownProducerId,
    driver.ProducerFenced,
    driver.InvalidProducerEpoch,
    driver.InvalidProducerIdMapping,
)

_HARMLESS = (
    driver.KafkaTimeoutError,
    driver.ProducerClosed,
    driver.TopicAuthorizationFailedError,
    driver.ClusterAuthorizationFailedError,
)


def is_sequence_error(error: BaseException) -> bool:
    """Whether the broker appended nothing because the producer's identity or sequence is out of step."""
    return isinstance(error, _SEQUENCE_ERRORS)


def is_transient(error: BaseException) -> bool:
    """Whether the cause lies outside the message: the same message may succeed later."""
    if is_refused_by_kafka(error) or isinstance(error, UnsendableMessageError):
        return False
    return isinstance(error, driver.KafkaError | KafkaPublishError) or is_outage(error)


def needs_new_producer(error: BaseException) -> bool:
    """Whether the producer is unusable after ``error``.

    aiokafka counts a batch's sequence numbers when it is taken for sending. When such a batch
    fails for good, the broker misses those numbers and refuses everything that follows on the
    partition (aiokafka issue 1017), so any final refusal asks for a new producer id, unless the
    numbers were given back (see ``driver_batches``).
    """
    if not isinstance(error, driver.KafkaError) or isinstance(error, _HARMLESS):
        return False
    return not error.retriable
