"""Redis in front of the inbox: what it knows as processed need not be looked up in PostgreSQL.

It is written after the commit and only believed when it says "processed", so the
table alone decides: when Redis is down, has forgotten or was never asked, a query
more is all that happens.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from huleedu_service_libs import _clock
from huleedu_service_libs._redaction import error_fields
from huleedu_service_libs._troubles import Troubles
from huleedu_service_libs.idempotency_v2.script_runner import ScriptRunner
from huleedu_service_libs.idempotency_v2.scripts import for_each_key
from huleedu_service_libs.inbox.config import InboxConfig
from huleedu_service_libs.inbox.events import InboxEvent
from huleedu_service_libs.inbox.metrics import FAST_PATH_ERRORS
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.protocols import RedisClientProtocol

__all__ = ["FastPath"]

_PROCESSED = "processed"  # what is stored where there is no hash

_LOOK = for_each_key("look", 1, "    if stored then answer = stored end\n")
_STORE = for_each_key("store", 2, "    redis.call('SET', key, a1, 'EX', a2)\n    answer = 1\n")

logger = create_service_logger("huleedu_service_libs.inbox")


class FastPath:
    """What Redis remembers of one consumer's events.

    Args:
        redis: Any client; one that can run scripts is asked for many events in one command.
        config: Keys, times.
        clock: Monotonic seconds.
    """

    def __init__(self, redis: RedisClientProtocol, config: InboxConfig, *, clock: _clock.Clock) -> None:
        self._redis = redis
        self._config = config
        self._clock = clock
        self._scripts = ScriptRunner(redis, timeout_s=config.fast_path_timeout_s)
        self._resting_until = float("-inf")
        self._troubles = Troubles(clock)

    def _key(self, event: InboxEvent) -> str:
        return f"{self._config.key_prefix}:{self._config.consumer}:{event.id}"

    async def known(self, events: Sequence[InboxEvent]) -> list[bool]:
        """For each event whether it is known as processed, with the same data as far as that is known."""
        marks = [_mark_of(event) for event in events]
        answers = await self._asked(self._look, events)
        if answers is None:
            return [False] * len(marks)
        return [answer == mark for answer, mark in zip(answers, marks, strict=True)]

    async def remember(self, events: Sequence[InboxEvent]) -> None:
        """Note that these are processed, and committed."""
        if events:
            await self._asked(self._store, events)

    async def _look(self, event: InboxEvent) -> object:
        key = self._key(event)
        answer = await self._scripts.run(_LOOK, key, 0)
        return await self._redis.get(key) if answer is None else answer

    async def _store(self, event: InboxEvent) -> object:
        key, mark, ttl = self._key(event), _mark_of(event), self._config.fast_path_ttl_s
        if await self._scripts.run(_STORE, key, mark, ttl) is None:
            await self._redis.setex(key, ttl, mark)
        return None

    async def _asked(
        self, ask: Callable[[InboxEvent], Awaitable[object]], events: Sequence[InboxEvent]
    ) -> list[object] | None:
        """The answers, or ``None`` when Redis has none in time; then it is left alone for a while."""
        if self._clock() < self._resting_until:
            return None
        try:
            async with asyncio.timeout(self._config.fast_path_timeout_s):
                answers = [await ask(events[0])] if len(events) == 1 else await asyncio.gather(*map(ask, events))
        except Exception as error:  # noqa: BLE001  # whatever it is: the table decides
            self._rest(error)
            return None
        over = self._troubles.worked()
        if over is not None:
            logger.info("inbox_fast_path_trouble_over", consumer=self._config.consumer, **over._asdict())
        return answers

    def _rest(self, error: Exception) -> None:
        self._resting_until = self._clock() + self._config.fast_path_rest_s
        FAST_PATH_ERRORS.labels(consumer=self._config.consumer).inc()
        if failures := self._troubles.failed(error=error):
            logger.warning(
                "inbox_fast_path_away",
                consumer=self._config.consumer,
                failures=failures,
                again_in_seconds=self._config.fast_path_rest_s,
                **error_fields(error),
            )


def _mark_of(event: InboxEvent) -> str:
    return event.payload_hash.hex() if event.payload_hash is not None else _PROCESSED
