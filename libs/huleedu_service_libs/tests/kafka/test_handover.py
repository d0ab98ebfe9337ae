"""A publisher that hands over to the outbox: the relay sends what it could not, in order, through restarts and outages of the database."""

from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaError

from huleedu_service_libs.kafka.errors import (
    MessageHeldBackError,
)
from huleedu_service_libs.outbox.spill import OutboxHandover

from ..outbox.doubles import Repository
from .journals import waiting_message
from .publishers import Bus, envelope, guarded


async def test_the_outbox_takes_over_and_keeps_the_order() -> None:
    """A message that cannot be sent is a row at once; later ones of its key follow it until the relay has sent them."""
    bus, repository = Bus(), Repository()
    publisher = guarded(bus, spill=OutboxHandover(repository))
    await publisher.start()
    bus.down = KafkaConnectionError("gone")
    with pytest.raises(KafkaError):
        await publisher.publish("t", envelope(0), "k")
    await publisher.publish("t", envelope(1), "k")
    bus.down = None
    await publisher.publish("t", envelope(2), "k")
    with pytest.raises(MessageHeldBackError):
        await publisher.publish_confirmed("t", envelope(9), "k")
    await publisher.publish("t", envelope(3), "other")
    assert bus.arrived == [("other", 3)]
    assert publisher.get_fallback_queue_size() == 0
    assert [row.event_data["data"]["n"] for row in repository.rows.values()] == [0, 1, 2]
    for row in list(repository.rows):
        await repository.mark_event_published(row)
    await publisher.publish("t", envelope(4), "k")
    await publisher.stop()
    assert bus.arrived == [("other", 3), ("k", 4)]


async def test_the_outbox_is_remembered_by_the_next_life() -> None:
    """A new process must not overtake the rows that the one before has left; a parked row holds nobody up."""
    bus, repository = Bus(), Repository()
    await OutboxHandover(repository).take(waiting_message(0))
    publisher = guarded(bus, spill=OutboxHandover(repository, max_retries=2))
    await publisher.start()
    await publisher.publish("t", envelope(1), "k")
    assert (bus.arrived, len(repository.rows)) == ([], 2)
    for row in list(repository.rows):
        for _ in range(2):
            await repository.increment_retry_count(row, "poison")
    await publisher.publish("t", envelope(2), "k")
    await publisher.stop()
    assert bus.arrived == [("k", 2)]


async def test_a_database_that_is_away_leaves_messages_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are kept and sent from there, unless their key waits in the outbox already: then `publish` raises."""
    bus, repository = Bus(), Repository()
    publisher = guarded(bus, spill=OutboxHandover(repository), threshold=9)
    await publisher.start()
    bus.down = KafkaConnectionError("gone")
    with pytest.raises(KafkaError):
        await publisher.publish("t", envelope(0), "in the outbox")

    async def away(*_arguments: Any, **_keywords: Any) -> Any:
        raise ConnectionRefusedError

    monkeypatch.setattr(repository, "add_event", away)
    monkeypatch.setattr(repository, "get_event_by_id", away)
    with pytest.raises(KafkaError):
        await publisher.publish("t", envelope(1), "in memory")
    assert publisher.get_fallback_queue_size() == 1
    with pytest.raises(ConnectionRefusedError):
        await publisher.publish("t", envelope(2), "in the outbox")
    bus.down = None
    await publisher.stop()
    assert bus.arrived == [("in memory", 1)]
