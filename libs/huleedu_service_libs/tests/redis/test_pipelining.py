"""Commands of many tasks over one connection, against a real server, whole and broken."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError, ResponseError

from huleedu_service_libs._redis_executor.line import Call
from huleedu_service_libs._redis_executor.reports import ExecutorListener
from huleedu_service_libs.redis_client import (
    PipeliningConfig,
    RedisClient,
    RedisClientConfig,
    RedisOverloadedError,
    ReplyLateError,
    ReplyLostError,
)
from huleedu_service_libs.testing.chaos.proxy import FaultProxy

pytestmark = pytest.mark.integration


class Witness(ExecutorListener):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.most_unanswered = 0
        self.replies = 0
        self.losses: list[tuple[int, int]] = []
        self.connections: list[bool] = []

    def sent(self, commands: int) -> None:
        self.batches.append(commands)
        self.most_unanswered = max(self.most_unanswered, sum(self.batches) - self.replies)

    def answered(self, calls: list[Call], at: float) -> None:
        self.replies += len(calls)

    def lost(self, unanswered: int, repeated: int, error: Exception | None) -> None:
        self.losses.append((unanswered, repeated))

    def connected(self, *, again: bool) -> None:
        self.connections.append(again)


def _watched(client: RedisClient) -> Witness:
    witness = Witness()
    client._executor._listener = witness
    return witness


@pytest.fixture(name="raw")
async def _raw(redis_url: str) -> AsyncIterator[Redis]:
    """Another program on the server, which also sees to it that no test leaves a connection behind."""
    async with Redis.from_url(redis_url, decode_responses=True) as other:
        before = len(await other.client_list())
        yield other
        async with asyncio.timeout(10):
            while len(await other.client_list()) > before:
                await asyncio.sleep(0.01)


@pytest.fixture(name="proxy")
async def _proxy(redis_url: str, raw: Redis) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(redis_url) as proxy:
        yield proxy


@pytest.fixture(name="far")
async def _far(proxy: FaultProxy) -> AsyncIterator[RedisClient]:
    """A client whose network can be broken."""
    config = RedisClientConfig(socket_timeout_s=1.0, pipelining=PipeliningConfig(backoff_s=0.01))
    async with RedisClient(client_id="far", redis_url=proxy.url, config=config) as client:
        yield client


# --- together


async def test_commands_of_the_same_turn_share_a_round_trip(client: RedisClient, redis_prefix: str) -> None:
    """A hundred tasks that ask at once make two writes: the first was alone, the others go together."""
    witness = _watched(client)
    assert await asyncio.gather(*(client.get(f"{redis_prefix}{n}") for n in range(100))) == [None] * 100
    assert witness.batches == [1, 99]
    await asyncio.gather(*(client.get(f"{redis_prefix}{n}") for n in range(100)))
    assert witness.batches[2:] == [100]


async def test_all_commands_use_one_connection(raw: Redis, redis_url: str, redis_prefix: str) -> None:
    """Two thousand commands at once queue over a single connection, and none fails."""
    before = len(await raw.client_list())
    async with RedisClient(client_id="many", redis_url=redis_url) as client:
        kept = await asyncio.gather(*(client.setex(f"{redis_prefix}{n}", 60, str(n)) for n in range(2_000)))
        assert kept == [True] * 2_000
        replies = await asyncio.gather(*(client.get(f"{redis_prefix}{n}") for n in range(2_000)))
        assert replies == [str(n) for n in range(2_000)]
        assert len(await raw.client_list()) == before + 1


async def test_each_task_keeps_its_order(client: RedisClient, redis_prefix: str) -> None:
    """What one task pushes one after the other stands in that order, whatever other tasks do."""

    async def push(task: int) -> None:
        for number in range(20):
            await client.rpush(f"{redis_prefix}{task}", str(number))

    await asyncio.gather(*(push(task) for task in range(50)))
    for task in range(50):
        assert await client.lrange(f"{redis_prefix}{task}", 0, -1) == [str(number) for number in range(20)]


async def test_a_failing_command_fails_only_its_caller(client: RedisClient, raw: Redis, redis_prefix: str) -> None:
    """An error, an argument that cannot be sent, and an answer that is no text, each in the middle of a batch."""
    async with Redis.from_url(client.redis_url) as binary:
        await binary.set(f"{redis_prefix}binary", b"\xff\xfe", ex=60)
    await client.setex(f"{redis_prefix}text", 60, "v")
    nothing: Any = None
    calls = [
        client.get(f"{redis_prefix}text"),
        client.rpush(f"{redis_prefix}text", "x"),
        client.get(f"{redis_prefix}binary"),
        client.setex(f"{redis_prefix}text", 60, nothing),
        client.get(f"{redis_prefix}text"),
    ]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [str, ResponseError, UnicodeDecodeError, DataError, str]
    assert "SET takes str, bytes, int and float, not NoneType" in str(outcomes[3])
    assert await client.get(f"{redis_prefix}text") == "v"


async def test_a_cancelled_caller_harms_nobody(client: RedisClient, redis_prefix: str) -> None:
    """Half of the callers go away, before their command is sent or after; the others get their own answers."""
    await asyncio.gather(*(client.setex(f"{redis_prefix}{n}", 60, str(n)) for n in range(200)))
    for turns in range(4):
        tasks = [asyncio.create_task(client.get(f"{redis_prefix}{n}")) for n in range(200)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        replies = await asyncio.gather(*tasks, return_exceptions=True)
        assert replies[1::2] == [str(n) for n in range(1, 200, 2)]
        assert all(isinstance(reply, asyncio.CancelledError | str) for reply in replies[::2])


async def test_what_was_cancelled_in_the_queue_is_never_sent(client: RedisClient, redis_prefix: str) -> None:
    """A command whose caller has gone before its turn does not happen."""
    await asyncio.gather(client.ping(), client.ping())  # so that the next one waits for the end of the turn
    task = asyncio.create_task(client.setex(f"{redis_prefix}k", 60, "v"))
    await asyncio.sleep(0)
    task.cancel()
    assert await client.get(f"{redis_prefix}k") is None


# --- limits


async def test_batches_and_what_is_under_way_are_bounded(redis_url: str, redis_prefix: str) -> None:
    """No write carries more commands than allowed, and no more are unanswered; the rest waits and is served."""
    pipelining = PipeliningConfig(batch_commands=10, unanswered=25)
    async with RedisClient(
        client_id="small", redis_url=redis_url, config=RedisClientConfig(pipelining=pipelining)
    ) as client:
        await client.get("x")
        witness = _watched(client)
        await asyncio.gather(*(client.get(f"{redis_prefix}{n}") for n in range(300)))
        assert max(witness.batches) == 10
        assert witness.most_unanswered <= 25


async def test_large_values_leave_in_writes_of_bounded_size(redis_url: str, redis_prefix: str) -> None:
    """Ten values of 100 kB do not become one write, and all arrive."""
    pipelining = PipeliningConfig(batch_bytes=250_000)
    async with RedisClient(
        client_id="large", redis_url=redis_url, config=RedisClientConfig(pipelining=pipelining)
    ) as client:
        await client.get("x")
        witness = _watched(client)
        await asyncio.gather(*(client.setex(f"{redis_prefix}{n}", 60, "x" * 100_000) for n in range(10)))
        assert max(witness.batches) <= 2
        assert [len(await client.get(f"{redis_prefix}{n}") or "") for n in range(10)] == [100_000] * 10


async def test_a_full_queue_refuses_and_says_why(redis_url: str, redis_prefix: str) -> None:
    """Commands beyond the bound of the queue fail at once; those within it are served."""
    pipelining = PipeliningConfig(waiting=50)
    async with RedisClient(
        client_id="full", redis_url=redis_url, config=RedisClientConfig(pipelining=pipelining)
    ) as client:
        outcomes = await asyncio.gather(*(client.get(f"{redis_prefix}{n}") for n in range(60)), return_exceptions=True)
        refused = [outcome for outcome in outcomes if outcome is not None]
        assert len(refused) == 9  # one left at once, fifty waited
        assert all(isinstance(each, RedisOverloadedError) for each in refused)
        assert "GET was not sent: 50 commands wait already" in str(refused[0])


async def test_a_command_that_waits_too_long_for_its_turn_is_told(proxy: FaultProxy, redis_prefix: str) -> None:
    """Behind replies that trickle, a command gives up after the wait limit and is never sent."""
    config = RedisClientConfig(pool_wait_s=0.2, pipelining=PipeliningConfig(unanswered=1))
    async with RedisClient(client_id="slow", redis_url=proxy.url, config=config) as client:
        await client.get("x")
        proxy.delay(0.15)
        outcomes = await asyncio.gather(
            *(client.setex(f"{redis_prefix}{n}", 60, "v") for n in range(6)), return_exceptions=True
        )
        proxy.heal()
        late = [outcome for outcome in outcomes if outcome is not True]
        assert late
        assert all(isinstance(each, RedisOverloadedError) for each in late)
        assert "waited 0.2 s for its turn" in str(late[0])
        assert await client.get(f"{redis_prefix}5") is None


# --- broken connections

REPEATED: list[tuple[bytes, str, tuple[Any, ...], Any]] = [
    (b"\r\nGET\r\n", "get", ("{p}text",), "v"),
    (b"\r\nSET\r\n", "setex", ("{p}new", 60, "v"), True),
    (b"\r\nSCAN\r\n", "scan_pattern", ("{p}tex*",), ["{p}text"]),
    (b"\r\nEXPIRE\r\n", "expire", ("{p}text", 60), True),
    (b"\r\nTTL\r\n", "ttl", ("{p}none",), -2),
    (b"\r\nEXISTS\r\n", "exists", ("{p}text",), 1),
    (b"\r\nSCARD\r\n", "scard", ("{p}set",), 1),
    (b"\r\nSMEMBERS\r\n", "smembers", ("{p}set",), {"m"}),
    (b"\r\nHGET\r\n", "hget", ("{p}hash", "f"), "v"),
    (b"\r\nHLEN\r\n", "hlen", ("{p}hash",), 1),
    (b"\r\nHGETALL\r\n", "hgetall", ("{p}hash",), {"f": "v"}),
    (b"\r\nHEXISTS\r\n", "hexists", ("{p}hash", "f"), True),
    (b"\r\nLLEN\r\n", "llen", ("{p}list",), 1),
    (b"\r\nLRANGE\r\n", "lrange", ("{p}list", 0, -1), ["i"]),
    (b"\r\nSCRIPT\r\n", "register_script", ("return 1",), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"),
    (b"\r\nPING\r\n", "ping", (), True),
]

ONCE: list[tuple[bytes, str, tuple[Any, ...], str, int]] = [
    (b"\r\nDEL\r\n", "delete_key", ("{p}text",), "exists {p}text", 0),
    (b"\r\nSADD\r\n", "sadd", ("{p}set", "n"), "scard {p}set", 2),
    (b"\r\nSREM\r\n", "srem", ("{p}set", "m"), "scard {p}set", 0),
    (b"\r\nSPOP\r\n", "spop", ("{p}set",), "scard {p}set", 0),
    (b"\r\nZADD\r\n", "zadd", ("{p}z", {"n": 1.0}), "zcard {p}z", 1),
    (b"\r\nZREM\r\n", "zrem", ("{p}z", "n"), "zcard {p}z", 0),
    (b"\r\nHSET\r\n", "hset", ("{p}hash", "g", "v"), "hlen {p}hash", 2),
    (b"\r\nRPUSH\r\n", "rpush", ("{p}list", "j"), "llen {p}list", 2),
    (b"\r\nLPUSH\r\n", "lpush", ("{p}list", "j"), "llen {p}list", 2),
]


def _with_prefix(value: Any, prefix: str) -> Any:
    if isinstance(value, str):
        return value.replace("{p}", prefix)
    if isinstance(value, list | tuple):
        return type(value)(_with_prefix(each, prefix) for each in value)
    return value


async def _prepare(raw: Redis, prefix: str) -> None:
    pipe: Any = raw.pipeline(transaction=False)
    pipe.set(f"{prefix}text", "v", ex=600).sadd(f"{prefix}set", "m").hset(f"{prefix}hash", "f", "v")
    pipe.rpush(f"{prefix}list", "i")
    await pipe.execute()


@pytest.mark.parametrize(("word", "name", "arguments", "answer"), REPEATED, ids=[each[1] for each in REPEATED])
async def test_safe_commands_are_repeated_after_a_lost_reply(
    far: RedisClient,
    proxy: FaultProxy,
    raw: Redis,
    redis_prefix: str,
    word: bytes,
    name: str,
    arguments: tuple[Any, ...],
    answer: Any,
) -> None:
    """Reads, and writes that leave and say the same when they run twice, are sent again on a new connection."""
    await _prepare(raw, redis_prefix)
    proxy.lose_replies(to=word)
    assert await getattr(far, name)(*_with_prefix(arguments, redis_prefix)) == _with_prefix(answer, redis_prefix)
    assert proxy.lost_replies == 1


@pytest.mark.parametrize(("word", "name", "arguments", "look", "left"), ONCE, ids=[each[1] for each in ONCE])
async def test_other_commands_run_once_and_say_that_nobody_knows(
    far: RedisClient,
    proxy: FaultProxy,
    raw: Redis,
    redis_prefix: str,
    word: bytes,
    name: str,
    arguments: tuple[Any, ...],
    look: str,
    left: int,
) -> None:
    """What would count twice, or answer otherwise the second time, is never repeated; the error tells why."""
    await _prepare(raw, redis_prefix)
    proxy.lose_replies(to=word)
    with pytest.raises(ReplyLostError, match="may have run or not"):
        await getattr(far, name)(*_with_prefix(arguments, redis_prefix))
    command, key = look.split()
    assert await getattr(raw, command)(_with_prefix(key, redis_prefix)) == left


async def test_scripts_run_once(far: RedisClient, proxy: FaultProxy, raw: Redis, redis_prefix: str) -> None:
    """A script may do anything, so it is not repeated."""
    sha = await far.register_script("return redis.call('INCR', KEYS[1])")
    proxy.lose_replies(to=b"\r\nEVALSHA\r\n")
    with pytest.raises(ReplyLostError):
        await far.execute_script(sha, [f"{redis_prefix}n"], [])
    assert await raw.get(f"{redis_prefix}n") == "1"


async def test_one_lost_batch_is_sorted_command_by_command(
    far: RedisClient, proxy: FaultProxy, raw: Redis, redis_prefix: str
) -> None:
    """Of a hundred commands under way, the reads get answers and each push runs once, answered or not."""
    await _prepare(raw, redis_prefix)
    witness = _watched(far)
    proxy.lose_replies(to=b"\r\nRPUSH\r\n")
    mixed = [far.get(f"{redis_prefix}text") if n % 2 else far.rpush(f"{redis_prefix}l{n}", "i") for n in range(100)]
    outcomes = await asyncio.gather(*mixed, return_exceptions=True)
    assert outcomes[1::2] == ["v"] * 50
    assert any(isinstance(outcome, ReplyLostError) for outcome in outcomes[::2])
    for number, outcome in enumerate(outcomes[::2]):
        assert outcome == 1 or isinstance(outcome, ReplyLostError)
        assert await raw.llen(f"{redis_prefix}l{2 * number}") == 1
    assert witness.connections == [True]


async def test_repeating_has_an_end(far: RedisClient, proxy: FaultProxy) -> None:
    """A read whose reply is lost again and again is sent four times, then its caller is told."""
    proxy.lose_replies(to=b"\r\nGET\r\n", times=100)
    with pytest.raises(ReplyLostError):
        await far.get("k")
    assert proxy.lost_replies == 4


async def test_repeating_survives_a_server_that_is_away_for_a_moment(
    far: RedisClient, proxy: FaultProxy, raw: Redis, redis_prefix: str
) -> None:
    """While a read is repeated the first connections fail; it gets its answer all the same."""
    await _prepare(raw, redis_prefix)
    proxy.lose_replies(to=b"\r\nGET\r\n", hang=True)
    reading = asyncio.create_task(far.get(f"{redis_prefix}text"))
    async with asyncio.timeout(5):
        while not far._executor._line or not far._executor._line.unanswered:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)
    proxy.refuse()
    await asyncio.sleep(0.005)
    proxy.heal()
    assert await reading == "v"


async def test_a_silent_server_costs_the_socket_timeout_once(far: RedisClient, proxy: FaultProxy) -> None:
    """Without a byte for that long all that is under way fails, repeatable or not; the next command connects anew."""
    proxy.silence()
    outcomes = await asyncio.gather(far.get("a"), far.get("b"), far.sadd("c", "d"), return_exceptions=True)
    proxy.heal()
    assert [type(outcome) for outcome in outcomes] == [ReplyLateError] * 3
    assert "No reply to GET within 1 s" in str(outcomes[0])
    assert await far.ping()


async def test_an_idle_connection_that_was_cut_costs_no_error(far: RedisClient, proxy: FaultProxy) -> None:
    """A connection that ended while nothing was under way is replaced without a word."""
    for _ in range(3):
        proxy.cut()
        await asyncio.sleep(0.05)
        assert await far.sadd("huleedu:never", "x") in {0, 1}
    assert await far.delete_key("huleedu:never") == 1


async def test_nobody_there_is_an_error_at_once(far: RedisClient, proxy: FaultProxy) -> None:
    """Commands issued while the server cannot be reached get the driver's error, each its own."""
    proxy.refuse()
    await asyncio.sleep(0.05)
    outcomes = await asyncio.gather(*(far.get("k") for _ in range(20)), return_exceptions=True)
    assert all(isinstance(outcome, RedisConnectionError) for outcome in outcomes)
    assert len({id(outcome) for outcome in outcomes}) == 20
    proxy.heal()
    assert await far.ping()


class Writer:
    """One task that pushes, claims and reads, and remembers what was acknowledged."""

    def __init__(self, client: RedisClient, prefix: str, task: int) -> None:
        self.list = f"{prefix}{task}"
        self.pushed: set[str] = set()
        self.claims: list[tuple[str, str, bool]] = []
        self.reads: set[str | None] = set()
        self._client = client
        self._prefix = prefix
        self._task = task

    async def work(self, over: asyncio.Event) -> None:
        number = 0
        while not over.is_set():
            number += 1
            key, value = f"{self._prefix}claim:{number}", f"{self._task}:{number}"
            with suppress(RedisConnectionError):
                await self._client.rpush(self.list, str(number))
                self.pushed.add(str(number))
            with suppress(RedisConnectionError):
                self.claims.append((key, value, await self._client.set_if_not_exists(key, value, 600)))
            with suppress(RedisConnectionError):
                self.reads.add(await self._client.get(f"{self._prefix}known"))
            await asyncio.sleep(0.001)


async def test_a_network_that_breaks_all_the_time_doubles_and_loses_nothing(
    far: RedisClient, proxy: FaultProxy, raw: Redis, redis_prefix: str
) -> None:
    """What was acknowledged is there once, in order; claims are won by who wrote the value; every read is right."""
    await raw.set(f"{redis_prefix}known", "v", ex=600)
    writers = [Writer(far, redis_prefix, task) for task in range(30)]
    over = asyncio.Event()
    tasks = [asyncio.create_task(writer.work(over)) for writer in writers]
    for _ in range(25):
        await asyncio.sleep(0.03)
        proxy.cut()
    over.set()
    await asyncio.gather(*tasks)
    assert sum(len(writer.pushed) for writer in writers) > 100
    for writer in writers:
        stored = [int(number) for number in await raw.lrange(writer.list, 0, -1)]
        assert stored == sorted(set(stored))
        assert {int(number) for number in writer.pushed} <= set(stored)
        assert writer.reads <= {"v"}
        for key, value, won in writer.claims:
            assert (await raw.get(key) == value) is won


# --- whose value


async def test_a_won_claim_whose_reply_got_lost_is_won(far: RedisClient, proxy: FaultProxy, redis_prefix: str) -> None:
    """Its own value stands there, and is young enough to be of this call."""
    for number, ttl in enumerate((60, None)):
        proxy.lose_replies(to=b"\r\nNX\r\n")
        assert await far.set_if_not_exists(f"{redis_prefix}{number}", "mine", ttl) is True
    assert proxy.lost_replies == 2


async def test_a_lost_claim_whose_reply_got_lost_is_lost(
    far: RedisClient, proxy: FaultProxy, raw: Redis, redis_prefix: str
) -> None:
    """Another's value, one that is no text, and the same text that stood there before: none is taken for ours."""
    await raw.set(f"{redis_prefix}theirs", "theirs", ex=60)
    await raw.sadd(f"{redis_prefix}set", "x")
    await raw.set(f"{redis_prefix}older", "mine", px=50_000)
    await raw.set(f"{redis_prefix}endless", "mine")
    for name in ("theirs", "set", "older", "endless"):
        proxy.lose_replies(to=b"\r\nNX\r\n")
        assert await far.set_if_not_exists(f"{redis_prefix}{name}", "mine", 60) is False
    assert proxy.lost_replies == 4


async def test_a_claim_that_never_happened_is_made(far: RedisClient, proxy: FaultProxy, redis_prefix: str) -> None:
    """The connection breaks before Redis sees the command: it is sent again, and wins."""
    proxy.silence()
    claiming = asyncio.create_task(far.set_if_not_exists(f"{redis_prefix}k", "mine", 60))
    await asyncio.sleep(0.1)
    proxy.cut()
    proxy.heal()
    assert await claiming is True


async def test_a_claim_that_cannot_be_looked_up_raises(far: RedisClient, proxy: FaultProxy, redis_prefix: str) -> None:
    """When Redis is gone after the lost reply, nobody says won or lost."""
    proxy.lose_replies(to=b"\r\nNX\r\n", hang=True)
    claiming = asyncio.create_task(far.set_if_not_exists(f"{redis_prefix}k", "mine", 60))
    await asyncio.sleep(0.1)
    proxy.refuse()
    with pytest.raises(ReplyLostError):
        await claiming
    proxy.heal()


# --- the end


async def test_stop_waits_for_what_was_issued(redis_url: str, redis_prefix: str, raw: Redis) -> None:
    """Commands that are under way when the client is stopped get their answers."""
    client = RedisClient(client_id="leaving", redis_url=redis_url)
    await client.start()
    tasks = [asyncio.create_task(client.setex(f"{redis_prefix}{n}", 60, "v")) for n in range(500)]
    await asyncio.sleep(0)
    await client.stop()
    assert await asyncio.gather(*tasks) == [True] * 500


async def test_stop_does_not_wait_for_ever(proxy: FaultProxy) -> None:
    """A command without an answer is given up when the stop time-out has passed, and its caller told."""
    config = RedisClientConfig(stop_timeout_s=0.1)
    client = RedisClient(client_id="stopped", redis_url=proxy.url, config=config)
    await client.start()
    proxy.silence()
    task = asyncio.create_task(client.rpush("k", "v"))
    await asyncio.sleep(0.05)
    async with asyncio.timeout(10):
        await client.stop()
        with pytest.raises(ReplyLostError, match="the client was stopped"):
            await task
    proxy.cut()
    proxy.heal()


async def test_stop_ends_an_attempt_to_connect(proxy: FaultProxy) -> None:
    """Commands that wait for a connection when the client is stopped are told, and the attempt leaves nothing."""
    config = RedisClientConfig(stop_timeout_s=0.1)
    client = RedisClient(client_id="stopped", redis_url=proxy.url, config=config)
    await client.start()
    proxy.cut()
    proxy.silence()
    await asyncio.sleep(0.05)
    task = asyncio.create_task(client.rpush("k", "v"))
    await asyncio.sleep(0.05)
    async with asyncio.timeout(10):
        await client.stop()
        with pytest.raises(RedisConnectionError):
            await task
    proxy.cut()
    proxy.heal()


async def test_another_loop_is_refused_while_the_first_is_open(client: RedisClient) -> None:
    """A client that belongs to one loop says so in another, for every command."""

    async def elsewhere() -> None:
        for call in (
            client.get("k"),
            client.scard("k"),
            client.blpop(["k"], 0.1),
            client.create_transaction_pipeline(),
        ):
            with pytest.raises(RuntimeError, match="belongs to another event loop"):
                await call

    await asyncio.to_thread(asyncio.run, elsewhere())


def test_a_client_outlives_its_loop(redis_url: str, redis_prefix: str) -> None:
    """When its loop is closed, the client serves the next one, with all kinds of commands."""
    client = RedisClient(client_id="moving", redis_url=redis_url)

    async def use() -> None:
        await client.start()
        assert await client.setex(f"{redis_prefix}k", 60, "v")
        assert await client.blpop([f"{redis_prefix}none"], 0.01) is None
        async with await client.create_transaction_pipeline(f"{redis_prefix}k") as pipe:
            assert await pipe.get(f"{redis_prefix}k") == "v"
        assert await client.client.get(f"{redis_prefix}k") == "v"
        await client._connections.aclose()
        line = client._executor._line
        assert line is not None
        line._transport.close()  # what a test's loop does to it when it ends
        await asyncio.sleep(0.01)

    async def end() -> None:
        await use()
        await client.stop()

    asyncio.run(use())
    asyncio.run(use())
    asyncio.run(end())


def test_a_stopped_client_is_started_in_another_loop(redis_url: str, redis_prefix: str) -> None:
    """Each loop starts it, has callers queue for commands, transactions and raw connections, and stops it."""
    config = RedisClientConfig(max_connections=2, pipelining=PipeliningConfig(unanswered=2))
    client = RedisClient(client_id="reused", redis_url=redis_url, config=config)

    async def read(number: int) -> str | None:
        async with client.watch(f"{redis_prefix}{number}") as transaction:
            await client.client.get(f"{redis_prefix}{number}")
            value = await transaction.get(f"{redis_prefix}{number}")
            return None if value is None else str(value)

    async def use() -> None:
        async with client:
            await asyncio.gather(*(client.setex(f"{redis_prefix}{n}", 60, str(n)) for n in range(30)))
            assert await asyncio.gather(*(read(n) for n in range(30))) == [str(n) for n in range(30)]

    for _ in range(3):
        asyncio.run(use())
