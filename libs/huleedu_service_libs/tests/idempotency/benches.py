"""A bench for handlers: one that records its runs, on a Redis whose time and failures a test decides."""

import asyncio
import json
from typing import Any

from prometheus_client import REGISTRY

from huleedu_service_libs.idempotency_v2 import (
    IdempotencyConfig,
    idempotent_consumer,
)
from libs.huleedu_service_libs.tests.idempotency.fakes import FakeRedis, FakeTime
from libs.huleedu_service_libs.tests.idempotency_test_utils import create_test_message

EVENT = create_test_message()
HASH = "d30836992a7a98beae277c715ced69efbe604fe14bc874679aba06ea99576f62"
KEY = f"huleedu:idempotency:v2:svc:test_event_v1:{HASH}"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Bench:
    """A decorated handler that records its runs and does what a test tells it to."""

    def __init__(self, redis: FakeRedis, **config: Any) -> None:
        self.redis = redis
        self.runs = 0
        self.confirming = True
        self.error: BaseException | None = None
        self.result: Any = True
        time = redis.time
        decorate = idempotent_consumer(
            redis.port(), IdempotencyConfig("svc", **config), now=time.now, clock=time.clock, sleep=time.sleep
        )
        self.deliver = decorate(self._handle)

    async def _handle(self, _msg: Any, *, confirm_idempotency: Any) -> Any:
        """Process."""
        self.runs += 1
        if self.error is not None:
            raise self.error
        if self.confirming:
            await confirm_idempotency()
        return self.result


def value_of(metric: str, **labels: str) -> float:
    """A metric of the service, 0 while it has none."""
    return REGISTRY.get_sample_value(metric, {"service": "svc", **labels}) or 0.0


def claimed_by_other(time: FakeTime, age: float = 10) -> str:
    """The record of a claim that another worker has."""
    record = {"status": "processing", "started_at": time.seconds - age, "processed_by": "other", "owner": "o"}
    return json.dumps(record)


async def never_ends(_seconds: float) -> None:
    """A sleep that does not end."""
    await asyncio.Event().wait()
