"""Redis Cluster: keys of several slots, slots that move, nodes that fail. Three real nodes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ClusterDownError, RedisError

from huleedu_service_libs._redis_cluster.keys import keys_of, shared_slot
from huleedu_service_libs._redis_cluster.slots import read_slots
from huleedu_service_libs.queue_redis_client import QueueRedisClient
from huleedu_service_libs.redis_access import RedisAccess, RedisTls
from huleedu_service_libs.redis_client import CrossSlotError, NotOnClusterError, RedisClient, RedisClientConfig
from huleedu_service_libs.redis_set_operations import RedisSetOperations
from huleedu_service_libs.testing.devstack import DevStack, RedisNodesServer

needs_cluster = pytest.mark.integration


@pytest.fixture(name="cluster")
async def _cluster(redis_cluster: RedisNodesServer) -> AsyncIterator[RedisClient]:
    async with RedisClient(client_id="cluster", redis_url=redis_cluster.address) as client:
        yield client


# --- what is known without a server


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (("GET", "a"), ("a",)),
        (("SET", "a", "v", "EX", 60), ("a",)),
        (("DEL", "a", "b"), ("a", "b")),
        (("WATCH", b"a", "b"), ("a", "b")),
        (("SMOVE", "a", "b", "member"), ("a", "b")),
        (("BLPOP", "a", "b", 5), ("a", "b")),
        (("EVALSHA", "sha", 2, "a", "b", "argument"), ("a", "b")),
        (("EVALSHA", "sha", 0, "argument"), ()),
        (("SCRIPT", "LOAD", "return 1"), ()),
        (("PUBLISH", "channel", "message"), ("channel",)),
        (("INFO",), ()),
    ],
)
def test_the_keys_of_a_command(words: tuple[Any, ...], keys: tuple[str, ...]) -> None:
    """Each kind of command has its keys in another place."""
    assert keys_of(words) == keys


def test_keys_share_a_slot_by_what_stands_in_braces() -> None:
    """A common part in braces decides; without it the error names the keys, their slots and the remedy."""
    assert shared_slot(["{essay-7}:status", "{essay-7}:log"]) == shared_slot(["essay-7"])
    assert shared_slot([]) is None
    with pytest.raises(CrossSlotError) as caught:
        shared_slot(["essay-7:status", "essay-7:log"])
    assert "'essay-7:status' (slot " in str(caught.value)
    assert "{essay-7}:status and {essay-7}:log" in str(caught.value)
    assert caught.value.keys == ("essay-7:status", "essay-7:log")


def test_slots_are_read() -> None:
    """Ranges in any order, gaps, replicas left aside, and a node that leaves out its own name."""
    answer = [[8000, 16383, ["10.0.0.2", 7001, "id"], ["10.0.0.9", 7009, "id"]], [0, 7000, ["", 7000, "id"]]]
    slots = read_slots(answer, "10.0.0.1")
    assert [slots.owner(slot) for slot in (0, 7000, 7001, 8000, 16383)] == [
        ("10.0.0.1", 7000),
        ("10.0.0.1", 7000),
        None,
        ("10.0.0.2", 7001),
        ("10.0.0.2", 7001),
    ]
    slots.moved[0] = ("10.0.0.2", 7001)
    assert slots.owner(0) == ("10.0.0.2", 7001)
    assert slots.primaries == [("10.0.0.1", 7000), ("10.0.0.2", 7001)]


def test_a_key_that_needs_a_password_is_refused(tmp_path: Any) -> None:
    """What the driver's cluster client cannot do is refused before anything connects."""
    file = tmp_path / "file.pem"
    file.write_text("")
    tls = RedisTls(ca_file=file, certificate_file=file, key_password="hemlig")
    config = RedisClientConfig(access=RedisAccess(tls=tls))
    with pytest.raises(ValueError, match="key_password cannot be used with a cluster"):
        RedisClient(client_id="c", redis_url="rediss+cluster://n1", config=config)


# --- keys of several slots


@needs_cluster
async def test_keys_of_several_slots_are_refused_before_anything_is_sent(cluster: RedisClient) -> None:
    """Commands, waits, scripts and transactions: one typed error, and nothing has run."""
    await cluster.setex("a", 60, "v")
    sha = await cluster.register_script("return 1")
    with pytest.raises(CrossSlotError):
        await cluster.delete("a", "b")
    with pytest.raises(CrossSlotError):
        await cluster.blpop(["a", "b"], 1)
    with pytest.raises(CrossSlotError):
        await cluster.execute_script(sha, ["a", "b"], [])
    with pytest.raises(CrossSlotError):
        _ = await cluster.create_transaction_pipeline("a", "b")
    with pytest.raises(CrossSlotError):
        await cluster.client.sinter(["a", "b"])
    async with await cluster.create_transaction_pipeline("a") as pipe:
        pipe.multi()  # type: ignore[no-untyped-call]  # the driver has no hint there
        pipe.setex("a", 60, "w")
        with pytest.raises(CrossSlotError):
            pipe.setex("b", 60, "w")
    assert await cluster.get("a") == "v"


@needs_cluster
async def test_hash_tags_bring_keys_together(cluster: RedisClient, redis_prefix: str) -> None:
    """Keys with a common part in braces go through one command, one wait, one script, one transaction."""
    first, second = f"{{{redis_prefix}}}1", f"{{{redis_prefix}}}2"
    await cluster.setex(first, 60, "v")
    await cluster.rpush(second, "item")
    assert await cluster.blpop([f"{{{redis_prefix}}}0", second], 5) == (second, "item")
    sha = await cluster.register_script("return redis.call('EXISTS', KEYS[1], KEYS[2])")
    assert await cluster.execute_script(sha, [first, second], []) == 1
    async with cluster.watch(first, second) as transaction:
        assert await transaction.get(first) == "v"
        transaction.multi()  # type: ignore[no-untyped-call]  # the driver has no hint there
        transaction.setex(second, 60, "w")
        assert await transaction.exec() == [True]
    assert await cluster.delete(first, second) == 2


@needs_cluster
async def test_what_a_cluster_does_not_offer_is_refused(cluster: RedisClient) -> None:
    """The raw client's transactions: the error names what does the same."""
    with pytest.raises(NotOnClusterError, match=r"use create_transaction_pipeline\(\) or watch\(\)"):
        async with RedisSetOperations(cluster.client, "sets").pipeline():
            raise AssertionError("not reached")


@needs_cluster
async def test_two_thousand_commands_at_once(
    cluster: RedisClient, redis_cluster: RedisNodesServer, redis_prefix: str
) -> None:
    """They go to three nodes, share round trips and all arrive; callers of the queue client wait for their turn."""
    keys = [f"{redis_prefix}{number}" for number in range(2_000)]
    assert all(await asyncio.gather(*(cluster.setex(key, 60, key) for key in keys)))
    assert await asyncio.gather(*(cluster.get(key) for key in keys)) == keys
    assert len(await cluster.scan_pattern(f"{redis_prefix}*")) == 2_000
    config = RedisClientConfig(max_connections=4)
    async with QueueRedisClient(client_id="queue", redis_url=redis_cluster.address, config=config) as queue:
        assert all(await asyncio.gather(*(queue.exists(key) for key in keys[:300])))


# --- slots that move, nodes that fail


@pytest.fixture(name="own")
def _own() -> Iterator[RedisNodesServer]:
    """A cluster of this test's own."""
    with DevStack(["redis_cluster"], environ={}) as stack:
        server = stack.servers["redis_cluster"]
        assert isinstance(server, RedisNodesServer)
        yield server


@needs_cluster
async def test_slots_that_move_are_followed(own: RedisNodesServer) -> None:
    """While a slot moves, and after it has moved, commands reach the node that has the key; none fails."""
    ports = [int(each.rpartition(":")[2]) for each in own.address.partition("://")[2].split(",")]
    nodes = [Redis(host="127.0.0.1", port=port, decode_responses=True) for port in ports]
    ids = [str(await node.execute_command("CLUSTER MYID")) for node in nodes]  # type: ignore[no-untyped-call]
    slot, (source, target) = 0, (0, 1)  # the first node has the lowest slots
    key = next(f"{{k{n}}}" for n in range(1_000_000) if shared_slot([f"{{k{n}}}"]) == slot)
    async with RedisClient(client_id="moving", redis_url=own.address) as client:
        await client.setex(f"{key}:old", 60, "v")

        async def order(index: int, *words: Any) -> None:
            await nodes[index].execute_command("CLUSTER SETSLOT", slot, *words)  # type: ignore[no-untyped-call]

        await order(target, "IMPORTING", ids[source])
        await order(source, "MIGRATING", ids[target])
        assert await client.get(f"{key}:old") == "v"  # still there
        assert await client.setex(f"{key}:new", 60, "w") is True  # ASK: the new node takes it
        assert await client.get(f"{key}:new") == "w"
        await nodes[source].migrate("127.0.0.1", ports[target], f"{key}:old", 0, 5_000)
        for index in (target, source):
            await order(index, "NODE", ids[target])
        assert await client.get(f"{key}:old") == "v"  # MOVED
        async with await client.create_transaction_pipeline(f"{key}:old") as pipe:
            pipe.multi()  # type: ignore[no-untyped-call]  # the driver has no hint there
            pipe.setex(f"{key}:old", 60, "x")
            assert await pipe.execute() == [True]
        assert await client.rpush(f"{key}:list", "item") == 1
        assert await client.blpop([f"{key}:list"], 5) == (f"{key}:list", "item")
    for node in nodes:
        await node.aclose()


@needs_cluster
async def test_a_node_that_fails_takes_only_its_keys_along(own: RedisNodesServer) -> None:
    """While one node is down the others' keys work, its own raise; when it is back, they work again."""
    config = RedisClientConfig(connect_attempts=1, socket_timeout_s=2)
    async with RedisClient(client_id="failing", redis_url=own.address, config=config) as client:
        keys = [f"k{number}" for number in range(60)]
        await asyncio.gather(*(client.setex(key, 600, "v") for key in keys))
        await asyncio.to_thread(own.kill_node, 0)
        answers = await asyncio.gather(*(client.get(key) for key in keys), return_exceptions=True)
        failed = [answer for answer in answers if isinstance(answer, BaseException)]
        assert all(isinstance(error, (RedisError, OSError)) for error in failed)
        assert 5 <= len(failed) <= 40
        assert answers.count("v") == len(keys) - len(failed)
        async with client.subscribe("c"):
            pass  # subscriptions go to any node
        await asyncio.to_thread(own.start_node, 0)
        async with asyncio.timeout(30):
            while not await _all_work(client, keys):
                await asyncio.sleep(0.1)


async def _all_work(client: RedisClient, keys: list[str]) -> bool:
    answers = await asyncio.gather(*(client.setex(key, 60, "v") for key in keys), return_exceptions=True)
    assert all(not isinstance(answer, BaseException) or isinstance(answer, (RedisError, OSError)) for answer in answers)
    return answers.count(True) == len(keys)


@needs_cluster
async def test_slots_that_nobody_has_are_named(own: RedisNodesServer) -> None:
    """A slot without a node is an error that names it."""
    port = own.address.partition("://")[2].partition(",")[0].rpartition(":")[2]
    async with Redis(host="127.0.0.1", port=int(port)) as node:
        await node.execute_command("CLUSTER DELSLOTS", 0)  # type: ignore[no-untyped-call]  # no hint there
    key = next(f"k{n}" for n in range(1_000_000) if shared_slot([f"k{n}"]) == 0)
    only_this_node = f"redis+cluster://127.0.0.1:{port}"
    async with RedisClient(client_id="holes", redis_url=only_this_node) as client:
        with pytest.raises(ClusterDownError, match="slot"):
            await client.get(key)


@needs_cluster
async def test_no_connection_is_left_behind(redis_cluster: RedisNodesServer) -> None:
    """After `stop` no node has a connection of this client."""
    name = "leaver"
    url = f"{redis_cluster.address}?client_name={name}"
    async with RedisClient(client_id=name, redis_url=url) as client:
        await asyncio.gather(*(client.setex(f"l{number}", 60, "v") for number in range(50)))
        await client.client.set("l", "v", ex=60)
        async with await client.create_transaction_pipeline("l0"):
            pass
        assert await _named(redis_cluster, name)
    async with asyncio.timeout(10):
        while await _named(redis_cluster, name):
            await asyncio.sleep(0.05)


async def _named(server: RedisNodesServer, name: str) -> int:
    found = 0
    for each in server.address.partition("://")[2].split(","):
        async with Redis(host="127.0.0.1", port=int(each.rpartition(":")[2]), decode_responses=True) as node:
            found += sum(client["name"] == name for client in await node.client_list())
    return found
