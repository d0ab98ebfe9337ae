"""Runs Lua scripts on one Redis client, many calls of one script in one round trip.

``claim`` and ``many`` run theirs with it, the inbox' fast path another. Whether a client can run scripts is looked for
on its own class: test doubles with the four plain methods have none. Calls made in the same turn of the event loop
travel together, so that a hundred deliveries claim their events in one command. On a cluster, whose commands have
keys of one slot, each goes by itself, and the client lets those of a node share a round trip. Knows no script.
"""

import asyncio
import contextvars
from collections.abc import Sequence
from dataclasses import dataclass, field

from huleedu_service_libs._tasks import begin
from huleedu_service_libs.idempotency_v2.scripts import ManyScript
from huleedu_service_libs.protocols import RedisClientProtocol, concrete_capability

__all__ = ["Answer", "ScriptRunner"]

Answer = int | str | None
"""What a script says of one key; ``None``: the client cannot run scripts."""

_SHA1_DIGITS = 40
_MOST_KEYS = 200  # in one command; a script holds up all other clients of the server while it runs
_PLAIN_METHODS = ("get", "set_if_not_exists", "setex", "delete_key")


@dataclass(slots=True)
class _Batch:
    """Calls of one script that travel together."""

    keys: list[str] = field(default_factory=list)
    args: list[str | int] = field(default_factory=list)
    answers: list[asyncio.Future[Answer]] = field(default_factory=list)

    def settle(self, answers: Sequence[Answer]) -> None:
        for future, answer in zip(self.answers, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    def fail(self, error: BaseException) -> None:
        for future in self.answers:
            if not future.done():
                future.set_exception(error)
                future.exception()  # a caller that was cancelled does not ask


class ScriptRunner:
    """The scripts on one client, or none when its class cannot run scripts.

    Args:
        client: Any Redis client.
        timeout_s: How long one command may take.
    """

    def __init__(self, client: RedisClientProtocol, *, timeout_s: float) -> None:
        # Whoever overrides or patches one of the plain methods wants it called.
        self._register = concrete_capability(client, "register_script", beside=_PLAIN_METHODS)
        self._execute = concrete_capability(client, "execute_script", beside=_PLAIN_METHODS)
        self._timeout_s = timeout_s
        self._max_keys = _MOST_KEYS
        self._digests: dict[str, str] = {}
        self._waiting: dict[str, _Batch] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def available(self) -> bool:
        """Whether the client can run scripts, as far as it is known."""
        return self._register is not None and self._execute is not None

    async def run(self, script: ManyScript, key: str, *args: str | int) -> Answer:
        """What the script says of ``key``; ``None`` when the client cannot run scripts.

        Raises:
            TimeoutError: No answer in time.
            Exception: Whatever the client raises.
        """
        if not self.available:
            return None
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # a client that outlived its loop, as in tests
            self._loop, self._waiting, self._sending = loop, {}, set()
        batch = self._waiting.get(script.name)
        if batch is None or len(batch.keys) >= self._max_keys:
            batch = self._waiting[script.name] = _Batch()
            # A context of its own: what the batch logs is no single event's.
            loop.call_soon(self._send_soon, script, batch, context=contextvars.Context())
        answer: asyncio.Future[Answer] = loop.create_future()
        batch.keys.append(key)
        batch.args.extend(args)
        batch.answers.append(answer)
        return await answer

    async def run_many(self, script: ManyScript, keys: Sequence[str], args: Sequence[str | int]) -> list[Answer] | None:
        """What the script says of each key, in as few commands as their bound allows; ``None`` as for `run`.

        Args:
            script: What to run.
            keys: Any number.
            args: The script's arguments for the first key, then those for the second, and so on.

        Raises:
            TimeoutError: No answer in time.
            Exception: Whatever the client raises.
        """
        if not self.available:
            return None
        batches = [
            _Batch(list(keys[n : n + most]), list(args[script.arity * n : script.arity * (n + most)]))
            for most in [self._max_keys]
            for n in range(0, len(keys), most)
        ]
        # At the same time: the client sends them in one go, and other clients get their turn between them.
        answers = await asyncio.gather(*(self._ask(script, batch) for batch in batches))
        whole = [one for one in answers if one is not None]
        return [answer for one in whole for answer in one] if len(whole) == len(batches) else None

    async def settled(self, limit_seconds: float) -> None:
        """Wait until the commands under way are answered, so long at most."""
        if self._sending:
            await asyncio.wait(set(self._sending), timeout=limit_seconds)

    def _send_soon(self, script: ManyScript, batch: _Batch) -> None:
        if self._waiting.get(script.name) is batch:
            del self._waiting[script.name]
        task = begin(self._send(script, batch), name=f"idempotency:{script.name}")
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _ask(self, script: ManyScript, batch: _Batch) -> list[Answer] | None:
        limit = asyncio.timeout(self._timeout_s)
        try:
            async with limit:
                return await self._answers(script, batch)
        except Exception as error:
            self._digests.pop(script.name, None)  # perhaps Redis restarted and forgot it: load it again next time
            if limit.expired():
                raise TimeoutError(f"no answer within {self._timeout_s:g} s") from error
            raise

    async def _send(self, script: ManyScript, batch: _Batch) -> None:
        try:
            answers = await self._ask(script, batch)
        except Exception as error:  # noqa: BLE001  # goes to those who wait
            batch.fail(error)
        except BaseException as error:  # the loop ends
            batch.fail(error)
            raise
        else:
            batch.settle(answers if answers is not None else [None] * len(batch.answers))

    async def _answers(self, script: ManyScript, batch: _Batch) -> list[Answer] | None:
        digest = self._digests.get(script.name) or await self._digest_of(script)
        if digest is None or self._execute is None:
            return None
        try:
            answers = await self._execute(digest, batch.keys, batch.args)
        except Exception as error:
            if len(batch.keys) == 1 or not getattr(error, "one_by_one", False):
                raise
            self._max_keys = 1  # a cluster; nothing was sent
            return await self.run_many(script, batch.keys, batch.args)
        if isinstance(answers, list) and len(answers) == len(batch.keys):
            return [answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer for answer in answers]
        self._register = None  # a test double with a canned answer: the scripts themselves give a list
        return None

    async def _digest_of(self, script: ManyScript) -> str | None:
        """The script's digest; ``None`` from a test double that only has the method, which is not asked again."""
        if self._register is None:
            return None
        try:
            digest = await self._register(script.body)
        except (NotImplementedError, AttributeError, TypeError):
            digest = None
        if isinstance(digest, str) and len(digest) == _SHA1_DIGITS:
            self._digests[script.name] = digest
            return digest
        self._register = None
        return None
