"""Topics and databases from synchronous code: limits and refusals, without a server."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import AsyncMock, MagicMock, patch

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import TopicAuthorizationFailedError

from huleedu_service_libs.testing.devstack import DevStackError, KafkaServer, Kind, databases


async def _hang() -> None:
    await asyncio.Event().wait()


async def _fail() -> None:
    raise TimeoutError("the server's own")


def test_work_that_hangs_is_left_behind() -> None:
    """A server that accepts and never answers holds no test run."""
    with pytest.raises(DevStackError, match=r"did not finish hang within 0\.05 s"):
        databases._run(_hang(), limit_s=0.05)


def test_errors_of_the_work_pass_unchanged() -> None:
    """A time-out of the driver is the driver's."""
    with pytest.raises(TimeoutError, match="the server's own"):
        databases._run(_fail())


@contextmanager
def _admin(**answers: Any) -> Iterator[AsyncMock]:
    admin = AsyncMock(spec=AIOKafkaAdminClient)
    admin.delete_topics.return_value = MagicMock(**answers)
    with patch("aiokafka.admin.AIOKafkaAdminClient", return_value=admin):
        yield admin


@pytest.mark.parametrize("code", [0, 3], ids=["deleted", "not there"])
def test_a_deleted_topic_is_gone(code: int) -> None:
    """It alone is deleted, and the connection closed; deleting what does not exist is no error."""
    with _admin(topic_error_codes=[("essays", code)]) as admin:
        databases.delete_topic("kafka:9092", "essays")
    (asked,) = admin.delete_topics.await_args_list
    assert asked.args[0] == ["essays"]
    admin.close.assert_awaited_once_with()


def test_a_refused_deletion_is_an_error() -> None:
    """The broker's answer counts, not only that it answered."""
    with _admin(topic_error_codes=[("essays", 29)]), pytest.raises(TopicAuthorizationFailedError, match="essays"):
        databases.delete_topic("kafka:9092", "essays")


@pytest.mark.parametrize(("address", "replicas"), [("one:1", 1), ("one:1,two:2,three:3,four:4", 3)])
def test_a_cluster_keeps_as_many_copies_as_it_can(address: str, replicas: int) -> None:
    """By default a topic has a copy on each node, three at most; or as many as asked for."""
    kafka = KafkaServer(name="kafka", kind=Kind.ADDRESS, address=address, label="test")
    with patch("huleedu_service_libs.testing.devstack.servers.create_topic") as create:
        kafka.create_topic("essays", partitions=2)
        kafka.create_topic("essays", replicas=1)
    assert [call.kwargs for call in create.call_args_list] == [
        {"partitions": 2, "replicas": replicas},
        {"partitions": 1, "replicas": 1},
    ]
