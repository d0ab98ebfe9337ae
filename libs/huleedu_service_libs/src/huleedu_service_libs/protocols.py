"""The ports through which the library's parts and the services meet.

Capabilities (outbox, idempotency) take these instead of a concrete client;
services bind them in their containers and build test doubles from them, with
``AsyncMock(spec=...)`` or as subclasses that override only some methods. So
the members are not abstract, and the protocols of Redis and Kafka must not grow:
a double would answer a new method with a mock. Whatever only a concrete
client can do is looked up with `concrete_capability`.

Knows nobody but ``common_core``; imports no driver.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from common_core.events.envelope import EventEnvelope

__all__ = [
    "AtomicRedisClientProtocol",
    "BatchPublisher",
    "DeliveryOutcome",
    "KafkaPublisherProtocol",
    "OutgoingMessage",
    "RedisClientProtocol",
    "T_EventPayload",
    "concrete_capability",
]

T_EventPayload = TypeVar("T_EventPayload", bound=BaseModel)


class RedisClientProtocol(Protocol):
    """What idempotency needs of Redis. Keys and values are ``str``."""

    async def set_if_not_exists(self, key: str, value: str, ttl_seconds: int | None = None) -> bool:
        """Set ``key`` unless it exists; ``True`` only for the one caller that set it."""
        ...

    async def delete_key(self, key: str) -> int:
        """Delete one key; the number deleted, 0 or 1."""
        ...

    async def delete(self, *keys: str) -> int:
        """Delete keys; the number deleted."""
        ...

    async def get(self, key: str) -> str | None:
        """The value of ``key``, or ``None``."""
        ...

    async def setex(self, key: str, ttl_seconds: int, value: str) -> bool:
        """Set ``key`` with a time to live; the argument order is key, ttl, value."""
        ...

    async def ping(self) -> bool:
        """Whether Redis answers."""
        ...


class AtomicRedisClientProtocol(RedisClientProtocol, Protocol):
    """What the services use of Redis: transactions, collections, scripts, publish/subscribe."""

    async def create_transaction_pipeline(self, *watch_keys: str) -> Any:
        """A transactional pipeline that already watches ``watch_keys``."""
        ...

    async def scan_pattern(self, pattern: str) -> list[str]:
        """All keys that match a glob pattern."""
        ...

    async def publish(self, channel: str, message: str) -> int:
        """Publish to a channel; the number of receivers."""
        ...

    def subscribe(self, channel: str) -> AbstractAsyncContextManager[Any]:
        """A context in which the yielded PubSub object receives the channel's messages."""
        ...

    def get_user_channel(self, user_id: str) -> str:
        """The notification channel of a user."""
        ...

    async def publish_user_notification(self, user_id: str, event_type: str, data: dict[str, Any]) -> int:
        """Publish ``{"event": ..., "data": ...}`` to a user's channel; the number of receivers."""
        ...

    async def sadd(self, key: str, *members: str) -> int:
        """Add members to a set; the number that were new."""
        ...

    async def spop(self, key: str) -> str | None:
        """Remove and return one member of a set."""
        ...

    async def scard(self, key: str) -> int:
        """Size of a set."""
        ...

    async def smembers(self, key: str) -> set[str]:
        """All members of a set; empty when the key is absent."""
        ...

    async def srem(self, key: str, *members: str) -> int:
        """Remove members from a set; the number removed."""
        ...

    async def zadd(self, key: str, mapping: dict[str, float]) -> int:
        """Add scored members to a sorted set; the number that were new."""
        ...

    async def zrem(self, key: str, *members: str) -> int:
        """Remove members from a sorted set; the number removed."""
        ...

    async def hset(self, key: str, field: str, value: str) -> int:
        """Set one field of a hash; 1 when new, 0 when updated."""
        ...

    async def hget(self, key: str, field: str) -> str | None:
        """One field of a hash, or ``None``."""
        ...

    async def hlen(self, key: str) -> int:
        """Number of fields of a hash."""
        ...

    async def hgetall(self, key: str) -> dict[str, str]:
        """All fields of a hash; empty when the key is absent."""
        ...

    async def hexists(self, key: str, field: str) -> bool:
        """Whether a hash has the field."""
        ...

    async def expire(self, key: str, ttl_seconds: int) -> bool:
        """Set a time to live; ``False`` when the key is absent."""
        ...

    async def rpush(self, key: str, *values: str) -> int:
        """Append to a list; its length."""
        ...

    async def lrange(self, key: str, start: int, stop: int) -> list[str]:
        """A slice of a list, both ends included."""
        ...

    async def llen(self, key: str) -> int:
        """Length of a list."""
        ...

    async def lpush(self, key: str, *values: str) -> int:
        """Prepend to a list; its length."""
        ...

    async def blpop(self, keys: list[str], timeout: float) -> tuple[str, str] | None:  # noqa: ASYNC109  # Redis' own argument
        """Wait up to ``timeout`` seconds for an item; (key, value), or ``None``."""
        ...

    async def ttl(self, key: str) -> int:
        """Remaining seconds; -2 when the key is absent, -1 without expiry."""
        ...

    async def exists(self, key: str) -> int:
        """1 when the key exists, else 0."""
        ...

    async def register_script(self, script_body: str) -> str:
        """Load a Lua script; its SHA-1."""
        ...

    async def execute_script(self, sha: str, keys: list[str], args: list[Any]) -> Any:
        """Run a registered script."""
        ...


class KafkaPublisherProtocol(Protocol):
    """Publishes envelopes to Kafka."""

    async def start(self) -> None:
        """Connect."""
        ...

    async def stop(self) -> None:
        """Send what is buffered and disconnect."""
        ...

    async def publish(
        self,
        topic: str,
        envelope: EventEnvelope[Any],
        key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Publish one envelope and wait until the broker has acknowledged it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingMessage:
    """One message as it goes over the wire.

    Attributes:
        topic: Where to.
        value: The encoded envelope.
        key: Decides the partition; ``None`` lets the publisher choose.
        headers: Name and value pairs, in order.
    """

    topic: str
    value: bytes
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryOutcome:
    """What became of one message of a batch.

    Attributes:
        error: ``None`` when the broker has acknowledged the message.
        transient: The cause lies outside the message (no connection, no leader, a timeout):
            the same message may succeed later and no attempt is counted.
        attempted: ``False`` when the message was held back because an earlier one of its
            partition failed.
    """

    error: Exception | None = None
    transient: bool = False
    attempted: bool = True

    @property
    def acknowledged(self) -> bool:
        """Whether the broker has the message."""
        return self.error is None


class BatchPublisher(Protocol):
    """Publishes many encoded messages at once; what the relay looks for on a publisher."""

    async def publish_batch(self, messages: Sequence[OutgoingMessage]) -> Sequence[DeliveryOutcome]:
        """Send ``messages``; one outcome each, in the same order.

        Messages of one key and topic arrive in the order given. When one fails, later messages of
        its partition are not left standing before it: they are held back (``attempted=False``),
        unless the failed one can never succeed by itself (``transient=False``); then only
        messages of the same key are held back. Never raises for a message; cancellation leaves
        the outcome of messages in flight unknown.
        """
        ...


def concrete_capability(
    instance: object, name: str, *, beside: Sequence[str] = ()
) -> Callable[..., Awaitable[Any]] | None:
    """The bound method ``name`` if the *class* of ``instance`` defines it, else ``None``.

    Looking at the class rather than the instance keeps mocks out: ``AsyncMock`` answers every
    attribute, yet its class defines none of ours. Nor is it an ability to inherit a protocol's empty method,
    as doubles do that derive from a protocol and override only what they need.

    Args:
        instance: A client, publisher or repository.
        name: The ability.
        beside: Methods that the ability does the work of. When one of them was overridden further down, patched, or
            set on the instance, whoever did that wants it called: the ability is not used.
    """
    mro = type(instance).__mro__
    home = next((place for place, origin in enumerate(mro) if name in vars(origin)), None)
    if home is None or getattr(mro[home], "_is_protocol", False):
        return None
    if any(_is_replaced(instance, method, home) for method in beside):
        return None
    method: Callable[..., Awaitable[Any]] = getattr(instance, name)
    return method


def _is_replaced(instance: object, method: str, home: int) -> bool:
    """Whether ``method`` is another one than the class at ``home`` in the instance's MRO has."""
    if method in getattr(instance, "__dict__", {}):
        return True
    for place, origin in enumerate(type(instance).__mro__):
        if method in vars(origin):
            return place < home or not isinstance(vars(origin)[method], FunctionType)
    return False
