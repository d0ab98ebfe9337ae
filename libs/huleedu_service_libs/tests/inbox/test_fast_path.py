"""Redis in front of the inbox: it saves queries, and is never needed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from huleedu_service_libs._redis_cluster.keys import shared_slot
from huleedu_service_libs.inbox import Inbox, InboxConfig, PayloadMismatchError
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.testing.chaos.proxy import FaultProxy
from huleedu_service_libs.testing.devstack import RedisNodesServer
from libs.huleedu_service_libs.tests.idempotency.fakes import FakeTime
from libs.huleedu_service_libs.tests.inbox.events import add_effect, effects, event

from ..databases import statements_of

pytestmark = pytest.mark.integration

Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture(name="client")
async def _client(redis_url: str) -> AsyncIterator[RedisClient]:
    async with RedisClient(client_id="inbox", redis_url=redis_url) as client:
        yield client


def _errors() -> float:
    return REGISTRY.get_sample_value("inbox_fast_path_errors_total", {"consumer": "svc.handler"}) or 0.0


def _config(prefix: str, **more: Any) -> InboxConfig:
    return InboxConfig(consumer="svc.handler", key_prefix=f"{prefix}inbox", **more)


async def test_a_known_event_asks_no_database(
    sessions: Sessions, engine: AsyncEngine, client: RedisClient, redis_prefix: str
) -> None:
    """What Redis knows as processed costs no statement, singly and in a batch, in which the rest is claimed at once."""
    inbox = Inbox(sessions, _config(redis_prefix), redis=client)
    await inbox.process_many([event("a"), event("b")], add_effect)
    with statements_of(engine) as seen:
        assert await inbox.process(event("a"), lambda session: add_effect(event("a"), session)) is None
        outcomes = await inbox.process_many([event("a"), event("b")], add_effect)
        assert [outcome.status for outcome in outcomes] == ["duplicate", "duplicate"]
        assert seen == []
        await inbox.process_many([event("a"), event("c"), event("d")], add_effect)
    assert len([statement for statement in seen if "event_inbox" in statement]) == 1
    (key, *_) = await client.scan_pattern(f"{redis_prefix}*")
    assert 86_000 < await client.ttl(key) <= 86_400


async def test_on_a_cluster_the_keys_of_a_batch_may_lie_anywhere(
    sessions: Sessions, engine: AsyncEngine, redis_cluster: RedisNodesServer, redis_prefix: str
) -> None:
    """Events whose keys are on three nodes are remembered and known again without a statement, and without an error."""
    events = [event(f"e{number}") for number in range(30)]
    before = _errors()
    async with RedisClient(client_id="inbox", redis_url=redis_cluster.address) as cluster:
        inbox = Inbox(sessions, _config(redis_prefix), redis=cluster)
        await inbox.process_many(events, add_effect)
        slots = {shared_slot([key]) for key in await cluster.scan_pattern(f"{redis_prefix}*")}
        with statements_of(engine) as seen:
            outcomes = await inbox.process_many(events, add_effect)
            assert await inbox.process(events[0], lambda session: add_effect(events[0], session)) is None
    assert (len(slots), seen, _errors()) == (30, [], before)
    assert {outcome.status for outcome in outcomes} == {"duplicate"}
    assert await effects(engine) == {f"e{number}": 1 for number in range(30)}


async def test_nothing_is_known_before_the_commit(sessions: Sessions, client: RedisClient, redis_prefix: str) -> None:
    """A handler that fails leaves nothing in Redis."""
    inbox = Inbox(sessions, _config(redis_prefix), redis=client)

    async def failing(_session: AsyncSession) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        await inbox.process(event("a"), failing)
    assert await client.scan_pattern(f"{redis_prefix}*") == []


async def test_another_payload_is_seen_through_redis(
    sessions: Sessions, client: RedisClient, redis_prefix: str
) -> None:
    """Redis knows the payload's hash, too: an id used twice is refused as without Redis."""
    inbox = Inbox(sessions, _config(redis_prefix, check_payload=True), redis=client)
    for _ in range(2):
        await inbox.process(event("a"), lambda session: add_effect(event("a"), session))
    with pytest.raises(PayloadMismatchError):
        await inbox.process(event("a", data={"other": 1}), lambda session: add_effect(event("a"), session))


async def test_a_redis_that_hangs_is_left_alone_for_a_while(
    sessions: Sessions, engine: AsyncEngine, redis_url: str, redis_prefix: str
) -> None:
    """One delivery waits for the limit, those after it do not; when the rest is over Redis is asked again."""
    time = FakeTime()
    async with (
        FaultProxy(redis_url) as proxy,
        RedisClient(client_id="inbox", redis_url=proxy.url) as client,
    ):
        config = _config(redis_prefix, fast_path_timeout_s=0.3, fast_path_rest_s=100)
        inbox = Inbox(sessions, config, redis=client, clock=time.clock)
        await inbox.process_many([event("a")], add_effect)
        proxy.silence()
        before = _errors()
        outcomes = [(await inbox.process_many([event(name)], add_effect))[0].status for name in "aabb"]
        assert outcomes == ["duplicate", "duplicate", "processed", "duplicate"]
        assert _errors() == before + 1
        proxy.heal()
        proxy.cut()
        time.seconds += 101
        await inbox.process_many([event("c")], add_effect)
        await asyncio.sleep(0)
        assert (await inbox.process_many([event("c")], add_effect))[0].status == "duplicate"
    assert await effects(engine) == {"a": 1, "b": 1, "c": 1}
