"""Lua scripts of one client: kept, so that a server that lost one gets it again, and with the type of their answer.

`RedisClient` owns them. Knows nothing of starting and stopping.
"""

import hashlib
from collections.abc import Awaitable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redis_executor import Command, commands
from huleedu_service_libs.logging_utils import create_service_logger

with requires_extra("redis", module=__name__):
    from redis.exceptions import NoScriptError

__all__ = ["RedisScript", "ScriptAnswerError", "Scripts", "Submit"]

logger = create_service_logger("huleedu_service_libs.redis")

_Answer = TypeVar("_Answer")


class Submit(Protocol):
    """Sends one command."""

    def __call__(self, command: Command, /, *args: Any) -> Awaitable[Any]:
        """Its raw answer."""
        ...


class Execute(Protocol):
    """Runs a script that is known by its SHA-1."""

    def __call__(self, sha: str, keys: list[str], args: list[Any]) -> Awaitable[Any]:
        """Its answer."""
        ...


class ScriptAnswerError(TypeError):
    """A script answered with another type than was promised. It has run.

    Attributes:
        sha: The script.
        wanted: The promised type.
        got: The type of the answer.
    """

    def __init__(self, sha: str, wanted: str, got: str) -> None:
        super().__init__(sha, wanted, got)
        self.sha = sha
        self.wanted = wanted
        self.got = got

    def __str__(self) -> str:
        return (
            f"Script {self.sha[:8]} answered {self.got}, not {self.wanted}. Lua's true comes as 1, false and nil as None, "
            "and numbers without their fraction"
        )


class RedisScript(Generic[_Answer]):
    """A script to be called; it is loaded when the server does not know it.

    Args:
        execute: Runs it.
        sha: Its SHA-1.
        returns: What it answers.

    Attributes:
        sha: As given.
    """

    def __init__(self, execute: Execute, sha: str, returns: type[_Answer]) -> None:
        self.sha = sha
        self._execute = execute
        self._returns = returns

    async def __call__(self, keys: Sequence[str] = (), args: Sequence[str | bytes | float] = ()) -> _Answer:
        """Run it.

        Raises:
            ScriptAnswerError: The answer is of another type.
        """
        answer = await self._execute(self.sha, list(keys), list(args))
        if not isinstance(answer, self._returns):
            raise ScriptAnswerError(self.sha, self._returns.__name__, type(answer).__name__)
        return answer


class Scripts:
    """Lua scripts that one client has registered, kept so that a server that lost one gets it again.

    Args:
        client_id: Name in logs.
    """

    def __init__(self, client_id: str) -> None:
        self._client_id = client_id
        self._bodies: dict[str, str] = {}

    def keep(self, body: str) -> str:
        """Know a script without loading it; its SHA-1."""
        sha = hashlib.sha1(body.encode("utf-8"), usedforsecurity=False).hexdigest()
        self._bodies[sha] = body
        return sha

    async def register(self, submit: Submit, body: str) -> str:
        """Load a script; its SHA-1."""
        sha = str(await submit(commands.SCRIPT_LOAD, body))
        self._bodies[sha] = body
        return sha

    async def run(self, submit: Submit, sha: str, keys: list[str], args: list[Any]) -> Any:
        """Run a script; one that the server has lost is loaded again first, as nothing ran before that.

        Raises:
            redis.exceptions.NoScriptError: Neither the server nor this object knows ``sha``.
        """
        try:
            return await submit(commands.EVALSHA, sha, len(keys), *keys, *args)
        except NoScriptError:
            body = self._bodies.get(sha)
            if body is None:
                raise
            logger.info("redis_script_reloaded", client_id=self._client_id, sha=sha)
            await submit(commands.SCRIPT_LOAD, body)
            return await submit(commands.EVALSHA, sha, len(keys), *keys, *args)
