"""A Redis of the four methods with a clock of its own, and one that also runs our scripts."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from huleedu_service_libs.idempotency_v2.scripts import CLAIM, CONFIRM, RELEASE, RENEW, ManyScript
from huleedu_service_libs.protocols import RedisClientProtocol

Call = tuple[Any, ...]
SCRIPTS = (CLAIM, RENEW, CONFIRM, RELEASE)


@dataclass
class FakeTime:
    """Time that passes when a test says so, or somebody sleeps."""

    seconds: float = 1_700_000_000.0
    slept: list[float] = field(default_factory=list)
    on_sleep: Callable[[], None] = lambda: None

    def clock(self) -> float:
        """Monotonic seconds."""
        return self.seconds

    def now(self) -> datetime:
        """Time of day."""
        return datetime.fromtimestamp(self.seconds, UTC)

    async def sleep(self, seconds: float) -> None:
        """Pass at once."""
        self.slept.append(seconds)
        self.seconds += seconds
        self.on_sleep()


class FakeRedis:
    """Only what the contract grants idempotency; records every call."""

    def __init__(self, time: FakeTime) -> None:
        self.time = time
        self.calls: list[Call] = []
        self.values: dict[str, tuple[str, float]] = {}
        self.failing: set[str] = set()

    def port(self) -> RedisClientProtocol:
        """Itself, as the type checker wants it."""
        return cast("RedisClientProtocol", self)

    def names(self) -> list[str]:
        """Which methods were called, in order."""
        return [call[0] for call in self.calls]

    async def _enter(self, *call: Any) -> None:
        self.calls.append(call)
        if call[0] in self.failing:
            raise ConnectionError(f"{call[0]} refused")

    def _stored(self, key: str) -> str | None:
        value, ends = self.values.get(key, (None, 0.0))
        return value if ends > self.time.seconds else None

    def put(self, key: str, value: str, ttl_seconds: float = 300) -> None:
        """Store without a call."""
        self.values[key] = (value, self.time.seconds + ttl_seconds)

    async def get(self, key: str) -> str | None:
        """GET."""
        await self._enter("get", key)
        return self._stored(key)

    async def set_if_not_exists(self, key: str, value: str, ttl_seconds: int | None = None) -> bool:
        """SET NX EX."""
        await self._enter("set_if_not_exists", key, value, ttl_seconds)
        if self._stored(key) is not None:
            return False
        self.put(key, value, ttl_seconds or float("inf"))
        return True

    async def setex(self, key: str, ttl_seconds: int, value: str) -> bool:
        """SET EX."""
        await self._enter("setex", key, ttl_seconds, value)
        self.put(key, value, ttl_seconds)
        return True

    async def delete_key(self, key: str) -> int:
        """DEL."""
        await self._enter("delete_key", key)
        return int(self.values.pop(key, None) is not None)


class ScriptedRedis(FakeRedis):
    """Runs the scripts of idempotency as Redis would; the integration tests hold it to that."""

    def __init__(self, time: FakeTime) -> None:
        super().__init__(time)
        self.scripts: dict[str, str] = {}
        self.losing: list[str] = []  # scripts that run, and whose reply is lost

    async def register_script(self, script_body: str) -> str:
        """SCRIPT LOAD."""
        await self._enter("register_script")
        digest = hashlib.sha1(script_body.encode(), usedforsecurity=False).hexdigest()
        self.scripts[digest] = script_body
        return digest

    async def execute_script(self, sha: str, keys: list[str], args: list[Any]) -> Any:
        """EVALSHA."""
        script = next(script for script in SCRIPTS if script.body == self.scripts[sha])
        await self._enter(script.name)
        rows = [args[at : at + script.arity] for at in range(0, len(args), script.arity)]
        answers = [self._answer(script, key, row) for key, row in zip(keys, rows, strict=True)]
        if script.name in self.losing:
            self.losing.remove(script.name)
            raise ConnectionError(f"reply to {script.name} lost")
        return answers

    def _answer(self, script: ManyScript, key: str, row: list[Any]) -> int | str:
        stored = self._stored(key)
        owned = stored is not None and str(row[0]) in stored
        if script is RELEASE:
            if owned:
                self.values.pop(key)
            return int(owned or stored is None)
        again = script is CONFIRM and stored == row[1]
        if owned or again or (stored is None and script is not RENEW):
            self.put(key, row[1], float(row[2]))
            return 1
        return stored if script is CLAIM and stored is not None else 0


def message(value: bytes | None = b"{}", headers: Any = ()) -> Any:
    """What idempotency needs of a Kafka record."""
    return SimpleNamespace(value=value, headers=headers, topic="essays", partition=3, offset=42)
