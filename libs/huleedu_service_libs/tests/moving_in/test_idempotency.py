"""Idempotency on one Redis with workers of the earlier library: keys, records, and both at the same time."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from time import time
from typing import Any

import pytest
from redis.asyncio import Redis

from huleedu_service_libs.idempotency_v2 import IdempotencyConfig, idempotent_consumer
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.redis_pubsub import NotificationHistory, PubSubConfig

from ..idempotency_test_utils import record_of
from .earlier import EarlierWorker, envelope, key_of, read_notification, record_at

pytestmark = pytest.mark.integration

FIXED = {"event_id": "00000000-0000-0000-0000-000000000001", "data": {"essay": "Räksmörgås", "n": 1}}
HEADERS = (("event_id", b"00000000-0000-0000-0000-000000000001"), ("event_type", b"huleedu.test.moved.v1"))
BY_BODY = "7d8550258f87df6cf5e39cb7257b9e66aad0291d337732ef7cf4495319739a13"
BY_HEADERS = "2c652faf2ae7d5ada50bbff9ab7680712fe1fe24e2811d601626e65cad136092"
ABOUT = {"processed_by": "svc", "event_id": "e", "correlation_id": "c", "source_service": "s"}

Confirm = Callable[[], Awaitable[None]]


def ours(client: RedisClient, service: str, run: Callable[[Confirm], Awaitable[Any]], **options: Any) -> Any:
    """Our worker around a handler that gets what it confirms with."""

    async def handler(_msg: Any, *, confirm_idempotency: Confirm) -> Any:
        return await run(confirm_idempotency)

    return idempotent_consumer(client, IdempotencyConfig(service, **options))(handler)


async def confirming(confirm: Confirm) -> bool:
    """A handler that only confirms."""
    await confirm()
    return True


@pytest.mark.parametrize(
    ("headers", "digest"),
    [
        ((), BY_BODY),
        (HEADERS[:1], BY_BODY),
        (HEADERS[1:], BY_BODY),
        (HEADERS, BY_HEADERS),
        (tuple((name.encode(), value) for name, value in HEADERS), BY_HEADERS),
    ],
    ids=["none", "id", "type", "both", "both, names in bytes"],
)
async def test_keys_are_those_of_ever(
    headers: Any, digest: str, client: RedisClient, driver: Redis, unique_name: str
) -> None:
    """An event has the key that it always had, without headers, with some, and with both: written out here."""
    message = record_of(envelope(FIXED["data"], event_id=FIXED["event_id"]), headers)
    expected = f"huleedu:idempotency:v2:{unique_name}:huleedu_test_moved_v1:{digest}"
    assert await ours(client, unique_name, confirming)(message) is True
    assert await client.scan_pattern(f"*:{unique_name}:*") == [expected]
    assert key_of(unique_name, message) == expected
    assert (await record_at(driver, expected))["status"] == "completed"


@pytest.mark.parametrize(
    "stored",
    [
        json.dumps({"status": "completed", "started_at": 1.5, **ABOUT, "completed_at": 2.5}),
        json.dumps({"status": "completed", "processed_at": 2.5, "processed_by": "svc"}),
        json.dumps({"processed_at": 2.5}),
        "1",
        "processed",
        "",
    ],
    ids=["completed", "of a test", "no status", "a number", "no JSON", "empty"],
)
@pytest.mark.parametrize("policy", ["skip", "wait"])
async def test_what_was_processed_stays_processed(
    stored: str, policy: Any, client: RedisClient, driver: Redis, unique_name: str
) -> None:
    """Every form of a record that was ever left by a processed event makes us skip, and stays as it is."""
    message = record_of(envelope({"n": 1}))
    key = key_of(unique_name, message)
    await driver.set(key, stored, ex=1000)
    assert await ours(client, unique_name, confirming, in_progress=policy)(message) is None
    assert await driver.get(key) == stored
    assert 900 < await driver.ttl(key) <= 1000


async def test_an_earlier_claim_is_respected(client: RedisClient, driver: Redis, unique_name: str) -> None:
    """A claim that an earlier worker holds makes us skip, or wait for what becomes of it."""
    earlier, going_on = EarlierWorker(driver, unique_name), asyncio.Event()
    message = record_of(envelope({"n": 1}))

    async def slow(confirm: Confirm) -> str:
        await going_on.wait()
        await confirm()
        return "earlier"

    working = asyncio.create_task(earlier.deliver(message, slow))
    while await driver.get(key_of(unique_name, message)) is None:
        await asyncio.sleep(0.01)
    assert await ours(client, unique_name, confirming)(message) is None
    waiting = asyncio.create_task(ours(client, unique_name, confirming, in_progress="wait")(message))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    going_on.set()
    assert (await working, await waiting) == ("earlier", None)


async def test_what_an_earlier_worker_gives_back_is_ours(client: RedisClient, driver: Redis, unique_name: str) -> None:
    """When the earlier worker's handler fails while we wait, we process the event."""
    message, going_on = record_of(envelope({"n": 1})), asyncio.Event()

    async def fails(_confirm: Confirm) -> None:
        await going_on.wait()
        raise RuntimeError("earlier")

    working = asyncio.create_task(EarlierWorker(driver, unique_name).deliver(message, fails))
    while await driver.get(key_of(unique_name, message)) is None:
        await asyncio.sleep(0.01)
    waiting = asyncio.create_task(ours(client, unique_name, confirming, in_progress="wait")(message))
    going_on.set()
    with pytest.raises(RuntimeError, match="earlier"):
        await working
    assert await waiting is True


async def test_a_claim_of_a_dead_earlier_worker_is_taken_over(
    client: RedisClient, driver: Redis, unique_name: str
) -> None:
    """A claim older than 300 s, of a clock that was behind or of a key that outlived it, holds nobody up."""
    message = record_of(envelope({"n": 1}))
    key = key_of(unique_name, message)
    await driver.set(key, json.dumps({"status": "processing", "started_at": time() - 301, **ABOUT}), ex=1000)
    assert await ours(client, unique_name, confirming)(message) is True
    assert (await record_at(driver, key))["status"] == "completed"


@pytest.mark.parametrize("options", [{}, {"in_progress": "wait", "unconfirmed": "release", "store_down": "pause"}])
async def test_earlier_workers_read_our_records(
    options: Any, client: RedisClient, driver: Redis, unique_name: str
) -> None:
    """While we process and after it, an earlier worker reads the record and leaves the event alone; with 300 s to live."""
    earlier, message = EarlierWorker(driver, unique_name), record_of(envelope({"n": 1}), HEADERS)
    key, seen = key_of(unique_name, message), []

    async def run(confirm: Confirm) -> bool:
        seen.append(((await record_at(driver, key)), await driver.ttl(key)))
        assert await earlier.deliver(message, confirming) is None
        await confirm()
        return True

    assert await ours(client, unique_name, run, **options)(message) is True
    ((claimed, seconds),) = seen
    assert (claimed["status"], claimed["processed_by"]) == ("processing", unique_name)
    assert abs(time() - claimed["started_at"]) < 60
    assert 290 <= seconds <= 300
    assert (await record_at(driver, key))["status"] == "completed"
    assert await earlier.deliver(message, confirming) is None


async def test_what_we_give_back_an_earlier_worker_takes(client: RedisClient, driver: Redis, unique_name: str) -> None:
    """After a failure of ours there is no key, and the earlier worker processes the event."""
    message = record_of(envelope({"n": 1}))

    async def fails(_confirm: Confirm) -> None:
        raise RuntimeError("ours")

    with pytest.raises(RuntimeError, match="ours"):
        await ours(client, unique_name, fails)(message)
    assert await EarlierWorker(driver, unique_name).deliver(message, confirming) is True


async def test_both_at_the_same_time_do_everything_once(client: RedisClient, driver: Redis, unique_name: str) -> None:
    """Three hundred events, each brought to two workers of each library at once, some failing first: one effect each."""
    chance, effects, failed = random.Random(8), Counter[int](), set[int]()  # noqa: S311
    events = [record_of(envelope({"n": number}), HEADERS[1:]) for number in range(300)]

    async def work(number: int, confirm: Confirm) -> None:
        await asyncio.sleep(chance.random() / 100)
        if number % 7 == 0 and number not in failed:
            failed.add(number)
            raise ConnectionError("before anything was done")
        effects[number] += 1
        await confirm()

    async def until_done(deliver: Callable[[], Awaitable[Any]]) -> None:
        while True:  # as Kafka does: what failed comes again
            try:
                await deliver()
            except ConnectionError:
                await asyncio.sleep(0.005)
            else:
                return

    async def earlier(number: int) -> None:
        worker = EarlierWorker(driver, unique_name)
        await until_done(lambda: worker.deliver(events[number], lambda confirm: work(number, confirm)))

    async def new(number: int) -> None:
        worker = ours(client, unique_name, lambda confirm: work(number, confirm), in_progress="wait")
        await until_done(lambda: worker(events[number]))

    tasks = [kind(number) for number in range(300) for kind in (earlier, new, earlier, new)]
    chance.shuffle(tasks)
    async with asyncio.timeout(60):
        await asyncio.gather(*tasks)
    assert effects == Counter(range(300))
    assert failed == set(range(0, 300, 7))


async def test_no_promise_a_slow_earlier_worker_is_overtaken(
    client: RedisClient, driver: Redis, unique_name: str
) -> None:
    """An earlier worker renews nothing: after 300 s its event is ours, too, and it overwrites our record with its own."""
    message = record_of(envelope({"n": 1}))
    key = key_of(unique_name, message)

    async def slow(confirm: Confirm) -> str:
        await driver.delete(key)  # its 300 s are over
        assert await ours(client, unique_name, confirming)(message) is True
        await confirm()
        return "twice"

    assert await EarlierWorker(driver, unique_name).deliver(message, slow) == "twice"
    assert (await record_at(driver, key))["source_service"] == "s"


async def test_no_promise_an_earlier_worker_drops_what_we_have_in_hand(
    client: RedisClient, driver: Redis, unique_name: str
) -> None:
    """An earlier worker takes an event in progress for a duplicate; if we die then, it is lost to that partition."""
    message, begun = record_of(envelope({"n": 1})), asyncio.Event()

    async def dies(_confirm: Confirm) -> None:
        begun.set()
        await asyncio.Event().wait()

    working = asyncio.create_task(ours(client, unique_name, dies)(message))
    await begun.wait()
    assert await EarlierWorker(driver, unique_name).deliver(message, confirming) is None
    working.cancel()
    await asyncio.wait([working])
    assert (await record_at(driver, key_of(unique_name, message)))["status"] == "processing"


@pytest.mark.parametrize("history", [None, NotificationHistory()], ids=["plain", "with a history"])
async def test_notifications_have_their_two_keys(
    history: NotificationHistory | None, redis_url: str, driver: Redis, unique_name: str
) -> None:
    """Who listens on a user's channel gets `event` and `data` and nothing else, also where a history is kept."""
    config = PubSubConfig(history=history)
    more = {} if history is None else {"notification_id": "1"}
    async with (
        RedisClient(client_id="n", redis_url=redis_url, pubsub_config=config) as client,
        driver.pubsub(ignore_subscribe_messages=True) as listening,
    ):
        await listening.subscribe(f"ws:{unique_name}")
        await listening.get_message(timeout=20)
        await client.publish_user_notification(unique_name, "essay.checked", {"essay": "å"}, **more)
        message = await listening.get_message(timeout=20)
    assert message is not None
    assert read_notification(message["data"]) == {"event": "essay.checked", "data": {"essay": "å"}}
