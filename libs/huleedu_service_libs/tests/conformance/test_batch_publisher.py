"""Every `BatchPublisher` keeps the port's promises: the tests' double, and `KafkaBus` on a real broker."""

from collections.abc import AsyncIterator

import pytest

from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.protocols import BatchPublisher, OutgoingMessage

from ..outbox.doubles import BatchingPublisher

pytestmark = pytest.mark.integration

TOO_LARGE = b"x" * 2_000_000
POISONED_KEY = b"bad"


@pytest.fixture(name="publisher", params=["double", "KafkaBus"])
async def _publisher(request: pytest.FixtureRequest) -> AsyncIterator[BatchPublisher]:
    if request.param == "double":
        double = BatchingPublisher()
        double.poison.add(POISONED_KEY)
        yield double
        return
    servers = request.getfixturevalue("real_kafka").address
    async with KafkaBus(client_id="conformance", bootstrap_servers=servers) as bus:
        yield bus


@pytest.fixture(name="topic")
def _topic(request: pytest.FixtureRequest, publisher: BatchPublisher) -> str:
    if isinstance(publisher, BatchingPublisher):
        return "topic"
    topic: str = request.getfixturevalue("kafka_topic")("conformance", partitions=3)
    return topic


def _message(topic: str, key: bytes, number: int) -> OutgoingMessage:
    poisoned = key == POISONED_KEY and number == 0
    return OutgoingMessage(topic=topic, key=key, value=TOO_LARGE if poisoned else b"%d" % number)


async def test_nothing_to_send(publisher: BatchPublisher) -> None:
    """An empty batch has no outcomes."""
    assert list(await publisher.publish_batch([])) == []


async def test_one_outcome_for_each_message(publisher: BatchPublisher, topic: str) -> None:
    """In the order of the messages, all acknowledged."""
    messages = [_message(topic, b"k%d" % (n % 7), n) for n in range(100)]
    outcomes = await publisher.publish_batch(messages)
    assert [outcome.acknowledged for outcome in outcomes] == [True] * 100


async def test_poison_holds_back_its_own_key_only(publisher: BatchPublisher, topic: str) -> None:
    """The poisoned message failed for good, its key's later ones were not tried, other keys arrived."""
    messages = [_message(topic, key, n) for n in range(3) for key in (b"a", POISONED_KEY, b"b")]
    outcomes = await publisher.publish_batch(messages)
    of_key = {key: [one for one, m in zip(outcomes, messages, strict=True) if m.key == key] for key in (b"a", b"b")}
    assert all(outcome.acknowledged for outcomes in of_key.values() for outcome in outcomes)
    first, *later = [one for one, message in zip(outcomes, messages, strict=True) if message.key == POISONED_KEY]
    assert (first.acknowledged, first.attempted, first.transient) == (False, True, False)
    assert [(one.acknowledged, one.attempted) for one in later] == [(False, False)] * 2
