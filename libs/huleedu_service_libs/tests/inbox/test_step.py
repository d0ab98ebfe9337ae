"""The inbox in front of a consumer's handlers, singly and with transactions that deliveries share."""

import asyncio
import contextvars
from collections import Counter
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka import AIOKafkaProducer
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs.inbox import Inbox, InboxBusyError, InboxConfig, InboxStep
from huleedu_service_libs.kafka.consumer import ConsumerConfig, Delivery, EventConsumer
from huleedu_service_libs.store_policy import DeferredError
from huleedu_service_libs.testing.devstack.servers import KafkaServer
from huleedu_service_libs.testing.pytest_plugin import TopicFactory
from libs.huleedu_service_libs.tests.inbox.events import add_effect, effects, event

from ..waiting import until

pytestmark = pytest.mark.integration

Sessions = async_sessionmaker[AsyncSession]
WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


def _step(sessions: Sessions, together: int) -> InboxStep:
    return InboxStep(Inbox(sessions, InboxConfig(consumer="svc.step")), together=together)


async def _deliver(step: InboxStep, msg: Any, handle: Any = add_effect) -> None:
    async def proceed(*, session: AsyncSession) -> None:
        await handle(msg, session)

    await step.process(SimpleNamespace(record=msg), proceed)


@pytest.mark.parametrize("together", [1, 50])
async def test_each_event_has_one_effect(sessions: Sessions, engine: AsyncEngine, together: int) -> None:
    """Three hundred events, each delivered twice in parallel."""
    step = _step(sessions, together)
    names = [f"e{n}" for n in range(300)]
    for start in range(0, 300, 100):
        batch = names[start : start + 100]
        await asyncio.gather(*(_deliver(step, event(name, key=name)) for name in (*batch, *batch)))
    assert await effects(engine) == Counter(names)


async def test_deliveries_share_transactions(sessions: Sessions, engine: AsyncEngine) -> None:
    """A hundred deliveries at the same time are two transactions of fifty; a lone one does not wait for company."""
    step = _step(sessions, 50)
    await asyncio.gather(*(_deliver(step, event(f"e{n}", key=str(n))) for n in range(100)))
    await asyncio.wait_for(_deliver(step, event("alone")), 10)
    async with engine.connect() as connection:
        query = "SELECT count(*) FROM event_inbox GROUP BY processed_at ORDER BY 1"
        assert list((await connection.execute(text(query))).scalars()) == [1, 50, 50]


async def test_a_failure_is_one_deliverys_own(sessions: Sessions, engine: AsyncEngine) -> None:
    """Who shared a transaction with a handler that raises is done all the same."""
    step = _step(sessions, 50)

    async def handle(msg: Any, session: AsyncSession) -> None:
        await add_effect(msg, session)
        if msg.name == "e7":
            raise RuntimeError("own")

    results = await asyncio.gather(
        *(_deliver(step, event(f"e{n}", key=str(n)), handle) for n in range(20)), return_exceptions=True
    )
    assert [(n, str(result)) for n, result in enumerate(results) if result is not None] == [(7, "own")]
    assert await effects(engine) == Counter(f"e{n}" for n in range(20) if n != 7)


async def test_a_cancelled_delivery_holds_up_nobody(sessions: Sessions, engine: AsyncEngine) -> None:
    """A delivery that is cancelled in its handler has no effect; the others of its transaction have theirs."""
    step, hanging = _step(sessions, 50), asyncio.Event()

    async def handle(msg: Any, session: AsyncSession) -> None:
        await add_effect(msg, session)
        if msg.name == "e1":
            hanging.set()
            await asyncio.Event().wait()

    tasks = [asyncio.ensure_future(_deliver(step, event(f"e{n}", key=str(n)), handle)) for n in range(3)]
    await hanging.wait()
    tasks[1].cancel()
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
    assert [type(result) for result in results] == [type(None), asyncio.CancelledError, type(None)]
    assert await effects(engine) == {"e0": 1, "e2": 1}
    await _deliver(step, event("e1"))
    assert await effects(engine) == {"e0": 1, "e1": 1, "e2": 1}


async def test_all_cancelled_leaves_nothing_running(sessions: Sessions, engine: AsyncEngine) -> None:
    """At a shutdown in the middle of a transaction nothing is committed and no task stays."""
    step, hanging = _step(sessions, 50), asyncio.Event()

    async def handle(msg: Any, session: AsyncSession) -> None:
        await add_effect(msg, session)
        hanging.set()
        await asyncio.Event().wait()

    tasks = [asyncio.ensure_future(_deliver(step, event(f"e{n}", key=str(n)), handle)) for n in range(5)]
    await hanging.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for _ in range(200):
        if asyncio.all_tasks() == {asyncio.current_task()}:
            break
        await asyncio.sleep(0.02)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert await effects(engine) == {}


async def test_handlers_run_in_the_context_of_their_delivery(sessions: Sessions) -> None:
    """Trace and log fields of a delivery are current in its handler although the transaction is shared."""
    step = _step(sessions, 50)
    seen: dict[str, str] = {}

    async def handle(msg: Any, _session: AsyncSession) -> None:
        seen[msg.name] = WHO.get()

    async def deliver(name: str) -> None:
        WHO.set(name)
        await _deliver(step, event(name, key=name), handle)

    await asyncio.gather(*(deliver(f"e{n}") for n in range(10)))
    assert seen == {f"e{n}": f"e{n}" for n in range(10)}


async def test_a_busy_event_is_deferred(sessions: Sessions) -> None:
    """An event that another worker's transaction holds counts no attempt at the consumer."""
    inbox = Inbox(sessions, InboxConfig(consumer="svc.step", claim_timeout_s=0.2))
    async with sessions() as other:
        await inbox.claim(other, event("a"))
        with pytest.raises(InboxBusyError) as caught:
            await _deliver(InboxStep(inbox), event("a"))
        await other.rollback()
    assert isinstance(caught.value, DeferredError)


@pytest.mark.parametrize("wrong", ["together", "parallel"])
def test_numbers_are_checked(sessions: Sessions, wrong: str) -> None:
    """A number below one is refused by name."""
    with pytest.raises(ValueError, match=f"{wrong} must be at least 1, got 0"):
        InboxStep(Inbox(sessions, InboxConfig(consumer="c")), **{wrong: 0})


class Checked(BaseModel):
    """Data of an event."""

    number: int


@pytest.mark.parametrize("together", [1, 20])
async def test_with_the_consumer_on_real_kafka(
    sessions: Sessions, engine: AsyncEngine, real_kafka: KafkaServer, kafka_topic: TopicFactory, together: int
) -> None:
    """Events sent twice, some of whose handlers fail at first, have one effect each; keys keep their order."""
    topic = kafka_topic("inbox", partitions=2)
    config = ConsumerConfig(group_id=topic, topics=(topic,), concurrency=40)
    consumer = EventConsumer(config, bootstrap_servers=real_kafka.address, steps=(_step(sessions, together),))
    failed: set[UUID] = set()
    handled: Counter[int] = Counter()

    @consumer.on("inbox.test.v1", model=Checked)
    async def handle(delivery: Delivery[Checked], session: AsyncSession) -> None:
        handled[delivery.data.number] += 1
        await session.execute(text("INSERT INTO effects VALUES (:n)"), {"n": str(delivery.data.number)})
        event_id = delivery.envelope.event_id
        if delivery.data.number % 25 == 0 and event_id not in failed:
            failed.add(event_id)
            raise RuntimeError("first time")

    producer = AIOKafkaProducer(bootstrap_servers=real_kafka.address)
    await producer.start()
    for number in range(100):
        envelope = EventEnvelope[Checked](
            event_type="inbox.test.v1", source_service="t", correlation_id=uuid4(), data=Checked(number=number)
        )
        for _ in range(2):
            await producer.send(topic, envelope.model_dump_json().encode(), key=b"%d" % (number % 10))
    await producer.flush()
    await producer.stop()
    async with consumer:
        await until(lambda: sum(handled.values()) >= 100)
        await until(lambda: not any(consumer.status().lag.values()))
    assert await effects(engine) == Counter(str(n) for n in range(100))
    async with engine.connect() as connection:
        order = list((await connection.execute(text("SELECT event::int FROM effects ORDER BY ctid"))).scalars())
    for key in range(10):
        mine = [number for number in order if number % 10 == key]
        assert mine == sorted(mine)
