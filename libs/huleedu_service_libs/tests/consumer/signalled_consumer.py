"""A process that only consumes, until a signal; ``test_signals`` starts it.

``python signalled_consumer.py SERVERS TOPIC GROUP``: prints the number of each event that was handled.
"""

import asyncio
import sys

from pydantic import BaseModel

from huleedu_service_libs.kafka.consumer import ConsumerConfig, Delivery, EventConsumer, run_until_signal
from huleedu_service_libs.logging_utils import configure_service_logging


class Numbered(BaseModel):
    """The event of these tests."""

    number: int


async def main(servers: str, topic: str, group: str) -> None:
    """Consume until told to end."""
    configure_service_logging("signalled", log_level="CRITICAL")
    # No commit by the clock: what is committed at the end is what stopping has committed.
    config = ConsumerConfig(group_id=group, topics=(topic,), commit_interval_s=600.0, concurrency=4)
    consumer = EventConsumer(config, bootstrap_servers=servers)

    @consumer.on("huleedu.test.numbered.v1", model=Numbered)
    async def handle(delivery: Delivery[Numbered]) -> None:
        print("begun", delivery.data.number, flush=True)  # noqa: T201  # read by the test
        await asyncio.sleep(0.2)
        print("handled", delivery.data.number, flush=True)  # noqa: T201  # the same

    await run_until_signal(consumer)
    print("stopped", flush=True)  # noqa: T201  # the same


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
