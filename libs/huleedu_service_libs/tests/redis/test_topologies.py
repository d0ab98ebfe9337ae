"""One client, whatever stands behind its URL: a server, Sentinels, a cluster, TLS. Real servers."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, WatchError
from structlog.testing import capture_logs

from huleedu_service_libs.health import Level, redis_probe
from huleedu_service_libs.queue_redis_client import QueueRedisClient
from huleedu_service_libs.redis_access import RedisAccess, RedisTls
from huleedu_service_libs.redis_client import RedisClient, RedisClientConfig, RedisUnreachableError
from huleedu_service_libs.redis_pubsub import FROM_START, Notification, NotificationHistory, PubSubConfig
from huleedu_service_libs.testing.devstack import DevStack, RedisNodesServer, RedisTlsServer, Server
from huleedu_service_libs.testing.devstack.certificates import Certificates

pytestmark = pytest.mark.integration


SECURED = ["redis_tls", "redis_sentinel_tls", "redis_cluster_tls"]


def _config(server: Server, **more: Any) -> RedisClientConfig:
    """What a client of the server needs beside its URL."""
    files = getattr(server, "certificates", None)
    if files is None:
        return RedisClientConfig(**more)
    tls = RedisTls(ca_file=files.authority, certificate_file=files.client, key_file=files.client_key)
    return RedisClientConfig(access=RedisAccess(tls=tls), **more)


@pytest.fixture(name="place", params=["redis_server", "redis_sentinel", "redis_cluster", *SECURED])
def _place(request: pytest.FixtureRequest) -> tuple[str, RedisClientConfig]:
    """A URL, and the settings that go with it."""
    server: Server = request.getfixturevalue(request.param)
    return server.address, _config(server)


@pytest.fixture(name="anywhere")
async def _anywhere(place: tuple[str, RedisClientConfig]) -> AsyncIterator[RedisClient]:
    url, config = place
    async with RedisClient(client_id="anywhere", redis_url=url, config=config) as client:
        yield client


async def test_health_looks_the_same_way(anywhere: RedisClient) -> None:
    """The health probe of a client reaches what the client reaches, with its credentials and certificates."""
    finding = await redis_probe(anywhere).look()
    assert finding is not None
    assert finding.level is Level.PASS
    assert finding.details["response_time_seconds"] > 0


async def test_commands_and_scripts(anywhere: RedisClient, redis_prefix: str) -> None:
    """Plain commands, a scan over all keys and a script work alike."""
    keys = [f"{redis_prefix}{number}" for number in range(20)]
    assert await asyncio.gather(*(anywhere.set_if_not_exists(key, "v", 60) for key in keys)) == [True] * 20
    assert await anywhere.set_if_not_exists(keys[0], "w") is False
    assert sorted(await anywhere.scan_pattern(f"{redis_prefix}*")) == sorted(keys)
    sha = await anywhere.register_script("return redis.call('GET', KEYS[1]) .. ARGV[1]")
    assert [await anywhere.execute_script(sha, [key], ["!"]) for key in keys] == ["v!"] * 20
    assert "redis_version" in await anywhere.server_info()


async def test_transactions(anywhere: RedisClient, redis_prefix: str) -> None:
    """A transaction runs as one, and a watched key that was changed by somebody else stops it."""
    key, other = f"{redis_prefix}{{essay}}:status", f"{redis_prefix}{{essay}}:log"
    async with await anywhere.create_transaction_pipeline(key) as pipe:
        pipe.multi()  # type: ignore[no-untyped-call]  # the driver has no hint there
        pipe.setex(key, 60, "new")
        pipe.rpush(other, "created")  # type: ignore[unused-awaitable]  # queued
        assert await pipe.execute() == [True, 1]
    async with await anywhere.create_transaction_pipeline(key) as pipe:
        await anywhere.setex(key, 60, "other")
        pipe.multi()  # type: ignore[no-untyped-call]  # the driver has no hint there
        pipe.setex(key, 60, "mine")
        with pytest.raises(WatchError):
            await pipe.execute()
    assert await anywhere.get(key) == "other"


async def test_waiting_and_notifications(anywhere: RedisClient, redis_prefix: str) -> None:
    """A blocking pop and a subscription get what is sent to them."""
    waiting = asyncio.create_task(anywhere.blpop([f"{redis_prefix}q"], 10))
    async with anywhere.subscribe(f"{redis_prefix}c") as pubsub:
        await anywhere.rpush(f"{redis_prefix}q", "item")
        assert await waiting == (f"{redis_prefix}q", "item")
        await anywhere.publish(f"{redis_prefix}c", "hello")
        async with asyncio.timeout(20):
            while (message := await pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0)) is None:
                pass
        assert message["data"] == "hello"


async def test_kept_notifications(place: tuple[str, RedisClientConfig], redis_prefix: str) -> None:
    """Who follows a user's notifications gets those from before and those from now, wherever they are kept."""
    url, config = place
    kept = PubSubConfig(history=NotificationHistory(key_prefix=redis_prefix))
    async with RedisClient(client_id="kept", redis_url=url, config=config, pubsub_config=kept) as client:
        await client.publish_user_notification(redis_prefix, "essay_done", {"n": 1})
        async with client.follow_user(redis_prefix, after=FROM_START) as follower:
            await client.publish_user_notification(redis_prefix, "essay_done", {"n": 2})
            found = [await follower.get(timeout=20) for _ in range(2)]
    assert [json.loads(each.text)["data"]["n"] for each in found if isinstance(each, Notification)] == [1, 2]


async def test_queues(place: tuple[str, RedisClientConfig], redis_prefix: str) -> None:
    """The queue client takes the same URLs and settings."""
    url, config = place
    async with QueueRedisClient(client_id="queue", redis_url=url, config=config) as queue:
        key = f"{redis_prefix}{{q}}"
        assert await queue.pipeline().zadd(key, {"a": 2, "b": 1}).hset(f"{key}:h", "a", "x").execute() == [2, 1]
        assert await queue.get_queue_items(key, 5) == ["b", "a"]


# --- TLS


async def test_tls_by_the_url_alone(redis_tls: RedisTlsServer) -> None:
    """A service that only hands its URL on needs no other setting: the files are its parameters."""
    files = redis_tls.certificates
    parameters = f"ssl_ca_certs={files.authority}&ssl_certfile={files.client}&ssl_keyfile={files.client_key}"
    async with RedisClient(client_id="url", redis_url=f"{redis_tls.address}?{parameters}") as client:
        assert await client.ping() is True


@pytest.mark.parametrize("fixture", SECURED)
@pytest.mark.parametrize("lacking", ["authority", "certificate"])
async def test_tls_that_does_not_fit_is_refused(request: pytest.FixtureRequest, fixture: str, lacking: str) -> None:
    """An authority that is not trusted, or a client without a certificate: `start` says so, whatever is behind the URL."""
    server = request.getfixturevalue(fixture)
    files: Certificates = server.certificates
    tls = (
        RedisTls(certificate_file=files.client, key_file=files.client_key)
        if lacking == "authority"
        else RedisTls(ca_file=files.authority)
    )
    config = RedisClientConfig(access=RedisAccess(tls=tls))
    client = RedisClient(client_id="stranger", redis_url=server.address, config=config)
    with pytest.raises(RedisUnreachableError, match="'stranger' reached no server at rediss") as caught:
        await client.start()
    assert server.address.partition("/0")[0] in str(caught.value)
    assert "fail-over" not in str(caught.value)
    await client.stop()


# --- ACL


@pytest.fixture(name="user")
async def _user(client: RedisClient, redis_prefix: str) -> AsyncIterator[str]:
    """A user who may use keys of this test only; the password is ``hemlig``."""
    name = redis_prefix.rstrip(":")
    await client.client.acl_setuser(
        name, enabled=True, passwords=["+hemlig"], keys=[f"{redis_prefix}*"], categories=["+@all"]
    )
    yield name
    await client.client.acl_deluser(name)


@pytest.mark.parametrize("way", ["url", "access"])
async def test_an_acl_user(user: str, way: str, redis_url: str, redis_prefix: str) -> None:
    """Credentials come in the URL or apart from it; what the user may not do is refused, and nothing else."""
    url, config = redis_url, RedisClientConfig(access=RedisAccess(username=user, password="hemlig"))
    if way == "url":
        url, config = redis_url.replace("://", f"://{user}:hemlig@"), RedisClientConfig()
    async with RedisClient(client_id="acl", redis_url=url, config=config) as client:
        assert await client.setex(f"{redis_prefix}k", 60, "v") is True
        with pytest.raises(NoPermissionError):
            await client.get("somebody-elses")
        assert await client.get(f"{redis_prefix}k") == "v"


async def test_a_wrong_password_is_told_without_it(user: str, redis_url: str) -> None:
    """The server's own error, and the password neither in it nor in any log line."""
    client = RedisClient(client_id="acl", redis_url=redis_url.replace("://", f"://{user}:gissning@"))
    with capture_logs() as logs, pytest.raises(AuthenticationError) as caught:
        await client.start()
    assert "gissning" not in f"{caught.value!r} {caught.value} {client!r} {logs}"
    await client.stop()


# --- Sentinel


@pytest.fixture(name="watched", params=["redis_sentinel", "redis_sentinel_tls"])
def _watched(request: pytest.FixtureRequest) -> Iterator[RedisNodesServer]:
    """Sentinels of this test's own."""
    with DevStack([request.param], environ={}) as stack:
        server = stack.servers[request.param]
        assert isinstance(server, RedisNodesServer)
        yield server


async def test_a_fail_over_is_followed(watched: RedisNodesServer, redis_prefix: str) -> None:
    """When the primary is killed, commands fail for as long as the fail-over takes, and then reach the new one."""
    config = _config(watched, socket_timeout_s=2, connect_timeout_s=2)
    async with (
        RedisClient(client_id="followed", redis_url=watched.address, config=config) as client,
        QueueRedisClient(client_id="queue", redis_url=watched.address, config=config) as queue,
    ):
        await client.setex(f"{redis_prefix}before", 600, "kept")
        assert await client.client.wait(1, 5_000) == 1  # the replica has it: replication is asynchronous
        await queue.zadd(f"{redis_prefix}q", {"a": 1})
        await asyncio.to_thread(watched.kill_node, 0)
        async with asyncio.timeout(60):
            while not await _writes(client, f"{redis_prefix}after"):
                await asyncio.sleep(0.1)
        assert await client.get(f"{redis_prefix}before") == "kept"
        assert await queue.zadd(f"{redis_prefix}q2", {"a": 1}) == 1
        async with await client.create_transaction_pipeline(f"{redis_prefix}after") as pipe:
            pipe.multi()  # type: ignore[no-untyped-call]  # the driver has no hint there
            pipe.setex(f"{redis_prefix}after", 60, "again")
            assert await pipe.execute() == [True]


async def test_subscribers_follow_a_fail_over(watched: RedisNodesServer, redis_prefix: str) -> None:
    """A subscriber from before the fail-over gets what is published after it, and is told of the gap in between."""
    config = _config(watched, socket_timeout_s=2, connect_timeout_s=2)
    async with (
        RedisClient(client_id="listening", redis_url=watched.address, config=config) as client,
        client.subscribe(redis_prefix) as pubsub,
    ):
        await asyncio.to_thread(watched.kill_node, 0)
        async with asyncio.timeout(60):
            while not await _writes(client, f"{redis_prefix}after"):
                await asyncio.sleep(0.1)
            while await client.publish(redis_prefix, "hello") == 0:
                await asyncio.sleep(0.1)
            while (message := await pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0)) is None:
                pass
        assert message["data"] == "hello"
        assert pubsub.gaps


async def _writes(client: RedisClient, key: str) -> bool:
    try:
        return await client.setex(key, 60, "v")
    except (RedisError, OSError):
        return False


async def test_sentinels_that_do_not_know_the_service_say_so(redis_sentinel: RedisNodesServer) -> None:
    """A misspelt service is named in the error, with what each Sentinel said."""
    url = redis_sentinel.address.rpartition("/")[0] + "/essay"
    client = RedisClient(client_id="lost", redis_url=url)
    with pytest.raises(RedisUnreachableError, match="No Sentinel names a primary for the service 'essay'") as caught:
        await client.start()
    assert str(caught.value).count("does not know it") == 3
    await client.stop()
