"""How members of one group come together, on a real broker."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from pydantic import BaseModel

from huleedu_service_libs.kafka.consumer import ConsumerConfig, Delivery, EventConsumer

pytestmark = pytest.mark.integration


class _Data(BaseModel):
    n: int


def _member(
    group: str, topic: str, address: str, assignment: Literal["sticky", "range", "roundrobin"]
) -> EventConsumer:
    config = ConsumerConfig(group_id=group, topics=(topic,), session_timeout_s=6.0, assignment=assignment)
    consumer = EventConsumer(config, bootstrap_servers=address)

    @consumer.on("joined.v1", model=_Data)
    async def handle(_: Delivery[_Data]) -> None:
        """Nothing comes."""

    return consumer


@pytest.mark.parametrize("assignment", ["sticky", "range", "roundrobin"])
async def test_a_group_that_has_come_together_stays_as_it_is(
    assignment: Literal["sticky", "range", "roundrobin"],
    kafka_topic: Callable[..., str],
    kafka_bootstrap_servers: str,
    unique_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second member makes the first join again, once; then nobody does: members that join twice chase each other for long."""
    asked = Counter[str]()
    send = GroupCoordinator._send_req

    async def counted(self: Any, request: Any) -> Any:
        asked[type(request).__name__] += 1
        return await send(self, request)

    monkeypatch.setattr(GroupCoordinator, "_send_req", counted)
    topic = kafka_topic("joining", partitions=4)
    first, second = (_member(unique_name, topic, kafka_bootstrap_servers, assignment) for _ in range(2))
    async with first, second:
        await asyncio.sleep(3.0)  # that nothing happens takes time to see
    # Each once to be given its id and once with it, the first again because of the second; the broker may ask for one more.
    assert 5 <= asked["JoinGroupRequest"] <= 7
