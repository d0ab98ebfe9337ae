"""Create and drop databases and topics from synchronous code, whatever loop is running.

``servers`` and the pytest fixtures use these. The drivers are imported when
they are needed: the tool also serves those who have none installed.
"""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar
from uuid import uuid4

from huleedu_service_libs._extras import requires_extra

__all__ = ["create_database", "create_topic", "delete_topic", "drop_database"]

T = TypeVar("T")

_LIMIT_S = 30.0


def create_database(server: str, template: str | None) -> str:
    """Create a database.

    Args:
        server: Address of a database to connect to meanwhile.
        template: Database to copy; None for an empty one.

    Returns:
        The new name.
    """
    name = f"test_{uuid4().hex[:16]}"
    copy = f' TEMPLATE "{template}"' if template else ""
    _run(_execute(server, f'CREATE DATABASE "{name}"{copy}'))
    return name


def drop_database(server: str, name: str) -> None:
    """Drop a database, its connections included, when it exists.

    Args:
        server: Address of another database, to connect to meanwhile.
        name: The database to drop.
    """
    _run(_execute(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


def create_topic(bootstrap: str, name: str, *, partitions: int, replicas: int) -> None:
    """Create a topic.

    Args:
        bootstrap: Kafka bootstrap servers.
        name: Its name.
        partitions: Number of partitions.
        replicas: Copies of each.
    """
    _run(_admin(bootstrap, name, partitions, replicas))


def delete_topic(bootstrap: str, name: str) -> None:
    """Delete a topic.

    Args:
        bootstrap: Kafka bootstrap servers.
        name: Its name.
    """
    _run(_admin(bootstrap, name, 0, 0))


async def _execute(server: str, statement: str) -> None:
    with requires_extra("outbox", module=__name__):
        import asyncpg  # noqa: PLC0415 - optional

    connection = await asyncpg.connect(server, timeout=_LIMIT_S)
    try:
        await connection.execute(statement, timeout=_LIMIT_S)
    finally:
        await connection.close()


async def _admin(bootstrap: str, name: str, partitions: int, replicas: int) -> None:
    with requires_extra("kafka", module=__name__):
        from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # noqa: PLC0415 - optional
        from aiokafka.errors import for_code  # noqa: PLC0415 - optional

    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        if not partitions:
            await admin.delete_topics([name])
            return
        answer = await admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=replicas)])
        for _, code, *text in answer.topic_errors:
            if code:
                raise for_code(code)(*text)
    finally:
        await admin.close()


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end in a thread of its own, since the caller's may have a running loop."""
    outcome: Future[T] = Future()

    def _target() -> None:
        try:
            outcome.set_result(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            outcome.set_exception(error)

    thread = threading.Thread(target=_target, name="devstack")
    thread.start()
    thread.join()
    return outcome.result()
