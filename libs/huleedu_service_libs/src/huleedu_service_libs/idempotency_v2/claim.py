"""One worker's claim on one event, kept in Redis.

``claiming`` and ``consumer`` decide, this asks Redis. Of the client it needs the four
methods that test doubles have; a client whose own class can run Lua scripts
claims in one round trip, compares the owner before it changes anything, can
renew, and can be asked again when an answer got lost. Whatever the client is
like, a call of it ends within a limit of time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from huleedu_service_libs.idempotency_v2.errors import StoreError
from huleedu_service_libs.idempotency_v2.identity import EventIdentity
from huleedu_service_libs.idempotency_v2.leftovers import forget, leave, left_under
from huleedu_service_libs.idempotency_v2.records import (
    DEFAULT_PROCESSING_TTL_SECONDS,
    completed_text,
    processing_text,
)
from huleedu_service_libs.idempotency_v2.script_runner import Answer, ScriptRunner
from huleedu_service_libs.idempotency_v2.scripts import CLAIM, CONFIRM, RELEASE, RENEW, ManyScript
from huleedu_service_libs.idempotency_v2.tokens import new_token
from huleedu_service_libs.protocols import RedisClientProtocol

__all__ = ["ATTEMPTS", "DEFAULT_REDIS_TIMEOUT_SECONDS", "Claim"]

DEFAULT_REDIS_TIMEOUT_SECONDS = 10.0
"""A client with limits of its own gives up before; one that hangs must not stop the consumer."""

ATTEMPTS = 2
"""How often a script is run before Redis counts as unreachable: once more after an answer that got lost."""

_FOREIGN_TYPE = -1

_T = TypeVar("_T")


class Claim:
    """The claim of one delivery of one event.

    Args:
        redis: Where it is kept.
        scripts: The scripts on that client.
        key: The event's key.
        service_name: Who claims.
        identity: The event.
        now: Seconds since the epoch.
        timeout_s: How long one call of Redis may take.
        ttl_seconds: Life of the claim without renewal, where it can be renewed.

    Raises:
        StoreError: By every method that asks Redis: it did not answer in time, or with what nobody can read.

    Attributes:
        key: As given.
        token: Tells this claim from all others.
        confirmed: Whether the event was recorded as processed.
        uncertain: Whether Redis was asked to claim and the answer got lost: the claim may exist.
    """

    def __init__(
        self,
        redis: RedisClientProtocol,
        scripts: ScriptRunner,
        *,
        key: str,
        service_name: str,
        identity: EventIdentity,
        now: Callable[[], float],
        timeout_s: float,
        ttl_seconds: int = DEFAULT_PROCESSING_TTL_SECONDS,
    ) -> None:
        self.key = key
        self.token = new_token()
        self.confirmed = False
        self.uncertain = False
        self._redis = redis
        self._scripts = scripts
        self._now = now
        self._timeout_s = timeout_s
        self._ttl_seconds = ttl_seconds
        self._started_at = now()
        self._told: Answer = None
        self._about = {
            "processed_by": service_name,
            "event_id": identity.event_id,
            "correlation_id": identity.correlation_id,
            "source_service": identity.source_service,
        }

    @property
    def renewable(self) -> bool:
        """Whether the claim carries its owner's token, and `renew` can succeed."""
        return self._scripts.available

    async def open(self) -> tuple[bool, str | None]:
        """Claim the event if the client can do it in one go, else look what is stored.

        Returns:
            Whether the event is ours now, and otherwise the text stored under its key.

        Raises:
            StoreError: As for all methods that ask Redis.
        """
        answer, self._told = self._told, None
        if answer is None:
            answer = await self._claim_by_script()
        if isinstance(answer, str) and (left := left_under(self.key, answer)) is not None:
            await self._run("delete", RELEASE, left)  # an earlier delivery here could not: Redis was away
            answer = await self._claim_by_script()
        if answer is None:
            return False, await self.read()
        forget(self.key)
        return answer == 1, answer if isinstance(answer, str) else None

    def asks_to_claim(self) -> tuple[str, str, int]:
        """The arguments of `CLAIM`, for whoever claims many at once; until `tell` the claim may exist."""
        self.uncertain = True
        return self.token, self._processing_record(), self._ttl_seconds

    def tell(self, answer: Answer) -> None:
        """What `CLAIM` said of this one: the next `open` returns it. Without it, `open` asks."""
        if answer is not None and answer != _FOREIGN_TYPE:
            self._told, self.uncertain = answer, False

    def asks_to_confirm(self, ttl_seconds: int) -> tuple[str, str, int]:
        """The arguments of `CONFIRM`, for whoever confirms many at once."""
        return self.token, self._completed_record(), ttl_seconds

    async def read(self) -> str | None:
        """The text stored under the key."""
        stored: object = await self._ask("get", self._redis.get, self.key)
        if isinstance(stored, bytes):
            stored = stored.decode("utf-8", "replace")
        if stored is None or isinstance(stored, str):
            return stored
        raise StoreError("get", f"answer of type {type(stored).__name__}")

    async def take(self) -> bool:
        """Claim the event, unless it is claimed; whether it is ours now."""
        answer = await self._claim_by_script()
        if answer is not None:
            return answer == 1
        taken = await self._ask(
            "set",
            self._redis.set_if_not_exists,
            self.key,
            self._processing_record(),
            ttl_seconds=DEFAULT_PROCESSING_TTL_SECONDS,
        )
        return bool(taken)

    async def _claim_by_script(self) -> Answer:
        record = self._processing_record()
        try:
            return await self._run("claim", CLAIM, self.token, record, self._ttl_seconds)
        except StoreError:
            self.uncertain = True
            raise

    async def discard(self, stored: str) -> None:
        """Delete another's stale record, where possible only if it is still ``stored``."""
        if await self._run("delete", RELEASE, stored) is None:
            await self._ask("delete", self._redis.delete_key, self.key)

    async def release(self) -> bool:
        """Give the event back; ``False`` when it is another's by now."""
        try:
            answer = await self._run("delete", RELEASE, self.token)
        except StoreError:
            leave(self.key, self.token)
            raise
        if answer is None:
            await self._ask("delete", self._redis.delete_key, self.key)
            return True
        return answer == 1

    async def renew(self) -> bool:
        """Begin the claim's time anew; ``False`` when it was ours no longer.

        The record's ``started_at`` moves along, because readers of older releases judge the age
        of a claim by it.
        """
        record = self._processing_record()
        return await self._run("renew", RENEW, self.token, record, self._ttl_seconds) == 1

    async def confirm(self, ttl_seconds: int) -> bool:
        """Record that the event is processed; ``False`` when another holds the claim by now."""
        record = self._completed_record()
        answer = await self._run("setex", CONFIRM, self.token, record, ttl_seconds)
        if answer is None:
            await self._ask("setex", self._redis.setex, self.key, ttl_seconds, record)
            answer = 1
        self.confirmed = answer == 1
        return self.confirmed

    async def settle(self, *, processed: bool, ttl_seconds: int, limit_seconds: float) -> bool:
        """Make an uncertain claim certain: confirm or release it; whether Redis answered in time.

        Only for clients with scripts: without the token nobody knows whose claim it is.
        """
        if not (self.uncertain and self._scripts.available):
            return True
        try:
            async with asyncio.timeout(limit_seconds):
                await self._scripts.settled(limit_seconds)
                await (self.confirm(ttl_seconds) if processed else self.release())
        except (StoreError, TimeoutError):
            if not processed:
                leave(self.key, self.token)
            return False
        return True

    async def _run(self, operation: str, script: ManyScript, *args: str | int) -> Answer:
        """Run a script, once more if its answer got lost: each of them recognises its own work by the token."""
        for left in range(ATTEMPTS - 1, -1, -1):
            try:
                answer = await self._scripts.run(script, self.key, *args)
            except Exception as error:
                if not left:
                    raise StoreError(operation, error) from error
            else:
                if answer == _FOREIGN_TYPE:
                    raise StoreError(operation, f"key {self.key} holds no string; another program uses it")
                return answer
        raise AssertionError  # the last attempt returns or raises

    async def _ask(self, operation: str, call: Callable[..., Awaitable[_T]], *args: Any, **kwargs: Any) -> _T:
        limit = asyncio.timeout(self._timeout_s)
        # Nothing but the client's call stands in this block: errors of our own must surface.
        try:
            async with limit:
                return await call(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  # raised below, as what the client or the limit says
            cause = TimeoutError(f"no answer within {self._timeout_s:g} s") if limit.expired() else error
            raise StoreError(operation, cause) from cause

    def _processing_record(self) -> str:
        owner = self.token if self._scripts.available else None
        return processing_text(self._about, started_at=self._now(), owner=owner)

    def _completed_record(self) -> str:
        return completed_text(
            self._about,
            started_at=self._started_at,
            completed_at=self._now(),
            compact=self._scripts.available,
        )
