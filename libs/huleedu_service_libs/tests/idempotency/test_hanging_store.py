"""A Redis that does not answer: nobody waits beyond the limit, and what could not be recorded is counted."""

import asyncio
from typing import Any
from unittest.mock import AsyncMock

import pytest
import structlog
import structlog.testing

from huleedu_service_libs.idempotency_v2 import (
    EventInProgressError,
    IdempotencyConfig,
    idempotent_consumer,
)
from libs.huleedu_service_libs.tests.idempotency.fakes import FakeRedis, FakeTime, ScriptedRedis

from .benches import EVENT, KEY, Bench, claimed_by_other, never_ends, value_of

# --- a Redis that hangs


class Hanging(FakeRedis):
    """Never answers the calls named in ``failing``."""

    async def _enter(self, *call: Any) -> None:
        self.calls.append(call)
        if call[0] in self.failing:
            await asyncio.Event().wait()


class HangingScripted(Hanging, ScriptedRedis):
    """The same, with scripts."""


def _impatient(redis: FakeRedis, handler: Any) -> Any:
    decorate = idempotent_consumer(
        redis.port(), IdempotencyConfig("svc"), redis_timeout_seconds=0.02, now=redis.time.now, sleep=never_ends
    )
    return decorate(handler)


async def _confirming(_msg: Any, *, confirm_idempotency: Any) -> str:
    await confirm_idempotency()
    return "done"


@pytest.mark.parametrize(
    ("kind", "call", "reason"),
    [
        (Hanging, "get", "redis_get"),
        (Hanging, "set_if_not_exists", "redis_set"),
        (HangingScripted, "register_script", "redis_claim"),
        (HangingScripted, "claim", "redis_claim"),
    ],
)
async def test_a_redis_that_hangs_before_the_handler_fails_open(
    time: FakeTime, kind: type[FakeRedis], call: str, reason: str
) -> None:
    """No answer within the limit is no answer: the handler runs unprotected, counted and logged."""
    redis = kind(time)
    redis.failing = {call}
    before = value_of("idempotency_fail_open_total", reason=reason)
    with structlog.testing.capture_logs() as logs:
        assert await asyncio.wait_for(_impatient(redis, _confirming)(EVENT), 15) == "done"
    assert value_of("idempotency_fail_open_total", reason=reason) == before + 1
    (failure,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert (failure["action"], failure["error_type"]) == ("fail_open", "TimeoutError")
    # With scripts the limit is for two attempts together.
    assert failure["error"] == f"no answer within {0.02 if kind is Hanging else 0.01} s"
    assert call in redis.names()[-3:]  # with scripts the confirmation is tried, in case that the claim exists


@pytest.mark.parametrize(("kind", "call"), [(Hanging, "setex"), (HangingScripted, "confirm")])
async def test_a_redis_that_hangs_at_the_confirmation_holds_nobody(
    time: FakeTime, kind: type[FakeRedis], call: str
) -> None:
    """The handler's result counts; that it was not recorded is counted and logged."""
    redis = kind(time)
    redis.failing = {call}
    before = value_of("idempotency_errors_total", kind="confirmation_failed")
    assert await asyncio.wait_for(_impatient(redis, _confirming)(EVENT), 15) == "done"
    assert value_of("idempotency_errors_total", kind="confirmation_failed") == before + 1


@pytest.mark.parametrize(("kind", "call"), [(Hanging, "delete_key"), (HangingScripted, "release")])
async def test_a_redis_that_hangs_at_the_release_holds_nobody(time: FakeTime, kind: type[FakeRedis], call: str) -> None:
    """The handler's error comes out, and the failed release is counted."""
    redis = kind(time)
    redis.failing = {call}

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        raise RuntimeError("own")

    before = value_of("idempotency_errors_total", kind="release_failed")
    with pytest.raises(RuntimeError, match="own"):
        await asyncio.wait_for(_impatient(redis, handler)(EVENT), 15)
    assert value_of("idempotency_errors_total", kind="release_failed") == before + 1


async def test_an_error_of_the_client_inside_the_limit_stays_what_it_is(plain: FakeRedis) -> None:
    """A client's own time-out is reported with its own words."""
    plain.get = AsyncMock(side_effect=TimeoutError("socket"))  # type: ignore[method-assign]
    with structlog.testing.capture_logs() as logs:
        assert await _impatient(plain, _confirming)(EVENT) == "done"
    assert [entry["error"] for entry in logs if entry["log_level"] == "error"] == ["socket"]


async def test_an_owner_that_cannot_be_read_is_counted(plain: FakeRedis) -> None:
    """The refusal comes without the owner's name when Redis fails in between, and the failure is not lost."""
    plain.get = AsyncMock(side_effect=[None, ConnectionError("gone")])  # type: ignore[method-assign]
    plain.put(KEY, claimed_by_other(plain.time))
    before = value_of("idempotency_errors_total", kind="owner_unknown")
    with structlog.testing.capture_logs() as logs, pytest.raises(EventInProgressError) as caught:
        await Bench(plain, in_progress="raise").deliver(EVENT)
    assert caught.value.owner is None
    assert value_of("idempotency_errors_total", kind="owner_unknown") == before + 1
    assert [entry["error"] for entry in logs if entry["log_level"] == "warning"] == ["gone"]
