"""Breakers and retries side by side: what a call costs when all is well, and what a refusal costs.

Run by ``make bench SUBJECT=breaker``.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

import aiobreaker
import circuitbreaker
import hyx.circuitbreaker
import hyx.retry
import interlock
import nopanic
import purgatory
import stamina
import tenacity
from prometheus_client import CollectorRegistry, Counter

from harness import Call, Figure, measure, peak_bytes, print_table, versions_of, write_result
from huleedu_service_libs.logging_utils import configure_service_logging
from huleedu_service_libs.resilience import (
    BreakerPolicy,
    Bulkhead,
    CircuitBreaker,
    Pipeline,
    Ramp,
    Retry,
    RetryBudget,
    StandardCircuitBreakerMetrics,
    TimeLimit,
    TimeWindow,
)
from huleedu_service_libs.resilience.metrics_bridge import create_metrics_bridge

PEERS = ["circuitbreaker", "aiobreaker", "purgatory", "hyx", "nopanic", "interlock-cb", "stamina", "tenacity"]
ROUNDS, CALLS = 301, 200  # short rounds: most of them are not disturbed

OURS = "ours: failures in a row"
FULL = "ours: every feature on"


async def fine() -> int:
    """The call that is protected."""
    return 1


async def broken() -> int:
    """A call that opens breakers."""
    raise ValueError


def _refused(call: Call) -> Call:
    async def run() -> None:
        try:
            await call()
        except Exception:  # noqa: BLE001  # the refusal, of whatever type; `suppress` would cost more than that
            return

    return run


def _full() -> CircuitBreaker:
    return CircuitBreaker(
        expected_exception=ConnectionError,
        name="full",
        service_name="bench",
        metrics=StandardCircuitBreakerMetrics(CollectorRegistry()),
        listeners=[lambda _change: None],
        policy=BreakerPolicy(
            window=TimeWindow(seconds=10, failure_rate=0.5, slow_rate=0.5, minimum_calls=20),
            slow_call_s=1,
            call_timeout_s=5,
            half_open_permits=3,
            half_open_limit_s=60,
            ramp=Ramp(seconds=30),
            open_growth=2,
            open_jitter=0.2,
            ignored=(KeyError,),
            is_failure=lambda _error: True,
            is_failure_result=lambda result: result is None,
            not_reached=(OSError,),
        ),
    )


async def closed_breakers() -> dict[str, Call]:
    """A call through each, with the circuit closed."""
    counter = Counter("calls", "d", ["service", "circuit_name", "result"], registry=None)
    bridge = create_metrics_bridge({"circuit_breaker_calls_total": counter}, "bench")
    lock = interlock.CircuitBreaker(name="bench")
    factory = purgatory.AsyncCircuitBreakerFactory()

    @hyx.circuitbreaker.consecutive_breaker()  # type: ignore[untyped-decorator]
    async def by_hyx() -> int:
        return await fine()

    @factory("bench")  # type: ignore[untyped-decorator]
    async def by_purgatory() -> int:
        return await fine()

    return {
        "bare call": fine,
        OURS: partial(CircuitBreaker().call, fine),
        "ours: the same as a decorator": CircuitBreaker().protect(fine),
        "ours: with a service's Prometheus counters": partial(CircuitBreaker(metrics=bridge).call, fine),
        FULL: partial(_full().call, fine),
        "circuitbreaker": circuitbreaker.CircuitBreaker()(fine),
        "aiobreaker": partial(aiobreaker.CircuitBreaker().call_async, fine),
        "purgatory": by_purgatory,
        "hyx": by_hyx,
        "nopanic": partial(nopanic.CircuitBreaker(slow_call_duration=1).acall, fine),
        "interlock-cb": partial(lock.call_async, fine),
    }


async def open_breakers() -> dict[str, Call]:
    """A refused call through each, its exception caught."""
    ours, full = CircuitBreaker(1, timedelta(hours=1)), _full()
    full.isolate()
    cb = circuitbreaker.CircuitBreaker(failure_threshold=1, recovery_timeout=3600)(broken)
    aio = aiobreaker.CircuitBreaker(fail_max=1, timeout_duration=timedelta(hours=1))
    guarded = hyx.circuitbreaker.consecutive_breaker(failure_threshold=1, recovery_time_secs=3600)(broken)
    factory = purgatory.AsyncCircuitBreakerFactory(default_threshold=1, default_ttl=3600)
    purged = factory("open")(broken)
    panic, lock = nopanic.CircuitBreaker(), interlock.CircuitBreaker(name="open")
    panic.force_open()
    await lock.force_open() if inspect.iscoroutinefunction(lock.force_open) else lock.force_open()
    calls: dict[str, Call] = {
        OURS: partial(ours.call, broken),
        FULL: partial(full.call, broken),
        "circuitbreaker": cb,
        "aiobreaker": partial(aio.call_async, broken),
        "purgatory": purged,
        "hyx": guarded,
        "nopanic": partial(panic.acall, broken),
        "interlock-cb": partial(lock.call_async, broken),
    }
    refused = {name: _refused(call) for name, call in calls.items()}
    for call in refused.values():
        for _ in range(3):
            await call()
    for name, call in calls.items():
        try:
            await call()
        except ValueError:
            raise RuntimeError(f"{name} is not open") from None
        except Exception:  # noqa: BLE001, S112  # the refusal, of whatever type
            continue
    return refused


def retries() -> dict[str, Call]:
    """A call that succeeds at once, through each retry."""

    @tenacity.retry(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_exponential_jitter())
    async def by_tenacity() -> int:
        return await fine()

    @stamina.retry(on=Exception, attempts=3)
    async def by_stamina() -> int:
        return await fine()

    @hyx.retry.retry(attempts=3)  # type: ignore[untyped-decorator]
    async def by_hyx() -> int:
        return await fine()

    return {
        "bare call": fine,
        "ours": partial(Retry(3).call, fine),
        "ours, with a budget": partial(Retry(3, budget=RetryBudget()).call, fine),
        "tenacity": by_tenacity,
        "stamina": by_stamina,
        "hyx": by_hyx,
        "nopanic": nopanic.retry(attempts=3)(fine),
    }


def pipelines() -> dict[str, Call]:
    """Several guards at once."""
    return {
        "ours: breaker, bulkhead, time limit": Pipeline(
            breaker=_full(), bulkhead=Bulkhead(100), time_limit=TimeLimit(5)
        ).protect(fine),
        "ours: retry, breaker, bulkhead, time limit": Pipeline(
            retry=Retry(3, budget=RetryBudget()), breaker=_full(), bulkhead=Bulkhead(100), time_limit=TimeLimit(5)
        ).protect(fine),
    }


def thousand(call: Callable[[], Awaitable[Any]]) -> Call:
    """A thousand tasks at once, each one call."""

    async def run() -> None:
        await asyncio.gather(*(asyncio.ensure_future(call()) for _ in range(1000)))  # type: ignore[arg-type]

    return run


async def main() -> None:
    """Measure, print, write."""
    logging.disable(logging.CRITICAL)
    configure_service_logging("bench", log_level="CRITICAL")
    closed, rejected = await closed_breakers(), await open_breakers()
    parts: dict[str, tuple[dict[str, Call], str, int, int]] = {
        "a call through a closed breaker": (closed, OURS, ROUNDS, CALLS),
        "a refused call": (rejected, OURS, ROUNDS, CALLS),
        "a retry that is not needed": (retries(), "ours", ROUNDS, CALLS),
        "several guards": (pipelines(), "ours: breaker, bulkhead, time limit", ROUNDS, CALLS),
        "1000 tasks at once, ns for all": (
            {name: thousand(call) for name, call in closed.items()},
            OURS,
            101,
            1,
        ),
    }
    result: dict[str, Any] = {}
    for title, (subjects, first, rounds, calls) in parts.items():
        figures = await measure(subjects, rounds=rounds, calls=calls)
        sizes = {} if "tasks" in title else {name: await peak_bytes(call) for name, call in subjects.items()}
        print_table(title, figures, sizes, first)
        result[title] = _as_json(figures, sizes, first)
    content = {"unit": "ns per call (median of interleaved rounds)", "parts": result}
    print(f"\n{write_result('breaker', {**content, 'versions': versions_of(PEERS)})}")


def _as_json(figures: dict[str, Figure], sizes: dict[str, int], first: str) -> dict[str, Any]:
    return {
        name: {
            "median": round(figure.median),
            "spread": round(figure.spread),
            "best": round(figure.best),
            "bytes": sizes.get(name),
            "ratio": round(figure.median / figures[first].median, 3),
        }
        for name, figure in figures.items()
    }


if __name__ == "__main__":
    asyncio.run(main())
