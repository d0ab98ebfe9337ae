"""One subscriber's queue, without a server: bounds, policies, and the places where messages are missing."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from huleedu_service_libs._redis_pubsub.messages import Message
from huleedu_service_libs._redis_pubsub.metrics import Reports
from huleedu_service_libs.redis_pubsub import (
    Gap,
    GapReason,
    Overflow,
    PubSubConfig,
    Subscription,
    SubscriptionClosedError,
)


def _make(overflow: Overflow = Overflow.DROP_OLDEST, size: int = 3, **options: Any) -> Subscription:
    return Subscription("c", size=size, overflow=overflow, reports=Reports("queue"), **options)


def _fill(subscription: Subscription, *texts: str) -> None:
    for text in texts:
        subscription.deliver(Message("c", text))


async def _read(subscription: Subscription) -> list[Any]:
    """All that waits; gaps as they are."""
    found = []
    while (message := await subscription.get_message()) is not None:
        found.append(message["data"])
    return found


def _overflow(dropped: int) -> Gap:
    return Gap(reason=GapReason.OVERFLOW, channel="c", dropped=dropped)


def _away(seconds: float, dropped: int = 0) -> Gap:
    return Gap(reason=GapReason.RECONNECTED, channel="c", seconds_away=seconds, dropped=dropped)


async def test_messages_look_like_the_drivers() -> None:
    """A message has the four keys of redis-py, and the time-out gives None."""
    subscription = _make()
    _fill(subscription, "a")
    message = await subscription.get_message(ignore_subscribe_messages=True, timeout=20.0)
    assert message == {"type": "message", "pattern": None, "channel": "c", "data": "a"}
    assert await subscription.get_message(ignore_subscribe_messages=True, timeout=0.01) is None
    assert await subscription.get_message() is None


async def test_a_full_queue_drops_the_oldest_and_says_how_many() -> None:
    """The latest messages are kept; the gap stands before them."""
    subscription = _make()
    _fill(subscription, *"abcde")
    assert await _read(subscription) == [_overflow(2), "c", "d", "e"]


async def test_a_full_queue_may_keep_the_oldest() -> None:
    """The first messages are kept; the gap stands behind them and before what comes once there is room."""
    subscription = _make(Overflow.DROP_NEWEST)
    _fill(subscription, *"abcde")
    assert (await subscription.get_message() or {})["data"] == "a"
    _fill(subscription, "f")
    assert await _read(subscription) == ["b", "c", _overflow(2), "f"]


async def test_a_full_queue_may_end_the_subscription() -> None:
    """What was queued can be read, then the error names the cause and the fix."""
    subscription = _make(Overflow.CLOSE)
    _fill(subscription, *"abcde")
    assert [(await subscription.get_message() or {})["data"] for _ in range(3)] == ["a", "b", "c"]
    with pytest.raises(SubscriptionClosedError, match="3 messages were waiting; read faster, or raise queue_size"):
        await subscription.get_message(timeout=20.0)


async def test_a_lost_connection_stands_in_its_place() -> None:
    """What came before the gap is read before it, what came after is read after it."""
    subscription = _make()
    _fill(subscription, "a")
    subscription.missed(1.5)
    subscription.missed(0.5)
    _fill(subscription, "b")
    assert await _read(subscription) == ["a", _away(2.0), "b"]
    assert subscription.gaps == 1


async def test_a_gap_survives_the_overflow_that_swallows_its_place() -> None:
    """When the messages around a gap are dropped, the reader still learns of both."""
    subscription = _make()
    _fill(subscription, "a")
    subscription.missed(1.5)
    _fill(subscription, *"bcde")
    assert await _read(subscription) == [_away(1.5, dropped=2), "c", "d", "e"]


async def test_services_that_ask_for_messages_only_see_no_gap() -> None:
    """`ignore_subscribe_messages=True` gives messages; the gap is told to the callback, in its place."""
    told: list[Gap] = []
    subscription = _make(on_gap=told.append)
    _fill(subscription, "a")
    subscription.missed(1.5)
    _fill(subscription, "b")
    assert (await subscription.get_message(ignore_subscribe_messages=True) or {})["data"] == "a"
    assert told == []
    assert (await subscription.get_message(ignore_subscribe_messages=True) or {})["data"] == "b"
    assert told == [_away(1.5)]


async def test_a_callback_that_fails_ends_nothing() -> None:
    """What `on_gap` raises is logged; the messages go on."""

    def fails(_: Gap) -> None:
        raise ZeroDivisionError

    subscription = _make(on_gap=fails)
    subscription.missed(1.5)
    _fill(subscription, "a")
    with capture_logs() as logs:
        assert (await subscription.get_message(ignore_subscribe_messages=True) or {})["data"] == "a"
    assert [entry["event"] for entry in logs] == ["redis_pubsub_on_gap_failed"]


async def test_a_waiting_reader_is_woken_by_news_gap_and_end() -> None:
    """Whatever happens, a reader that waits for ever learns of it; `listen` goes on until the end."""
    subscription = _make()
    found: list[Any] = []

    async def read() -> None:
        async for message in subscription.listen():
            found.append(message["data"])  # noqa: PERF401  # what was found before the end counts

    reader = asyncio.create_task(read())
    await asyncio.sleep(0)
    _fill(subscription, "a")
    await asyncio.sleep(0)
    subscription.missed(1.0)
    await asyncio.sleep(0.01)
    subscription.fail(SubscriptionClosedError("c", "the client was stopped"))
    with pytest.raises(SubscriptionClosedError, match=r"channel 'c' is closed: the client was stopped"):
        await asyncio.wait_for(reader, 20)
    assert found == ["a", _away(1.0)]


async def test_dropping_is_counted_and_logged_once_in_a_row() -> None:
    """Each dropped message counts; a slow reader is one line, not one a message."""
    labels = {"client_id": "queue", "reason": "drop_oldest"}
    before = REGISTRY.get_sample_value("huleedu_redis_pubsub_dropped_total", labels) or 0.0
    subscription = _make()
    with capture_logs() as logs:
        _fill(subscription, *"abcdefgh")
    assert REGISTRY.get_sample_value("huleedu_redis_pubsub_dropped_total", labels) == before + 5
    assert [(entry["event"], entry["reason"]) for entry in logs] == [("redis_pubsub_dropped", "drop_oldest")]


@pytest.mark.parametrize("name", ["queue_size", "confirm_timeout_s", "health_interval_s", "longest_delay_s"])
def test_bounds_must_be_positive(name: str) -> None:
    """A bound of nothing is refused, by name and value."""
    nothing: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=f"{name} must be positive, got 0"):
        replace(PubSubConfig(), **nothing)


_STEPS = st.lists(st.sampled_from(["message", "missed", "read"]), max_size=60)


@given(_STEPS, st.integers(1, 4), st.sampled_from([Overflow.DROP_OLDEST, Overflow.DROP_NEWEST]))
def test_whatever_happens_each_message_is_read_or_counted_as_dropped(
    steps: list[str], size: int, overflow: Overflow
) -> None:
    """In any interleaving: order kept, the bound held, and read plus dropped is exactly what was delivered."""

    async def run() -> None:
        subscription, delivered, seen, missed = _make(overflow, size), 0, list[Any](), 0
        for step in steps:
            if step == "message":
                _fill(subscription, str(delivered))
                delivered += 1
            elif step == "missed":
                subscription.missed(1.0)
                missed += 1
            elif (message := await subscription.get_message()) is not None:
                seen.append(message["data"])
            assert subscription._messages <= size
            assert len(subscription._queue) <= 2 * size
        seen += await _read(subscription)
        texts = [int(each) for each in seen if isinstance(each, str)]
        gaps = [each for each in seen if isinstance(each, Gap)]
        assert texts == sorted(set(texts))
        assert len(texts) + sum(gap.dropped for gap in gaps) == delivered
        assert sum(gap.seconds_away for gap in gaps) == missed
        place = -1  # what is missing between two messages is exactly what the gap between them tells
        pending = 0
        for each in seen:
            if isinstance(each, Gap):
                pending += each.dropped
            else:
                assert int(each) - place - 1 == pending
                place, pending = int(each), 0

    asyncio.run(run())
