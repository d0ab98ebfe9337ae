"""Create and drop databases and topics from synchronous code, whatever loop is running.

``servers`` and the pytest fixtures use these. The drivers are imported when
they are needed: the tool also serves those who have none installed.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from uuid import uuid4

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.testing.devstack.errors import DevStackError

__all__ = ["create_database", "create_topic", "delete_topic", "drop_database"]

T = TypeVar("T")

_LIMIT_S = 30.0
_WHOLE_LIMIT_S = 90.0


def create_database(server: str, template: str | None) -> str:
    """Create a database.

    Args:
        server: Address of a database to connect to meanwhile.
        template: Database to copy; None for an empty one.

    Returns:
        The new name.

    Raises:
        DevStackError: The server did not do it in time.
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

    Raises:
        DevStackError: The server did not do it in time.
    """
    _run(_execute(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


def create_topic(bootstrap: str, name: str, *, partitions: int, replicas: int) -> None:
    """Create a topic.

    Args:
        bootstrap: Kafka bootstrap servers.
        name: Its name.
        partitions: Number of partitions.
        replicas: Copies of each.

    Raises:
        DevStackError: The server did not do it in time.
    """
    _run(_create_topic(bootstrap, name, partitions, replicas))


def delete_topic(bootstrap: str, name: str) -> None:
    """Delete a topic, when it exists.

    Args:
        bootstrap: Kafka bootstrap servers.
        name: Its name.

    Raises:
        DevStackError: The server did not do it in time.
    """
    _run(_delete_topic(bootstrap, name))


async def _execute(server: str, statement: str) -> None:
    with requires_extra("outbox", module=__name__):
        import asyncpg  # noqa: PLC0415 - optional

    connection = await asyncpg.connect(server, timeout=_LIMIT_S)
    try:
        await connection.execute(statement, timeout=_LIMIT_S)
    finally:
        await connection.close()


async def _create_topic(bootstrap: str, name: str, partitions: int, replicas: int) -> None:
    async with _admin(bootstrap) as (admin, driver):
        topic = driver.admin.NewTopic(name, num_partitions=partitions, replication_factor=replicas)
        answer = await admin.create_topics([topic])
        for _, code, *text in answer.topic_errors:
            if code:
                raise driver.errors.for_code(code)(*text)


async def _delete_topic(bootstrap: str, name: str) -> None:
    async with _admin(bootstrap) as (admin, driver):
        answer = await admin.delete_topics([name])
        for topic, code in answer.topic_error_codes:
            if code not in {0, driver.errors.UnknownTopicOrPartitionError.errno}:
                raise driver.errors.for_code(code)(f"topic {topic!r} was not deleted")


@asynccontextmanager
async def _admin(bootstrap: str) -> AsyncIterator[tuple[Any, Any]]:
    """Yield a client that may change topics, and its driver."""
    with requires_extra("kafka", module=__name__):
        import aiokafka.admin  # noqa: PLC0415 - optional
        import aiokafka.errors  # noqa: PLC0415 - optional

    admin = aiokafka.admin.AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        yield admin, aiokafka
    finally:
        await admin.close()


def _run(work: Coroutine[Any, Any, T], *, limit_s: float = _WHOLE_LIMIT_S) -> T:
    """Run to the end in a thread of its own, since the caller's may have a running loop.

    Raises:
        DevStackError: It did not end in time; the thread is left behind and ends with the process.
    """
    outcome: Future[T] = Future()

    def _target() -> None:
        try:
            outcome.set_result(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            outcome.set_exception(error)

    threading.Thread(target=_target, name="devstack", daemon=True).start()
    try:
        return outcome.result(timeout=limit_s)
    except TimeoutError:
        if outcome.done():  # an error of the work itself
            raise
        raise DevStackError(f"a server did not finish {_name(work)} within {limit_s:g} s") from None


def _name(work: Coroutine[Any, Any, Any]) -> str:
    return str(getattr(work, "__name__", "its work")).strip("_")
