"""Reads the facts for the oracle: topics from Kafka, rows from PostgreSQL."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.testing.chaos.oracle import Arrival, Effect, Written

__all__ = ["SENDER_HEADER", "read_arrivals", "read_effects", "read_written"]

SENDER_HEADER = "chaos_sender"
"""A header by which a test's processes may sign what they send; see `Arrival.sender`."""

_QUIET_MS = 1000
_AT_ONCE = 5000


def _number_in_data(record: Any) -> int:
    return int(json.loads(record.value)["data"]["number"])


async def read_arrivals(
    bootstrap_servers: str, topic: str, *, number_of: Callable[[Any], int] = _number_in_data
) -> list[Arrival]:
    """Every record that a topic holds now.

    Args:
        bootstrap_servers: The cluster.
        topic: The topic. With ``message.timestamp.type=LogAppendTime`` times are the broker's, else the producer's.
        number_of: The number of a record within its key; by default ``data.number`` of an envelope.
    """
    with requires_extra("kafka", module=__name__):
        from aiokafka import AIOKafkaConsumer  # noqa: PLC0415  # optional

    consumer = AIOKafkaConsumer(  # without a group it is assigned every partition
        topic, bootstrap_servers=bootstrap_servers, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    arrivals: list[Arrival] = []
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        while any([await consumer.position(one) < end for one, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=_QUIET_MS, max_records=_AT_ONCE)).values():
                arrivals += (
                    Arrival(
                        key=record.key.decode(),
                        number=number_of(record),
                        partition=record.partition,
                        offset=record.offset,
                        at=record.timestamp / 1000,
                        sender=dict(record.headers).get(SENDER_HEADER, b"").decode(),
                    )
                    for record in records
                )
    finally:
        await consumer.stop()
    return arrivals


async def read_written(postgres: str, query: str) -> list[Written]:
    """The committed events.

    Args:
        postgres: Address of the database.
        query: Gives ``key``, ``number`` and ``at`` (seconds since the epoch) of each.
    """
    return [Written(key=row["key"], number=row["number"], at=float(row["at"])) for row in await _rows(postgres, query)]


async def read_effects(postgres: str, query: str) -> list[Effect]:
    """The committed effects of handlers.

    Args:
        postgres: Address of the database.
        query: Gives ``key``, ``number``, ``place`` and ``at`` (seconds since the epoch) of each, and ``process`` if known.
    """
    return [
        Effect(
            key=row["key"],
            number=row["number"],
            place=row["place"],
            at=float(row["at"]),
            process=str(row.get("process", "")),
        )
        for row in await _rows(postgres, query)
    ]


async def _rows(postgres: str, query: str) -> Sequence[Any]:
    with requires_extra("outbox", module=__name__):
        import asyncpg  # noqa: PLC0415  # optional

    connection = await asyncpg.connect(postgres.replace("+asyncpg", "", 1))
    try:
        rows: Sequence[Any] = await connection.fetch(query)
    finally:
        await connection.close()
    return rows
