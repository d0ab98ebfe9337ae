"""A network that swallows Redis' replies: no event is dropped, and none is done twice.

Redis is a real one behind a proxy that loses the reply to a command which the
server has carried out, at every command that idempotency uses.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from huleedu_service_libs.idempotency_v2 import (
    IdempotencyConfig,
    InProgressPolicy,
    StoreDownError,
    idempotent_consumer,
)
from huleedu_service_libs.redis_client import RedisClient, RedisClientConfig
from huleedu_service_libs.testing.chaos.proxy import FaultProxy
from libs.huleedu_service_libs.tests.idempotency_test_utils import create_test_message

pytestmark = pytest.mark.integration


@pytest.fixture(name="client")
async def _client(proxy: FaultProxy) -> AsyncIterator[RedisClient]:
    config = RedisClientConfig(socket_timeout_s=0.5)
    async with RedisClient(client_id="lossy", redis_url=proxy.url, config=config) as client:
        yield client


class Handler:
    """Counts its effects; fails the first time it sees an event whose name says so."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.effects: Counter[str] = Counter()

    async def __call__(self, _msg: Any, *, event: str, confirm_idempotency: Any) -> bool:
        """Process."""
        self.runs[event] += 1
        if event.startswith("fails") and self.runs[event] == 1:
            raise RuntimeError(event)
        self.effects[event] += 1
        await confirm_idempotency()
        return True


def _deliver(client: RedisClient, prefix: str, handler: Handler, policy: InProgressPolicy) -> Any:
    config = IdempotencyConfig("svc", key_prefix=f"{prefix}v2", in_progress=policy, wait_timeout_seconds=5)
    return idempotent_consumer(client, config)(handler)


async def _twice(deliver: Any, event: str) -> None:
    """Deliver as Kafka does: again after a failure, and once more for good measure."""
    message = create_test_message(event)
    for _ in range(3):
        await asyncio.gather(deliver(message, event=event), return_exceptions=True)


@pytest.mark.parametrize("hang", [False, True])
@pytest.mark.parametrize("skip", [0, 1, 2, 3])
@pytest.mark.parametrize("policy", ["skip", "wait"])
async def test_a_lost_reply_neither_drops_nor_doubles(
    client: RedisClient, proxy: FaultProxy, redis_prefix: str, *, policy: InProgressPolicy, skip: int, hang: bool
) -> None:
    """Whichever reply is lost, to a claim, a confirmation or a release, each event has exactly one effect."""
    handler = Handler()
    deliver = _deliver(client, redis_prefix, handler, policy)
    await deliver(create_test_message("warm-up"), event="warm-up")  # the scripts are loaded
    proxy.lose_replies(to=b"EVALSHA", skip=skip, hang=hang)
    for event in ("a", "fails-b"):
        await _twice(deliver, event)
    assert proxy.lost_replies == 1
    assert handler.effects == {"warm-up": 1, "a": 1, "fails-b": 1}
    assert handler.runs == {"warm-up": 1, "a": 1, "fails-b": 2}


async def test_many_lost_replies_under_load(client: RedisClient, proxy: FaultProxy, redis_prefix: str) -> None:
    """Lost replies all over five hundred events that arrive in parallel and three times each: one effect each."""
    handler = Handler()
    deliver = _deliver(client, redis_prefix, handler, "wait")
    events = [f"{'fails' if n % 5 == 0 else 'event'}-{n}" for n in range(500)]
    for start in range(0, 500, 10):
        proxy.lose_replies(to=b"EVALSHA", skip=start // 10 % 4)
        await asyncio.gather(*(_twice(deliver, event) for event in events[start : start + 10]))
    assert proxy.lost_replies >= 40
    assert set(handler.effects) == set(events)
    assert set(handler.effects.values()) == {1}


async def test_a_handler_that_pauses_survives_a_series_of_losses(
    client: RedisClient, proxy: FaultProxy, redis_prefix: str
) -> None:
    """Thirty replies in a row lost is an outage: events of a handler that declares `pause` come again, and none doubles."""
    handler = Handler()
    config = IdempotencyConfig("svc", key_prefix=f"{redis_prefix}v2", in_progress="raise", store_down="pause")
    deliver = idempotent_consumer(client, config)(handler)
    proxy.lose_replies(to=b"EVALSHA", times=30)
    events = [f"event-{n}" for n in range(50)]
    refused = 0
    for event in events:
        (result,) = await asyncio.gather(deliver(create_test_message(event), event=event), return_exceptions=True)
        refused += isinstance(result, StoreDownError)
    assert refused > 0
    assert proxy.lost_replies == 30
    for event in events:  # as after the pause, save for claims whose every answer was lost: those wait out their time
        await asyncio.gather(deliver(create_test_message(event), event=event), return_exceptions=True)
    assert set(handler.effects.values()) == {1}
    assert len(handler.effects) >= 45


@pytest.mark.parametrize("failures", [1, 4])
async def test_a_claim_that_could_not_be_given_back_stands_in_nobodys_way(
    failures: int, client: RedisClient, proxy: FaultProxy, redis_prefix: str
) -> None:
    """An event that failed while Redis was away is taken when it is back, not when the old claim has aged.

    Further deliveries that fail meanwhile, unprotected, do not make one forget the claim of before the outage.
    """
    config = IdempotencyConfig("svc", key_prefix=f"{redis_prefix}v2", in_progress="wait", wait_timeout_seconds=30)
    runs = 0

    @idempotent_consumer(client, config)
    async def handle(_msg: Any, *, confirm_idempotency: Any) -> bool:
        nonlocal runs
        runs += 1
        if runs == 1:
            proxy.refuse()
            proxy.cut()
        if runs <= failures:
            raise RuntimeError("Redis is away, and so is what the handler needs")
        await confirm_idempotency()
        return True

    message = create_test_message("left")
    for _ in range(failures):
        with pytest.raises(RuntimeError):
            await handle(message)
    proxy.heal()
    async with asyncio.timeout(20):
        assert await handle(message) is True
    assert runs == failures + 1
