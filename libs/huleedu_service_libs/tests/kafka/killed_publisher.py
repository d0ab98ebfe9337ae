"""A process that publishes while its broker is away, until it is killed; ``test_journal`` starts it.

``python killed_publisher.py JOURNAL ARRIVED publish|drain``: prints key and number of each event whose
``publish`` has returned. With ``drain`` the broker is back: what arrives there is written to the file ARRIVED.
"""

import asyncio
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaConnectionError

from common_core import EventEnvelope
from huleedu_service_libs.kafka import FallbackMessageHandler, ResilientKafkaPublisher
from huleedu_service_libs.kafka.journal import FileJournal
from huleedu_service_libs.logging_utils import configure_service_logging
from huleedu_service_libs.resilience import CircuitBreaker

KEYS = 3


class Bus:
    """A broker that is away, or one that writes to a file."""

    client_id = "killed"
    bootstrap_servers = "nowhere:1"

    def __init__(self, arrived: Path | None) -> None:
        self._arrived = None if arrived is None else arrived.open("a", encoding="utf-8", buffering=1)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def publish(
        self, topic: str, envelope: EventEnvelope[Any], key: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        if self._arrived is None:
            raise KafkaConnectionError("gone")
        await asyncio.sleep(0.001)
        self._arrived.write(f"{key} {envelope.data['n']}\n")


async def main(journal: str, arrived: str, what: str) -> None:
    """Publish events without end, or drain."""
    drain = what == "drain"
    breaker = CircuitBreaker(1, timedelta(hours=1))
    publisher = ResilientKafkaPublisher(
        Bus(Path(arrived) if drain else None),
        breaker,
        FallbackMessageHandler(max_queue_size=100_000),
        spill=FileJournal(Path(journal)),
    )
    await publisher.start()
    if drain:
        while publisher.get_fallback_queue_size():
            await asyncio.sleep(0.01)
        await publisher.stop()
        return
    configure_service_logging("killed", log_level="CRITICAL")
    breaker.isolate()

    async def write(key: int) -> None:
        for number in range(100_000):
            event: EventEnvelope[Any] = EventEnvelope(event_type="t.v1", source_service="s", data={"n": number})
            await publisher.publish("t", event, str(key))
            print("promised", key, number, flush=True)  # noqa: T201  # the promise

    await asyncio.gather(*(write(key) for key in range(KEYS)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
