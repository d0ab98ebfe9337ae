"""Whatever the broker does, the relay loses nothing and keeps the order of each key. Model: a list per key."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from enum import Enum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common_core import EventEnvelope
from huleedu_service_libs.outbox.adapter import RepositoryBatchStore
from huleedu_service_libs.outbox.relay import EventRelayWorker, OutboxSettings
from huleedu_service_libs.outbox.wakeup import WakeListener
from huleedu_service_libs.protocols import DeliveryOutcome, OutgoingMessage

from ..outbox.doubles import Event, Repository

MAX_RETRIES = 3


class Fate(Enum):
    """What the broker makes of one attempt."""

    ARRIVES = "arrives"
    REFUSED = "refused for its content"
    OUTAGE = "never arrives, for no fault of its own"
    LOST_REPLY = "arrives, but the acknowledgement is lost"


class Broker:
    """Draws the fate of each attempt; keeps what has arrived, in order, by key."""

    def __init__(self, fates: list[Fate]) -> None:
        self.fates = fates
        self.arrived: dict[str, list[str]] = defaultdict(list)
        self.refusals: dict[str, int] = defaultdict(int)

    def attempt(self, key: str, event_id: str) -> Fate:
        """One attempt; once the script is used up, everything arrives."""
        fate = self.fates.pop() if self.fates else Fate.ARRIVES
        if fate in {Fate.ARRIVES, Fate.LOST_REPLY}:
            self.arrived[key].append(event_id)
        if fate is Fate.REFUSED:
            self.refusals[event_id] += 1
        return fate


class OneByOne:
    """A publisher of single envelopes."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""

    async def publish(
        self,
        topic: str,
        envelope: EventEnvelope[Any],
        key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        fate = self.broker.attempt(str(key), str(envelope.event_id))
        if fate is Fate.REFUSED:
            raise ValueError("refused")
        if fate is not Fate.ARRIVES:
            raise TimeoutError("no answer")


class Batching(OneByOne):
    """A publisher of batches, with the port's promises: what follows a failure of its key is held back."""

    async def publish_batch(self, messages: Sequence[OutgoingMessage]) -> list[DeliveryOutcome]:
        outcomes: list[DeliveryOutcome] = []
        broken: set[bytes | None] = set()
        for message in messages:
            if message.key in broken:
                outcomes.append(DeliveryOutcome(error=RuntimeError("held back"), attempted=False))
                continue
            event_id = dict(message.headers)["event_id"].decode()
            fate = self.broker.attempt((message.key or b"").decode(), event_id)
            if fate is Fate.ARRIVES:
                outcomes.append(DeliveryOutcome())
                continue
            broken.add(message.key)
            outcomes.append(DeliveryOutcome(error=ValueError(fate.value), transient=fate is not Fate.REFUSED))
        return outcomes


async def _drain(repository: Repository, publisher: OneByOne, batch_size: int) -> None:
    """Run cycle after cycle, letting time pass between them, until nothing is left that may go."""
    now = 0.0
    worker = EventRelayWorker(
        repository,
        publisher,
        OutboxSettings(batch_size=batch_size, max_retries=MAX_RETRIES, enable_metrics=False),
        "svc",
        clock=lambda: now,
        jitter=lambda: 0.5,
    )
    store, wake = RepositoryBatchStore(repository), WakeListener(None, "key", None)
    pipeline = worker._pipeline(store)
    worker._running = True  # or nothing would be read ahead; without a listener its back-offs end at once
    for _ in range(500):
        await worker._cycle(pipeline, store, wake)
        now += 0.001 if pipeline.has_read_ahead else 60.0  # what was read ahead would be stale a minute later
        if all(event.published_at or event.retry_count >= MAX_RETRIES for event in repository.rows.values()):
            return
    pytest.fail("the relay did not come to an end")


def _firsts(ids: list[str]) -> list[str]:
    return list(dict.fromkeys(ids))


@pytest.mark.parametrize("publisher_type", [OneByOne, Batching])
@given(
    keys=st.lists(st.sampled_from("abc"), min_size=1, max_size=12),
    topics=st.lists(st.sampled_from(["t", "u"]), min_size=12, max_size=12),
    fates=st.lists(st.sampled_from(Fate), max_size=25),
    batch_size=st.integers(1, 8),
)
@settings(max_examples=150)
def test_nothing_is_lost_and_every_key_keeps_its_order(
    publisher_type: type[OneByOne], keys: list[str], topics: list[str], fates: list[Fate], batch_size: int
) -> None:
    """Every event arrives, or is parked after its own refusals alone; first arrivals of a key stand in its order."""
    events = [Event(event_key=key, topic=topic) for key, topic in zip(keys, topics, strict=False)]
    repository, broker = Repository(*events), Broker(list(fates))
    asyncio.run(_drain(repository, publisher_type(broker), batch_size))
    parked = {str(event_id) for event_id, _ in repository.failures}
    # Publishers of single envelopes may be noted one outage; the last attempt is always a refusal.
    noted = 1 if publisher_type is OneByOne else 0
    assert parked >= {event_id for event_id, count in broker.refusals.items() if count >= MAX_RETRIES}
    assert all(broker.refusals[event_id] >= MAX_RETRIES - noted for event_id in parked)
    for key in set(keys):
        expected = [str(event.id) for event in events if event.event_key == key]
        firsts = _firsts(broker.arrived[key])
        assert [one for one in expected if one not in parked] == [one for one in firsts if one not in parked]
        assert firsts == [one for one in expected if one in firsts]
    assert all(count <= MAX_RETRIES for count in broker.refusals.values())
