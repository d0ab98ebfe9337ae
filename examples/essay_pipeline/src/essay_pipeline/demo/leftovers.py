"""Removes what a run left on servers that go on running: databases, topics, consumer groups, Redis keys.

`processes` calls it at the end. It never raises: a run that failed because a
server is gone must not end with a complaint about that server's leftovers.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupIdNotFound, for_code
from aiokafka.protocol.admin import DeleteGroupsRequest
from redis.asyncio import Redis

from huleedu_service_libs.testing.devstack.server import Kind
from huleedu_service_libs.testing.devstack.servers import KafkaServer, PostgresServer, RedisServer

__all__ = ["remove_databases", "remove_keys", "remove_topics_and_groups"]

_LIMIT_S = 15.0
_KEYS_AT_ONCE = 500

Tell = Callable[[str], None]


def remove_databases(postgres: PostgresServer, databases: Sequence[str], tell: Tell) -> None:
    """Drop databases, also on a server that ends soon: the tests' lives as long as the session."""
    for database in databases:
        _try("postgres", partial(postgres.drop_database, database), tell)


def remove_topics_and_groups(kafka: KafkaServer, topics: Sequence[str], groups: Sequence[str], tell: Tell) -> None:
    """Delete topics and consumer groups on a server that somebody else runs."""
    if kafka.kind is not Kind.ADDRESS:
        return
    for topic in topics:
        _try("kafka", partial(kafka.delete_topic, topic), tell)
    for group in groups:
        _try("kafka", partial(_run, partial(_delete_group, kafka.address, group)), tell)


def remove_keys(redis: RedisServer, prefix: str, tell: Tell) -> None:
    """Delete all keys that begin with ``prefix`` on a server that somebody else runs."""
    if redis.kind is Kind.ADDRESS:
        _try("redis", partial(_run, partial(_delete_keys, redis.address, prefix)), tell)


def _try(server: str, remove: Callable[[], None], tell: Tell) -> None:
    try:
        remove()
    except Exception as error:  # noqa: BLE001  # whatever it is, the reason why the run ended must stay visible
        tell(f"{server}: something of this run may be left there ({type(error).__name__}: {error})")


def _run(work: Callable[[], Awaitable[None]]) -> None:
    """Run in a thread of its own, since the caller's may have a running loop."""
    failures: list[BaseException] = []

    async def limited() -> None:
        async with asyncio.timeout(_LIMIT_S):
            await work()

    def target() -> None:
        try:
            asyncio.run(limited())
        except BaseException as error:  # noqa: BLE001  # handed to the caller
            failures.append(error)

    thread = threading.Thread(target=target, name="leftovers", daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


async def _delete_group(bootstrap_servers: str, group: str) -> None:
    """Delete one group; nothing happens when it does not exist.

    Raises:
        KafkaError: It cannot be deleted, because a member has not left yet, say.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        # aiokafka speaks this part of the protocol, but its client has no method for it.
        coordinator = await admin.find_coordinator(group)
        answer = await admin._send_request(DeleteGroupsRequest([group]), coordinator)  # noqa: SLF001  # as above
        for _, code in answer.results:
            if code not in {0, GroupIdNotFound.errno}:
                raise for_code(code)(f"consumer group {group!r}")
    finally:
        await admin.close()


async def _delete_keys(address: str, prefix: str) -> None:
    async with Redis.from_url(address) as redis:
        found = [key async for key in redis.scan_iter(match=f"{prefix}*", count=_KEYS_AT_ONCE)]
        for first in range(0, len(found), _KEYS_AT_ONCE):
            await redis.unlink(*found[first : first + _KEYS_AT_ONCE])
