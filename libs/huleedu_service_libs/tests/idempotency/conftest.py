"""Fixtures of the idempotency tests: time that only a test moves, and a Redis in it, with and without scripts."""

import pytest

from libs.huleedu_service_libs.tests.idempotency.fakes import FakeRedis, FakeTime, ScriptedRedis


@pytest.fixture(name="time")
def _time() -> FakeTime:
    return FakeTime()


@pytest.fixture(name="redis", params=[FakeRedis, ScriptedRedis])
def _redis(request: pytest.FixtureRequest, time: FakeTime) -> FakeRedis:
    redis: FakeRedis = request.param(time)
    return redis


@pytest.fixture(name="plain")
def _plain(time: FakeTime) -> FakeRedis:
    return FakeRedis(time)
