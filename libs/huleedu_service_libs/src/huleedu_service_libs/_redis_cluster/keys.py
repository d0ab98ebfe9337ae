"""Which keys a command has, and the one slot that they must share. Knows no connection."""

from collections.abc import Sequence
from typing import Any

from huleedu_service_libs._extras import requires_extra

with requires_extra("redis", module=__name__):
    from redis.crc import key_slot
    from redis.exceptions import RedisClusterException

__all__ = ["CrossSlotError", "NotOnClusterError", "keys_of", "shared_slot"]

_ALL = frozenset({"DEL", "EXISTS", "MGET", "PFCOUNT", "SDIFF", "SINTER", "SUNION", "TOUCH", "UNLINK", "WATCH"})
_TWO = frozenset({"COPY", "LMOVE", "RENAME", "RENAMENX", "RPOPLPUSH", "SMOVE"})
_NONE = frozenset(
    {
        "ASKING",
        "CLUSTER",
        "DISCARD",
        "EXEC",
        "INFO",
        "MULTI",
        "PING",
        "SCAN",
        "SCRIPT",
        "SCRIPT LOAD",
        "UNWATCH",
        "WAIT",
    }
)
_SHOWN = 4


class CrossSlotError(RedisClusterException):
    """A command or transaction has keys of several slots, which a cluster cannot run as one. Nothing was sent.

    Attributes:
        keys: The keys.
        one_by_one: Always true: a command for each key would have been taken. By it those know this error who may not know a driver.
    """

    one_by_one = True

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(keys)
        self.keys = tuple(keys)

    def __str__(self) -> str:
        shown = ", ".join(f"{key!r} (slot {_slot(key)})" for key in self.keys[:_SHOWN])
        more = f" and {len(self.keys) - _SHOWN} more" if len(self.keys) > _SHOWN else ""
        return (
            f"On a cluster the keys of one command or transaction must share a slot, these do not: {shown}{more}. "
            "Give them a common part in braces, such as {essay-7}:status and {essay-7}:log, or use one command for each"
        )


class NotOnClusterError(RedisClusterException):
    """Something that a cluster does not offer.

    Attributes:
        what: What was asked for.
        instead: What does the same.
    """

    def __init__(self, what: str, instead: str) -> None:
        super().__init__(what, instead)
        self.what = what
        self.instead = instead

    def __str__(self) -> str:
        return f"{self.what} is not offered on a Redis Cluster: {self.instead}"


def keys_of(words: Sequence[Any]) -> tuple[str, ...]:
    """The keys among the words of a command; for a command that is not known, the first argument is taken for one."""
    name, *args = words
    name = str(name).upper()
    if name in _NONE:
        return ()
    if name in _ALL:
        found = args
    elif name in {"EVAL", "EVALSHA"}:
        found = args[2 : 2 + int(args[1])]
    elif name == "BLPOP":
        found = args[:-1]
    else:
        found = args[: 2 if name in _TWO else 1]
    return tuple(_text(key) for key in found)


def shared_slot(keys: Sequence[str]) -> int | None:
    """The slot of all keys; ``None`` without keys.

    Raises:
        CrossSlotError: They have several.
    """
    slots = {_slot(key) for key in keys}
    if len(slots) > 1:
        raise CrossSlotError(keys)
    return slots.pop() if slots else None


def _slot(key: str) -> int:
    return int(key_slot(key.encode()))


def _text(key: Any) -> str:
    return key.decode(errors="replace") if isinstance(key, bytes) else str(key)
