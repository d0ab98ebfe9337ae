"""Claims with an owner, by scripts: only the owner ends one, a lost answer is asked again, and long handlers keep theirs."""

import asyncio
import json
from typing import Any

import pytest
import structlog
import structlog.testing

from huleedu_service_libs.idempotency_v2 import (
    IdempotencyConfig,
    idempotent_consumer,
)
from libs.huleedu_service_libs.tests.idempotency.fakes import FakeTime, ScriptedRedis
from libs.huleedu_service_libs.tests.idempotency_test_utils import create_test_message

from .benches import EVENT, KEY, Bench, claimed_by_other, never_ends, value_of

# --- with scripts


async def test_only_the_owner_releases(time: FakeTime) -> None:
    """A handler that fails after its claim went to another leaves the other's claim alone."""
    redis = ScriptedRedis(time)
    runs = 0

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        nonlocal runs
        runs += 1
        redis.put(KEY, claimed_by_other(time))
        raise RuntimeError("late")

    deliver = idempotent_consumer(redis.port(), IdempotencyConfig("svc"), now=time.now, sleep=never_ends)(handler)
    with pytest.raises(RuntimeError, match="late"):
        await deliver(EVENT)
    assert json.loads(redis.values[KEY][0])["owner"] == "o"
    assert runs == 1


async def test_only_the_owner_confirms(time: FakeTime) -> None:
    """A handler that finishes after its claim went to another does not overwrite the other's."""
    redis = ScriptedRedis(time)

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        redis.put(KEY, claimed_by_other(time))
        await confirm_idempotency()

    before = value_of("idempotency_errors_total", kind="confirmation_failed")
    await idempotent_consumer(redis.port(), IdempotencyConfig("svc"), now=time.now, sleep=never_ends)(handler)(EVENT)
    assert json.loads(redis.values[KEY][0])["owner"] == "o"
    assert value_of("idempotency_errors_total", kind="confirmation_failed") == before + 1


async def test_confirms_what_has_expired(time: FakeTime) -> None:
    """A claim that ran out while nobody took it is confirmed all the same."""
    redis = ScriptedRedis(time)

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        redis.values.clear()
        await confirm_idempotency()

    await idempotent_consumer(redis.port(), IdempotencyConfig("svc"), now=time.now, sleep=never_ends)(handler)(EVENT)
    assert json.loads(redis.values[KEY][0])["status"] == "completed"


async def test_one_round_trip_claims(time: FakeTime) -> None:
    """An undisturbed event costs two commands, one to claim and one to confirm, once the scripts are loaded."""
    redis = ScriptedRedis(time)
    bench = Bench(redis)
    await bench.deliver(EVENT)
    redis.values.clear()
    redis.calls.clear()
    assert await bench.deliver(EVENT) is True
    assert redis.names() == ["claim", "confirm"]


async def test_deliveries_of_one_turn_claim_together(time: FakeTime) -> None:
    """A hundred events that arrive together are claimed in one command and confirmed in one."""
    redis = ScriptedRedis(time)
    bench = Bench(redis)
    events = [create_test_message(f"event-{n}") for n in range(100)]
    assert await asyncio.gather(*(bench.deliver(event) for event in events)) == [True] * 100
    assert [name for name in redis.names() if name != "register_script"] == ["claim", "confirm"]
    assert len(redis.values) == 100


async def test_a_key_of_another_type_fails_alone(time: FakeTime) -> None:
    """A key that another program uses as a list fails open by itself; its neighbours in the command are protected."""
    redis = ScriptedRedis(time)
    answer = redis._answer
    redis._answer = lambda script, key, row: -1 if key == KEY else answer(script, key, row)  # type: ignore[method-assign]
    before = value_of("idempotency_fail_open_total", reason="redis_claim")
    bench = Bench(redis)
    await asyncio.gather(*(bench.deliver(event) for event in (EVENT, create_test_message("another"))))
    assert bench.runs == 2
    assert value_of("idempotency_fail_open_total", reason="redis_claim") == before + 1


@pytest.mark.parametrize("script", ["claim", "confirm"])
async def test_a_lost_answer_is_asked_again_and_recognised(time: FakeTime, script: str) -> None:
    """Redis did the work and its answer got lost: asked again, it says that the work is ours."""
    redis = ScriptedRedis(time)
    redis.losing = [script]
    bench = Bench(redis)
    with structlog.testing.capture_logs() as logs:
        assert await bench.deliver(EVENT) is True
    assert [entry for entry in logs if entry["log_level"] in ("warning", "error")] == []
    assert await bench.deliver(EVENT) is None
    assert (bench.runs, json.loads(redis.values[KEY][0])["status"]) == (1, "completed")


async def test_a_lost_answer_to_a_release_gives_back(time: FakeTime) -> None:
    """The failed event is free, whichever answer got lost."""
    redis = ScriptedRedis(time)
    redis.losing = ["release"]
    bench = Bench(redis)
    bench.error = RuntimeError("own")
    before = value_of("idempotency_errors_total", kind="release_failed")
    with pytest.raises(RuntimeError, match="own"):
        await bench.deliver(EVENT)
    assert redis.values == {}
    assert value_of("idempotency_errors_total", kind="release_failed") == before


@pytest.mark.parametrize("error", [None, RuntimeError("own")])
async def test_a_claim_of_which_nobody_knows_blocks_no_redelivery(time: FakeTime, error: Exception | None) -> None:
    """Both answers lost: the handler runs unprotected, and what it made of the event is recorded all the same."""
    redis = ScriptedRedis(time)
    redis.losing = ["claim", "claim"]
    bench = Bench(redis)
    bench.error = error
    results: list[object] = await asyncio.gather(bench.deliver(EVENT), return_exceptions=True)
    assert results[0] is (True if error is None else error)
    bench.error = None
    assert await bench.deliver(EVENT) is (None if error is None else True)
    assert bench.runs == (1 if error is None else 2)


async def test_cancelled_before_its_handler_an_event_is_free(time: FakeTime) -> None:
    """A consumer that is shut down between claim and handler leaves no claim to wait for."""
    redis = ScriptedRedis(time)
    enter, entered = redis._enter, asyncio.Event()

    async def slow(*call: Any) -> None:
        await enter(*call)
        if call[0] == "claim":
            entered.set()
            await asyncio.sleep(0.01)

    redis._enter = slow  # type: ignore[method-assign]
    bench = Bench(redis)
    task = asyncio.ensure_future(bench.deliver(EVENT))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (bench.runs, redis.values) == (0, {})
    assert redis.names()[-1] == "release"
