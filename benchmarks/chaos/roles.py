"""What the processes of a run do: they write, relay and consume as a service does, and die where they are told.

Each function is the target of a nursery. The crash points stand around the library's ports, so that nothing of
the library is changed; what a service writes itself (its transaction, its handler) has them between its lines.
"""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any

from aiokafka.conn import AIOKafkaConnection
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from chaos import points as at
from common_core import EventEnvelope
from huleedu_service_libs import _clock
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.logging_utils import configure_service_logging
from huleedu_service_libs.outbox.lanes import PostgreSQLBatchStore
from huleedu_service_libs.outbox.manager import OutboxManager
from huleedu_service_libs.outbox.relay import EventRelayWorker, OutboxSettings
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository
from huleedu_service_libs.protocols import DeliveryOutcome, OutgoingMessage
from huleedu_service_libs.testing.chaos.child import crash_points, ready
from huleedu_service_libs.testing.chaos.points import CrashPoints
from huleedu_service_libs.testing.chaos.readback import SENDER_HEADER

__all__ = ["EVENT_TYPE", "SERVICE", "begin", "engine_of", "produce", "relay"]

SERVICE = "chaos"
EVENT_TYPE = "huleedu.chaos.order.placed.v1"
CONNECTIONS = 8  # of a process; several phases share the server's two hundred
ROLLBACKS = 0.05  # share of transactions that change their mind
_PAUSE_AFTER_ERROR_S = 0.1


def begin(role: str) -> asyncio.Event:
    """Set up logs; the event that SIGTERM sets."""
    configure_service_logging(f"chaos-{role}", log_level=os.environ.get("CHAOS_LOG", "WARNING"))
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    return asked


def engine_of(address: str, role: str) -> AsyncEngine:
    """Its sessions bear the process's name, so that they can be found and ended."""
    return create_async_engine(
        address,
        pool_pre_ping=True,
        pool_size=CONNECTIONS,
        max_overflow=0,
        connect_args={"server_settings": {"application_name": f"{role}-{os.getpid()}"}, "timeout": 5},
    )


# --- the writer


async def produce(postgres: str, topic: str, keys: Sequence[str], pause: float) -> None:
    """Place orders: one business row and one outbox row for each, some in one transaction."""
    asked, points = begin("producer"), crash_points()
    engine = engine_of(postgres, "producer")
    manager = OutboxManager(PostgreSQLOutboxRepository(engine, SERVICE), None, SERVICE)
    ready()
    while not asked.is_set():
        try:
            await _place_orders(engine, manager, points, topic, random.choice(keys))  # noqa: S311  # no secret
        except Exception as error:  # noqa: BLE001  # whatever the database's fate does to a writer; it tries anew
            print(f"producer: {error!r}"[:300], flush=True)
            await _clock.sleep(_PAUSE_AFTER_ERROR_S)
        await _clock.sleep(pause)
    await engine.dispose()


async def _place_orders(engine: AsyncEngine, manager: OutboxManager, points: CrashPoints, topic: str, key: str) -> None:
    async with AsyncSession(engine) as session:
        last = await session.scalar(text("SELECT max(number) FROM orders WHERE key = :key"), {"key": key})
        for number in range((last or 0) + 1, (last or 0) + random.randint(2, 4)):  # noqa: S311
            await session.execute(
                text("INSERT INTO orders (key, number) VALUES (:key, :number)"), {"key": key, "number": number}
            )
            await manager.publish_to_outbox(
                aggregate_type="order",
                aggregate_id=key,
                event_type=EVENT_TYPE,
                event_data=EventEnvelope(
                    event_type=EVENT_TYPE, source_service=SERVICE, data={"key": key, "number": number}
                ),
                topic=topic,
                session=session,
            )
        points.reached(at.INSERT_BEFORE_COMMIT)
        await (session.rollback() if random.random() < ROLLBACKS else session.commit())  # noqa: S311


# --- the relay


async def relay(postgres: str, kafka: str, batch_size: int, sabotage: str = "") -> None:
    """Run a relay until SIGTERM."""
    asked, points = begin("relay"), crash_points()
    _sign()
    _arm_relay(points)
    if sabotage:
        _sabotage_relay(sabotage)
    engine = engine_of(postgres, "relay")
    bus = KafkaBus(client_id=f"relay-{os.getpid()}", bootstrap_servers=kafka)
    await bus.start()
    worker = EventRelayWorker(
        PostgreSQLOutboxRepository(engine, SERVICE),
        bus,
        OutboxSettings(batch_size=batch_size, poll_interval_seconds=0.2, error_retry_interval_seconds=1.0),
        SERVICE,
    )
    await worker.start()
    ready()
    await asked.wait()
    await worker.stop()
    await bus.stop()
    await engine.dispose()


def _sign() -> None:
    """Have every message say which process has sent it."""
    publish, signature = KafkaBus.publish_batch, (SENDER_HEADER, str(os.getpid()).encode())

    async def publish_signed(self: KafkaBus, messages: Sequence[OutgoingMessage]) -> Sequence[DeliveryOutcome]:
        return await publish(self, [replace(one, headers=[*one.headers, signature]) for one in messages])

    KafkaBus.publish_batch = publish_signed  # type: ignore[method-assign,assignment]


def _arm_relay(points: CrashPoints) -> None:
    points.around(KafkaBus, "publish_batch", before=at.CLAIMED, during=at.MID_SEND, after=at.ACKED_BEFORE_MARK)
    points.around(PostgreSQLBatchStore, "settle", during=at.MID_MARK, after=at.MARKED)
    points.around(EventRelayWorker, "stop", during=at.RELAY_DRAIN)
    if points.chosen(at.SENT_BEFORE_ACK):
        _arm_wire(points)


def _arm_wire(points: CrashPoints) -> None:
    """Strike when a produce request has been given to the operating system; its answer cannot be there yet."""
    send = AIOKafkaConnection.send

    def send_and_strike(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        answer = send(self, request, *args, **kwargs)
        if type(request).__name__.startswith("ProduceRequest"):
            points.reached(at.SENT_BEFORE_ACK)
        return answer

    AIOKafkaConnection.send = send_and_strike


def _sabotage_relay(kind: str) -> None:
    """Relays that are wrong on purpose: the oracle must find them out."""
    publish = KafkaBus.publish_batch
    if kind == "marks before it sends":

        async def say_sent(self: Any, messages: Any) -> Any:
            late.add(asyncio.ensure_future(_later(publish(self, messages))))
            return [DeliveryOutcome() for _ in messages]

        KafkaBus.publish_batch = say_sent  # type: ignore[method-assign]
    elif kind == "turns batches round":

        async def turned(self: Any, messages: Any) -> Any:
            return list(reversed(await publish(self, list(reversed(messages)))))

        KafkaBus.publish_batch = turned  # type: ignore[method-assign]
    else:
        raise ValueError(f"unknown sabotage {kind!r}")


late: set[Any] = set()


async def _later(call: Awaitable[Any]) -> None:
    await _clock.sleep(0.2)
    await call
