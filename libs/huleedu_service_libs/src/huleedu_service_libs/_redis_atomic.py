"""What of `RedisClient` runs as one on the server: transactions and scripts.

Knows nothing of starting and stopping but whether that has happened.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from huleedu_service_libs._redis_connections import RedisConnections
from huleedu_service_libs._redis_executor import Executor
from huleedu_service_libs._redis_scripts import RedisScript, Scripts
from huleedu_service_libs._redis_transaction import Transaction, TransactionPipeline, open_pipeline, transact

__all__ = ["RedisAtomic"]

_Reply = TypeVar("_Reply")


class RedisAtomic:
    """Transactions, each on a connection of its own, and scripts, which travel with the commands."""

    _connections: RedisConnections
    _executor: Executor
    _scripts: Scripts

    def _require_started(self) -> None:
        """Raise unless the client is started."""
        raise NotImplementedError

    async def _run(self, operation: str, command: Awaitable[_Reply]) -> _Reply:
        """Await it, and log its failure."""
        raise NotImplementedError

    async def create_transaction_pipeline(self, *watch_keys: str) -> TransactionPipeline:
        """A transactional pipeline that already watches ``watch_keys``.

        Call ``multi()``, queue commands without awaiting them, then ``await pipe.execute()``, which raises
        `redis.exceptions.WatchError` when a watched key has changed. Use it with ``async with``
        to give its connection back however the block ends; ``execute()`` does so too.
        """
        self._require_started()
        return await self._run("watch", open_pipeline(self._connections.transactions, watch_keys))

    def watch(self, *keys: str) -> Transaction:
        """An optimistic transaction that watches ``keys``, on a connection of its own.

            async with redis.watch("balance") as transaction:
                balance = int(await transaction.get("balance") or 0)  # read at once
                transaction.multi()
                transaction.set("balance", balance + 1)  # queued, not awaited
                await transaction.exec()

        `Transaction.exec` raises `TransactionConflictError` when another client wrote to a watched key; `transact` tries
        again.
        """
        self._require_started()
        return Transaction(self._connections.transactions, keys)

    def multi(self) -> Transaction:
        """A transaction that watches nothing: inside ``async with``, queue commands and await `Transaction.exec`."""
        return self.watch()

    async def exec(self, transaction: Transaction) -> list[Any]:
        """`Transaction.exec`, under its name in the architecture rule, with an error line like all commands."""
        return await self._run("exec", transaction.exec())

    async def transact(
        self, work: Callable[[Transaction], Awaitable[None]], *keys: str, attempts: int = 16
    ) -> list[Any]:
        """Run an optimistic transaction, and run it again, after a pause at random, when it lost the race.

        Args:
            work: Reads with its transaction, calls ``multi()`` and queues commands; it may run several times.
            keys: Watched while it reads.
            attempts: How often at most.

        Returns:
            The replies to the queued commands.

        Raises:
            TransactionConflictError: The race was lost in each attempt; nothing has run.
            ReplyLostError: The connection broke: it may have run or not, and is not tried again.
        """
        self._require_started()
        return await self._run("transact", transact(lambda: self.watch(*keys), keys, work, attempts=attempts))

    def script(self, body: str, returns: type[_Reply]) -> RedisScript[_Reply]:
        """A Lua script to be called, with the type of its answer.

            add = redis.script("return redis.call('INCRBY', KEYS[1], ARGV[1])", returns=int)
            total = await add(keys=["total"], args=[5])

        The server gets it when it does not know it. Needs no started client until it is called.
        """
        return RedisScript(self.execute_script, self._scripts.keep(body), returns)

    async def register_script(self, script_body: str) -> str:
        """Load a Lua script; its SHA-1."""
        self._require_started()
        return await self._run("register_script", self._scripts.register(self._executor.submit, script_body))

    async def execute_script(self, sha: str, keys: list[str], args: list[Any]) -> Any:
        """Run a registered script.

        A server that has lost it (a restart, ``SCRIPT FLUSH``) gets it again, if this client
        registered it; nothing ran before that, so running it then is safe.

        Raises:
            redis.exceptions.NoScriptError: Neither the server nor this client knows ``sha``.
        """
        self._require_started()
        return await self._run("execute_script", self._scripts.run(self._executor.submit, sha, keys, args))
