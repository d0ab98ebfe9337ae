"""The consumers of a run: handlers with effects in PostgreSQL, and such as are wrong on purpose. See `roles`."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from chaos import points as at
from chaos.roles import EVENT_TYPE, SERVICE, begin, engine_of
from huleedu_service_libs.idempotency_v2 import IdempotencyConfig, IdempotentStep
from huleedu_service_libs.idempotency_v2.claim import Claim
from huleedu_service_libs.idempotency_v2.claiming import Claimer
from huleedu_service_libs.idempotency_v2.many import ManyConsumer
from huleedu_service_libs.inbox.claims import Claims
from huleedu_service_libs.inbox.config import InboxConfig
from huleedu_service_libs.inbox.fast_path import FastPath
from huleedu_service_libs.inbox.processing import Inbox
from huleedu_service_libs.inbox.step import InboxStep
from huleedu_service_libs.kafka.consumer.config import ConsumerConfig, RetryPolicy
from huleedu_service_libs.kafka.consumer.driver import Listener
from huleedu_service_libs.kafka.consumer.ports import Delivery, Proceed
from huleedu_service_libs.kafka.consumer.runner import EventConsumer
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.testing.chaos.child import crash_points, ready
from huleedu_service_libs.testing.chaos.points import CrashPoints

__all__ = ["CONCURRENCY", "consume"]

COMMIT_INTERVAL_S = 0.2
CONCURRENCY = 8  # as many as the pool has connections
CLAIM_S = 3  # so long a dead process' claims in Redis hold up their events
_EFFECT = text("INSERT INTO effects (consumer, key, number, process) VALUES (:consumer, :key, :number, :process)")


class OrderPlaced(BaseModel):
    """Data of the event."""

    key: str
    number: int


class _NoStep:
    """What somebody writes who trusts the broker: a transaction for each delivery, and no memory of any."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], points: CrashPoints) -> None:
        self._sessions = sessions
        self._points = points

    async def process(self, _: Delivery[Any], proceed: Proceed) -> None:
        async with self._sessions() as session, session.begin():
            await proceed(session=session)
        self._points.reached(at.COMMITTED_BEFORE_CONFIRM)  # its offset cannot be committed yet


async def consume(
    postgres: str, kafka: str, redis: str, topic: str, memory: str, static_id: str | None = None, sabotage: str = ""
) -> None:
    """Run a consumer until SIGTERM."""
    asked, points = begin("consumer"), crash_points()
    _arm(points)
    engine = engine_of(postgres, "consumer")
    if sabotage == "commits before it handles":
        await _consume_carelessly(engine, kafka, topic, asked, points)
        return
    client = RedisClient(client_id=f"consumer-{os.getpid()}", redis_url=redis)
    await client.start()
    sessions = async_sessionmaker(engine)
    consumer = EventConsumer(
        ConsumerConfig(
            group_id=f"{topic}-effects",
            topics=(topic,),
            commit_interval_s=COMMIT_INTERVAL_S,
            session_timeout_s=at.SESSION_TIMEOUT_S,
            drain_timeout_s=2.0,
            concurrency=CONCURRENCY,
            retry=RetryPolicy(attempts=1000, longest_delay_s=1.0),
            static_id=static_id,
        ),
        bootstrap_servers=kafka,
    )
    if memory == "redis":
        _remember_in_redis(consumer, client, sessions, points, early=sabotage == "confirms before it commits")
    else:
        _remember_in_inbox(consumer, client, sessions, points, forgetful=sabotage == "remembers nothing")
    await consumer.start()
    points.rest()
    ready()
    await asked.wait()
    await consumer.stop()
    await client.stop()
    await engine.dispose()


def _remember_in_inbox(
    consumer: EventConsumer,
    client: RedisClient,
    sessions: async_sessionmaker[AsyncSession],
    points: CrashPoints,
    *,
    forgetful: bool,
) -> None:
    inbox = Inbox(sessions, InboxConfig(consumer="chaos.effects", fast_path_rest_s=1.0), redis=client)
    step = _NoStep(sessions, points) if forgetful else InboxStep(inbox)

    @consumer.on(EVENT_TYPE, model=OrderPlaced, steps=[step])
    async def handle(delivery: Delivery[OrderPlaced], session: AsyncSession) -> None:
        await _take_effect(session, delivery.data)
        points.reached(at.HANDLED_BEFORE_COMMIT)


def _remember_in_redis(
    consumer: EventConsumer,
    client: RedisClient,
    sessions: async_sessionmaker[AsyncSession],
    points: CrashPoints,
    *,
    early: bool,
) -> None:
    config = IdempotencyConfig(SERVICE, in_progress="wait", store_down="pause", processing_ttl=CLAIM_S)

    @consumer.on(EVENT_TYPE, model=OrderPlaced, steps=[IdempotentStep(client, config)])
    async def handle(delivery: Delivery[OrderPlaced], confirm_idempotency: Callable[[], Awaitable[None]]) -> None:
        if early:
            await confirm_idempotency()
        async with sessions() as session, session.begin():
            await _take_effect(session, delivery.data)
            points.reached(at.HANDLED_BEFORE_COMMIT)
        points.reached(at.COMMITTED_BEFORE_CONFIRM)


async def _take_effect(session: AsyncSession, order: OrderPlaced) -> None:
    await session.execute(_EFFECT, _parameters_of(order))


def _parameters_of(order: OrderPlaced) -> dict[str, Any]:
    return {"consumer": SERVICE, "key": order.key, "number": order.number, "process": os.getpid()}


def _arm(points: CrashPoints) -> None:
    points.around(Claimer, "claim", after=at.EVENT_CLAIMED)
    points.around(Claim, "confirm", after=at.CONFIRMED_BEFORE_OFFSET)
    points.around(ManyConsumer, "conclude", after=at.CONFIRMED_BEFORE_OFFSET)
    points.around(Claims, "take", after=at.EVENT_CLAIMED)
    points.around(FastPath, "remember", before=at.COMMITTED_BEFORE_CONFIRM, after=at.CONFIRMED_BEFORE_OFFSET)
    points.around(AIOKafkaConsumer, "commit", during=at.MID_OFFSET)
    points.around(Listener, "on_partitions_revoked", during=at.REBALANCE)
    points.around(EventConsumer, "stop", during=at.CONSUMER_DRAIN)


async def _consume_carelessly(
    engine: AsyncEngine, kafka: str, topic: str, asked: asyncio.Event, points: CrashPoints
) -> None:
    """The loop of many tutorials: the offset is committed before the event is handled."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=kafka,
        group_id=f"{topic}-effects",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=int(at.SESSION_TIMEOUT_S * 1000),
        heartbeat_interval_ms=600,
    )
    await consumer.start()
    ready()
    while not asked.is_set():
        batches = await consumer.getmany(timeout_ms=200, max_records=20)
        if not batches:
            continue
        await consumer.commit()
        for record in (one for batch in batches.values() for one in batch):
            async with AsyncSession(engine) as session, session.begin():
                await _take_effect(session, OrderPlaced.model_validate(json.loads(record.value)["data"]))
                points.reached(at.HANDLED_BEFORE_COMMIT)
    await consumer.stop()
    await engine.dispose()
