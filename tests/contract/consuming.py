"""A consumer under the decorator, and a Redis of four methods that remembers what it was asked. For the tests of sections 5, 17 and 18."""

import json
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

from huleedu_service_libs.idempotency_v2 import IdempotencyConfig, idempotent_consumer

__all__ = ["BODY", "Redis", "confirming", "consume", "handler_of", "message"]

BODY: dict[str, Any] = {
    "event_id": "e-1",
    "event_type": "huleedu.essay.graded.v1",
    "source_service": "grader",
    "correlation_id": "c-1",
    "data": {"essay": "räka"},
}


class Redis:
    """Nothing but the four methods; each can be told to fail.

    Attributes:
        stored: Values by key.
        asked: Method and arguments of each call, in order.
        failing: The error that a method raises, by its name.
        lost: Whether `set_if_not_exists` finds that somebody was quicker.
    """

    def __init__(self, stored: str | None = None, *, failing: dict[str, Exception] | None = None) -> None:
        self.stored: dict[str, str] = {}
        self.asked: list[tuple[Any, ...]] = []
        self.failing = failing or {}
        self.lost = False
        self._everywhere = stored

    async def get(self, key: str) -> str | None:
        self._ask("get", key)
        return self.stored.get(key, self._everywhere)

    async def set_if_not_exists(self, key: str, value: str, ttl_seconds: int | None = None) -> bool:
        self._ask("set_if_not_exists", key, value, ttl_seconds)
        if self.lost or key in self.stored:
            return False
        self.stored[key] = value
        return True

    async def setex(self, key: str, ttl: int, value: str) -> bool:
        self._ask("setex", key, ttl, value)
        self.stored[key] = value
        return True

    async def delete_key(self, key: str) -> int:
        self._ask("delete_key", key)
        self._everywhere = None
        return int(self.stored.pop(key, None) is not None)

    def _ask(self, method: str, *arguments: Any) -> None:
        self.asked.append((method, *arguments))
        if method in self.failing:
            raise self.failing[method]

    @property
    def methods(self) -> list[str]:
        """What was called, in order."""
        return [one[0] for one in self.asked]

    @property
    def key(self) -> str:
        """The one key that everything was about."""
        (key,) = {one[1] for one in self.asked}
        return str(key)

    def payload(self, method: str) -> dict[str, Any]:
        """The JSON that one call has written."""
        (call,) = [one for one in self.asked if one[0] == method]
        found: dict[str, Any] = json.loads(next(one for one in call[2:] if isinstance(one, str)))
        return found


def message(body: Any = None, headers: Any = ()) -> Any:
    """What a consumer needs of a record; a body that is no bytes is made JSON."""
    value = body if isinstance(body, bytes) else json.dumps(BODY if body is None else body).encode()
    return SimpleNamespace(value=value, headers=headers, topic="t", partition=3, offset=7)


def handler_of(redis: Any, *, result: Any = True, confirms: bool = False, config: Any = None) -> Any:
    """A decorated handler; it returns ``result`` or raises it."""

    @idempotent_consumer(redis_client=redis, config=config or IdempotencyConfig("essay-service", {}, 77))
    async def handle(msg: Any, *, confirm_idempotency: Any) -> Any:
        """Handle one message."""
        if confirms:
            await confirm_idempotency()
        if isinstance(result, BaseException):
            raise result
        return result

    return handle


def confirming(redis: Any) -> tuple[Any, Mock]:
    """A decorated handler that confirms and answers ``done``, as services have it; and what it calls when it runs."""
    ran = Mock()

    @idempotent_consumer(redis_client=redis, config=IdempotencyConfig(service_name="svc"))
    async def handle(_msg: Any, *, confirm_idempotency: Any) -> str:
        ran()
        await confirm_idempotency()
        return "done"

    return handle, ran


async def consume(redis: Any, msg: Any = None, **how: Any) -> Any:
    """Take one message to a handler."""
    return await handler_of(redis, **how)(msg if msg is not None else message())
