"""Reads topics back, from the first record to the last."""

import asyncio

from aiokafka import AIOKafkaConsumer, ConsumerRecord


async def read_all(bootstrap_servers: str, topic: str, least: int = 0, limit_s: float = 60.0) -> list[ConsumerRecord]:
    """Every record that ``topic`` holds now, or once it holds ``least``, partition by partition, in order within each.

    Raises:
        TimeoutError: There are not so many within ``limit_s``.
    """
    consumer = AIOKafkaConsumer(  # without a group it is assigned every partition
        topic,
        bootstrap_servers=bootstrap_servers,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        records: list[ConsumerRecord] = []
        async with asyncio.timeout(limit_s):
            while len(records) < least or not await _is_at_the_end(consumer):
                for batch in (await consumer.getmany(timeout_ms=200, max_records=5000)).values():
                    records.extend(batch)
        return sorted(records, key=lambda record: (record.partition, record.offset))
    finally:
        await consumer.stop()


async def _is_at_the_end(consumer: AIOKafkaConsumer) -> bool:
    ends = await consumer.end_offsets(consumer.assignment())
    return all([await consumer.position(partition) >= end for partition, end in ends.items()])
