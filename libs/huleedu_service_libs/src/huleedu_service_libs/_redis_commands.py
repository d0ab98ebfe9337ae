"""The commands of `RedisClient`: what goes to the server and what its answer means.

Both versions of Redis' protocol are understood: sets and hashes come as such or as lists. Knows nothing of
starting, stopping or connections.
"""

from collections.abc import Sequence
from typing import Any, cast

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redis_executor import Command, commands
from huleedu_service_libs._redis_executor.claims import Claim

with requires_extra("redis", module=__name__):
    from redis.asyncio import Redis
    from redis.exceptions import DataError

__all__ = ["RedisCommands"]

_SCAN_PAGE = 100


class RedisCommands:
    """Plain commands, each one way to the server and back. Errors: see `RedisClient`."""

    client: Redis

    async def _command(self, operation: str, command: Command, *args: Any) -> Any:
        """Send a command of a started client; its raw answer."""
        raise NotImplementedError

    async def _early_command(self, operation: str, command: Command, *args: Any) -> Any:
        """The same, starting the client if need be."""
        raise NotImplementedError

    async def _early_claim(self, operation: str, wanted: Claim) -> bool:
        """Claim a key, starting the client if need be."""
        raise NotImplementedError

    def _require_started(self) -> None:
        """Raise unless the client is started."""
        raise NotImplementedError

    # --- strings and keys

    async def set_if_not_exists(self, key: str, value: str, ttl_seconds: int | None = None) -> bool:
        """Set ``key`` unless it exists; ``True`` only for the one caller that set it.

        When the reply gets lost, the client looks whose value stands there. That tells callers apart if their
        values differ, or if what is there is older than this call.

        Args:
            key: Where.
            value: What; unique to the caller if it matters who has won.
            ttl_seconds: Time to live; ``None`` is for ever.
        """
        return await self._early_claim("set_if_not_exists", Claim(key=key, value=value, ttl_seconds=ttl_seconds))

    async def get(self, key: str) -> str | None:
        """The value of ``key``, or ``None``."""
        return cast("str | None", await self._early_command("get", commands.GET, key))

    async def setex(self, key: str, ttl_seconds: int, value: str) -> bool:
        """Set ``key`` with a time to live; the argument order is key, ttl, value."""
        return bool(await self._early_command("setex", commands.SET, key, value, "EX", ttl_seconds))

    async def scan_pattern(self, pattern: str) -> list[str]:
        """All keys that match a glob pattern, each once, in no particular order."""
        found: dict[str, None] = {}  # drops the repetitions that SCAN may give while the table is resized
        cursor = "0"
        send = self._early_command  # for the first page; a client that is stopped in between stays stopped
        while True:
            arguments = (cursor, "MATCH", pattern, "COUNT", _SCAN_PAGE)
            cursor, page = await send("scan_pattern", commands.SCAN, *arguments)
            send = self._command
            found.update(dict.fromkeys(page))
            if cursor in {"0", 0}:
                return list(found)

    async def delete_key(self, key: str) -> int:
        """Delete one key; the number deleted, 0 or 1."""
        return int(await self._command("delete_key", commands.DEL, key))

    async def delete(self, *keys: str) -> int:
        """Delete keys; the number deleted, 0 without keys."""
        self._require_started()
        return int(await self._command("delete", commands.DEL, *keys)) if keys else 0

    async def expire(self, key: str, ttl_seconds: int) -> bool:
        """Set a time to live; ``False`` when the key is absent."""
        return bool(await self._command("expire", commands.EXPIRE, key, ttl_seconds))

    async def ttl(self, key: str) -> int:
        """Remaining seconds; -2 when the key is absent, -1 without expiry."""
        return int(await self._command("ttl", commands.TTL, key))

    async def exists(self, key: str) -> int:
        """1 when the key exists, else 0."""
        return int(await self._command("exists", commands.EXISTS, key))

    async def server_info(self) -> dict[str, Any]:
        """What the server says of itself (``INFO``): its run, memory, persistence and statistics."""
        text = await self._command("info", commands.INFO)
        return cast("dict[str, Any]", self.client.response_callbacks["INFO"](text))

    # --- sets and sorted sets

    async def sadd(self, key: str, *members: str) -> int:
        """Add members to a set; the number that were new."""
        return int(await self._command("sadd", commands.SADD, key, *members))

    async def srem(self, key: str, *members: str) -> int:
        """Remove members from a set; the number removed."""
        return int(await self._command("srem", commands.SREM, key, *members))

    async def scard(self, key: str) -> int:
        """Size of a set."""
        return int(await self._command("scard", commands.SCARD, key))

    async def spop(self, key: str) -> str | None:
        """Remove and return one member of a set."""
        return cast("str | None", await self._command("spop", commands.SPOP, key))

    async def smembers(self, key: str) -> set[str]:
        """All members of a set; empty when the key is absent."""
        return set(await self._command("smembers", commands.SMEMBERS, key))

    async def zadd(self, key: str, mapping: dict[str, float]) -> int:
        """Add scored members to a sorted set; the number that were new.

        Raises:
            redis.exceptions.DataError: No member is given.
        """
        if not mapping:
            raise DataError(f"zadd needs at least one member with its score for {key!r}")
        pairs = [part for member, score in mapping.items() for part in (score, member)]
        return int(await self._command("zadd", commands.ZADD, key, *pairs))

    async def zrem(self, key: str, *members: str) -> int:
        """Remove members from a sorted set; the number removed."""
        return int(await self._command("zrem", commands.ZREM, key, *members))

    # --- hashes

    async def hset(self, key: str, field: str, value: str) -> int:
        """Set one field of a hash; 1 when new, 0 when updated."""
        return int(await self._command("hset", commands.HSET, key, field, value))

    async def hget(self, key: str, field: str) -> str | None:
        """One field of a hash, or ``None``."""
        return cast("str | None", await self._command("hget", commands.HGET, key, field))

    async def hlen(self, key: str) -> int:
        """Number of fields of a hash."""
        return int(await self._command("hlen", commands.HLEN, key))

    async def hgetall(self, key: str) -> dict[str, str]:
        """All fields of a hash; empty when the key is absent."""
        return _pairs(await self._command("hgetall", commands.HGETALL, key))

    async def hexists(self, key: str, field: str) -> bool:
        """Whether a hash has the field."""
        return bool(await self._command("hexists", commands.HEXISTS, key, field))

    # --- lists

    async def rpush(self, key: str, *values: str) -> int:
        """Append to a list; its length."""
        return int(await self._command("rpush", commands.RPUSH, key, *values))

    async def lpush(self, key: str, *values: str) -> int:
        """Prepend to a list; its length."""
        return int(await self._command("lpush", commands.LPUSH, key, *values))

    async def llen(self, key: str) -> int:
        """Length of a list."""
        return int(await self._command("llen", commands.LLEN, key))

    async def lrange(self, key: str, start: int, stop: int) -> list[str]:
        """A slice of a list, both ends included."""
        return cast("list[str]", await self._command("lrange", commands.LRANGE, key, start, stop))


def _pairs(answer: dict[str, str] | Sequence[str]) -> dict[str, str]:
    if isinstance(answer, dict):
        return answer
    return dict(zip(answer[::2], answer[1::2], strict=True))
