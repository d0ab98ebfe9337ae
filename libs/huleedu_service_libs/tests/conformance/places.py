"""Where a client of these suites finds its Redis: in memory, on a server, on a cluster."""

from collections.abc import Callable
from typing import TypeVar

import pytest

__all__ = ["PLACES", "client_in"]

PLACES = ["fake", "server", "cluster"]
C = TypeVar("C")


def client_in(request: pytest.FixtureRequest, fake: Callable[[], C], real: Callable[..., C]) -> C:
    """The client for the fixture's parameter, one of `PLACES`."""
    if request.param == "fake":
        return fake()
    fixture = {"server": "redis_server", "cluster": "redis_cluster"}[request.param]
    return real(client_id="conformance", redis_url=request.getfixturevalue(fixture).address)
