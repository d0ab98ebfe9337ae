"""One worker's claim on one event, kept in Redis.

``idempotency_v2`` decides, this asks Redis. Of the client it needs the four
methods that test doubles have; a client whose own class can run Lua scripts is
asked to compare the owner before it changes anything, and can renew. Whatever
the client is like, a call of it ends within a limit of time.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import uuid4

from huleedu_service_libs.idempotency_v2.identity import EventIdentity
from huleedu_service_libs.idempotency_v2.records import (
    DEFAULT_PROCESSING_TTL_SECONDS,
    IDEMPOTENCY_STATUS_COMPLETED,
    IDEMPOTENCY_STATUS_PROCESSING,
)
from huleedu_service_libs.protocols import RedisClientProtocol, concrete_capability

__all__ = ["DEFAULT_REDIS_TIMEOUT_SECONDS", "Claim", "OwnerScripts", "StoreError"]

DEFAULT_REDIS_TIMEOUT_SECONDS = 10.0
"""A client with limits of its own gives up before; one that hangs must not stop the consumer."""

_T = TypeVar("_T")

# A record contains its owner's token, which occurs nowhere else, so finding the token is proof.
# The completed record has none: a renewal that is late cannot turn it back.
_DELETE_IF_OWNED = """
local stored = redis.call('GET', KEYS[1])
if stored and string.find(stored, ARGV[1], 1, true) then return redis.call('DEL', KEYS[1]) end
return 0
"""
_REPLACE_IF_OWNED = """
local stored = redis.call('GET', KEYS[1])
if not stored or not string.find(stored, ARGV[1], 1, true) then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""
_REPLACE_UNLESS_FOREIGN = """
local stored = redis.call('GET', KEYS[1])
if stored and not string.find(stored, ARGV[1], 1, true) then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""
_SHA1_DIGITS = 40


class StoreError(Exception):
    """Redis did not answer, or not with an answer of the expected kind.

    Attributes:
        operation: What was asked.
    """

    def __init__(self, operation: str, cause: object) -> None:
        super().__init__(f"{operation}: {cause}")
        self.operation = operation


_PLAIN_METHODS = ("get", "set_if_not_exists", "setex", "delete_key")


class OwnerScripts:
    """The Lua scripts on one client, or none when its class cannot run scripts.

    Args:
        client: Any Redis client.
    """

    def __init__(self, client: RedisClientProtocol) -> None:
        # Whoever overrides or patches one of the plain methods wants it called.
        self._register = concrete_capability(client, "register_script", beside=_PLAIN_METHODS)
        self._execute = concrete_capability(client, "execute_script", beside=_PLAIN_METHODS)
        self._digests: dict[str, str] = {}

    @property
    def available(self) -> bool:
        """Whether the client can run scripts, as far as it is known."""
        return self._register is not None and self._execute is not None

    async def run(self, body: str, key: str, *args: str | int) -> bool | None:
        """Whether the script changed the key; ``None`` when the client cannot run scripts.

        Raises:
            Exception: Whatever the client raises.
        """
        if self._register is None or self._execute is None:
            return None
        if body not in self._digests:
            digest = await self._digest_of(body)
            if digest is None:
                return None
            self._digests[body] = digest
        try:
            changed = await self._execute(self._digests[body], [key], list(args))
        except Exception:
            self._digests.pop(body, None)  # perhaps Redis restarted and forgot it: load it again next time
            raise
        if isinstance(changed, int):
            return bool(changed)
        self._register = None  # a test double with a canned answer: the scripts themselves give 0 or 1
        return None

    async def _digest_of(self, body: str) -> str | None:
        """The script's digest; ``None`` from a test double that only has the method, which is not asked again."""
        if self._register is None:
            return None
        try:
            digest = await self._register(body)
        except (NotImplementedError, AttributeError, TypeError):
            digest = None
        if isinstance(digest, str) and len(digest) == _SHA1_DIGITS:
            return digest
        self._register = None
        return None


class Claim:
    """The claim of one delivery of one event.

    Args:
        redis: Where it is kept.
        scripts: The scripts on that client.
        key: The event's key.
        service_name: Who claims.
        identity: The event.
        now: Seconds since the epoch.
        timeout_seconds: How long one call of Redis may take.
    """

    def __init__(
        self,
        redis: RedisClientProtocol,
        scripts: OwnerScripts,
        *,
        key: str,
        service_name: str,
        identity: EventIdentity,
        now: Callable[[], float],
        timeout_seconds: float,
    ) -> None:
        self.key = key
        self.token = uuid4().hex
        self.confirmed = False
        self._redis = redis
        self._scripts = scripts
        self._now = now
        self._timeout_seconds = timeout_seconds
        self._started_at = now()
        self._about = {
            "processed_by": service_name,
            "event_id": identity.event_id,
            "correlation_id": identity.correlation_id,
            "source_service": identity.source_service,
        }

    @property
    def renewable(self) -> bool:
        """Whether `renew` can succeed."""
        return self._scripts.available

    async def read(self) -> str | None:
        """The text stored under the key.

        Raises:
            StoreError: As for all methods that ask Redis.
        """
        stored: object = await self._ask("get", self._redis.get, self.key)
        if isinstance(stored, bytes):
            stored = stored.decode("utf-8", "replace")
        if stored is None or isinstance(stored, str):
            return stored
        raise StoreError("get", f"answer of type {type(stored).__name__}")

    async def take(self) -> bool:
        """Claim the event, unless it is claimed; whether it is ours now."""
        taken = await self._ask(
            "set",
            self._redis.set_if_not_exists,
            self.key,
            self._processing_record(),
            ttl_seconds=DEFAULT_PROCESSING_TTL_SECONDS,
        )
        if taken or not self._scripts.available:
            return bool(taken)
        # A driver that repeats a SET NX whose answer was lost reports our own key as another's.
        return self.token in (await self.read() or "")

    async def discard(self, stored: str) -> None:
        """Delete another's stale record, where possible only if it is still ``stored``."""
        if await self._ask("delete", self._scripts.run, _DELETE_IF_OWNED, self.key, stored) is None:
            await self._ask("delete", self._redis.delete_key, self.key)

    async def release(self) -> bool:
        """Give the event back; ``False`` when it was ours no longer."""
        owned = await self._ask("delete", self._scripts.run, _DELETE_IF_OWNED, self.key, self.token)
        if owned is None:
            await self._ask("delete", self._redis.delete_key, self.key)
            return True
        return owned

    async def renew(self) -> bool:
        """Begin the claim's time anew; ``False`` when it was ours no longer.

        The record's ``started_at`` moves along, because readers of older releases judge the age
        of a claim by it.
        """
        renewed = await self._ask(
            "renew",
            self._scripts.run,
            _REPLACE_IF_OWNED,
            self.key,
            self.token,
            self._processing_record(),
            DEFAULT_PROCESSING_TTL_SECONDS,
        )
        return bool(renewed)

    async def confirm(self, ttl_seconds: int) -> bool:
        """Record that the event is processed; ``False`` when another holds the claim by now."""
        record = self._completed_record()
        written = await self._ask(
            "setex", self._scripts.run, _REPLACE_UNLESS_FOREIGN, self.key, self.token, record, ttl_seconds
        )
        if written is None:
            await self._ask("setex", self._redis.setex, self.key, ttl_seconds, record)
            written = True
        self.confirmed = written
        return written

    async def _ask(self, operation: str, call: Callable[..., Awaitable[_T]], *args: Any, **kwargs: Any) -> _T:
        limit = asyncio.timeout(self._timeout_seconds)
        # Nothing but the client's call stands in this block: errors of our own must surface.
        try:
            async with limit:
                return await call(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  # raised below, as what the client or the limit says
            cause = TimeoutError(f"no answer within {self._timeout_seconds:g} s") if limit.expired() else error
            raise StoreError(operation, cause) from cause

    def _processing_record(self) -> str:
        record = {"status": IDEMPOTENCY_STATUS_PROCESSING, "started_at": self._now(), **self._about}
        if self._scripts.available:  # only scripts can ask for it; the format stays the services' otherwise
            record["owner"] = self.token
        return json.dumps(record)

    def _completed_record(self) -> str:
        return json.dumps(
            {
                "status": IDEMPOTENCY_STATUS_COMPLETED,
                "started_at": self._started_at,
                **self._about,
                "completed_at": self._now(),
            }
        )
