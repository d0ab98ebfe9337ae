"""The commands that the client sends, and which of them may be sent again after their reply got lost.

After a lost reply nobody knows whether a command has run. Repeating is safe when running twice leaves the same
state *and* gives the same answer as running once. ``SADD`` leaves the same set, yet its second answer says that nothing was new;
``INCR`` counts twice. Such commands are never repeated; their callers get the error.
"""

from dataclasses import dataclass

__all__ = [
    "CLAIM",
    "COMMANDS",
    "DEL",
    "EVALSHA",
    "EXISTS",
    "EXPIRE",
    "GET",
    "HEXISTS",
    "HGET",
    "HGETALL",
    "HLEN",
    "HSET",
    "INFO",
    "LLEN",
    "LPUSH",
    "LRANGE",
    "PING",
    "PTTL",
    "PUBLISH",
    "RPUSH",
    "SADD",
    "SCAN",
    "SCARD",
    "SCRIPT_LOAD",
    "SET",
    "SMEMBERS",
    "SPOP",
    "SREM",
    "TTL",
    "ZADD",
    "ZREM",
    "Command",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A kind of command.

    Attributes:
        words: What it begins with on the wire.
        repeatable: Whether it may be sent again after its reply got lost.
        name: For people.
    """

    words: tuple[str, ...]
    repeatable: bool
    name: str


def _reads(*words: str) -> Command:
    return Command(words=words, repeatable=True, name=" ".join(words))


def _overwrites(*words: str) -> Command:
    """Writes the same whatever was there, and answers the same."""
    return Command(words=words, repeatable=True, name=" ".join(words))


def _once(*words: str, name: str | None = None) -> Command:
    return Command(words=words, repeatable=False, name=name or " ".join(words))


GET = _reads("GET")
EXISTS = _reads("EXISTS")
TTL = _reads("TTL")
PTTL = _reads("PTTL")
SCARD = _reads("SCARD")
SMEMBERS = _reads("SMEMBERS")
HGET = _reads("HGET")
HLEN = _reads("HLEN")
HGETALL = _reads("HGETALL")
HEXISTS = _reads("HEXISTS")
LLEN = _reads("LLEN")
LRANGE = _reads("LRANGE")
SCAN = _reads("SCAN")
INFO = _reads("INFO")
PING = _reads("PING")

SET = _overwrites("SET")
EXPIRE = _overwrites("EXPIRE")
SCRIPT_LOAD = _overwrites("SCRIPT", "LOAD")

CLAIM = _once("SET", name="SET NX")  # the client itself looks whose value is there after a lost reply
DEL = _once("DEL")
SADD = _once("SADD")
SREM = _once("SREM")
SPOP = _once("SPOP")
ZADD = _once("ZADD")
ZREM = _once("ZREM")
HSET = _once("HSET")
RPUSH = _once("RPUSH")
LPUSH = _once("LPUSH")
EVALSHA = _once("EVALSHA")
PUBLISH = _once("PUBLISH")

COMMANDS: tuple[Command, ...] = tuple(each for each in globals().values() if isinstance(each, Command))
"""All of the above."""
