"""The Redis client of the services: commands, transactions, scripts and publish/subscribe.

Services bind `RedisClient` in their containers as `AtomicRedisClientProtocol`.
It owns the driver (redis-py) together with ``_redis_connections``, ``_redis_transaction``
and ``redis_pubsub``; its commands are in ``_redis_commands``, ``_redis_atomic`` and ``_redis_notices`` and travel through
``_redis_executor``. It knows nothing of idempotency or of what its keys mean.
"""

import asyncio
import os
from collections.abc import Awaitable
from typing import Any, TypeVar

from huleedu_service_libs._client_metrics import log_redis_failure, note_redis_swallowed
from huleedu_service_libs._clock import Clock, monotonic
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._lifecycle import StartStop
from huleedu_service_libs._redaction import mask_url_credentials
from huleedu_service_libs._redis_atomic import RedisAtomic
from huleedu_service_libs._redis_cluster import CrossSlotError, NotOnClusterError, open_redis
from huleedu_service_libs._redis_commands import RedisCommands
from huleedu_service_libs._redis_config import RedisClientConfig
from huleedu_service_libs._redis_connections import RedisUnreachableError, reach
from huleedu_service_libs._redis_executor import (
    Command,
    PipeliningConfig,
    RedisOverloadedError,
    ReplyLateError,
    ReplyLostError,
)
from huleedu_service_libs._redis_executor.claims import Claim, claim
from huleedu_service_libs._redis_executor.metrics import ExecutorMetrics
from huleedu_service_libs._redis_notices import RedisNotices
from huleedu_service_libs._redis_scripts import RedisScript, ScriptAnswerError, Scripts
from huleedu_service_libs._redis_transaction import Transaction, TransactionConflictError
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.protocols import AtomicRedisClientProtocol
from huleedu_service_libs.redis_pubsub import PubSubConfig, RedisPubSub

with requires_extra("redis", module=__name__):
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

__all__ = [
    "REDIS_URL",
    "AtomicRedisClientProtocol",
    "CrossSlotError",
    "NotOnClusterError",
    "PipeliningConfig",
    "RedisClient",
    "RedisClientConfig",
    "RedisOverloadedError",
    "RedisScript",
    "RedisUnreachableError",
    "ReplyLateError",
    "ReplyLostError",
    "ScriptAnswerError",
    "Transaction",
    "TransactionConflictError",
]

logger = create_service_logger("huleedu_service_libs.redis")

REDIS_URL: str = os.environ.get("REDIS_URL", "redis://redis:6379")
"""The server, read from the environment when this module is imported."""

_FAILURES = (RedisError, OSError, TimeoutError)

_Reply = TypeVar("_Reply")


class RedisClient(RedisAtomic, RedisCommands, RedisNotices, StartStop, AtomicRedisClientProtocol):
    """One service's way to Redis. Replies are ``str``, never ``bytes``.

    Commands that tasks issue at the same time share a round trip; a command that is alone leaves at once.
    Errors are logged once (a flood of them in few lines) and raised. After a lost connection the next command connects anew, and a command
    whose reply got lost is sent again if that is safe; where it is not, the caller gets a `ReplyLostError`
    (``_redis_executor.commands`` has the table).

    While it is not started, commands that the services use early (``get``, ``setex``,
    ``set_if_not_exists``, ``scan_pattern``, ``ping``) start the client with a warning; all others
    raise `RuntimeError`. That holds after `stop` as well as before `start`: unlike `KafkaBus`, a stopped
    client is used again by whoever shares it, and loses nothing by that.

    A started client belongs to the event loop that started it; another one gets a `RuntimeError`. When it is stopped,
    or its loop is closed, it belongs to the next that uses it. Cancelling a command cancels only the wait.

    Constructing does no I/O and needs no running event loop.

    Args:
        client_id: Name in logs and metrics.
        redis_url: ``redis://[user:password@]host:port/db``, ``rediss://`` or ``unix://``; several servers:
            ``redis+sentinel://host:port,host:port/service/db`` and ``redis+cluster://host:port,host:port``.
        config: Sizes and time-outs.
        pubsub_config: Bounds of subscriptions, and what is kept of notifications.
        clock: Monotonic seconds, for `blpop`.

    Attributes:
        client_id: As given.
        redis_url: As given, credentials included: not for logs.
        client: The driver's own client, with connections of its own.
    """

    def __init__(
        self,
        *,
        client_id: str,
        redis_url: str = REDIS_URL,
        config: RedisClientConfig | None = None,
        pubsub_config: PubSubConfig | None = None,
        clock: Clock = monotonic,
    ) -> None:
        self.client_id = client_id
        self.redis_url = redis_url
        self._config = config or RedisClientConfig()
        self._connections, self._executor = open_redis(redis_url, self._config, clock, ExecutorMetrics(client_id))
        self._spans = self._connections.spans()
        self._clock = clock
        self._home: asyncio.AbstractEventLoop | None = None
        self.client: Redis = self._connections.commands
        self._pubsub: RedisPubSub | None = None
        self._pubsub_config = pubsub_config
        self._scripts = Scripts(client_id)
        self._lifecycle = asyncio.Lock()
        self._started = False

    def __repr__(self) -> str:
        address = mask_url_credentials(self.redis_url)
        return f"RedisClient(client_id={self.client_id!r}, redis_url={address!r}, started={self._started})"

    # --- life ---

    @property
    def config(self) -> RedisClientConfig:
        """Sizes, time-outs and access, as given."""
        return self._config

    @property
    def pubsub(self) -> RedisPubSub | None:
        """Publish/subscribe, between `start` and `stop`."""
        return self._pubsub

    async def start(self) -> None:
        """Reach the server; does nothing when started. Callers at the same time share one start.

        Raises:
            RedisUnreachableError: No answer within the start time-out. It is a
                `redis.exceptions.ConnectionError`.
            redis.exceptions.RedisError: The server answered with an error, such as wrong credentials.
        """
        self._enter()
        async with self._lifecycle:
            if self._started:
                return
            try:
                await reach(self._executor, self.client_id, self.redis_url, self._config.start_timeout_s)
            except BaseException as error:
                self._executor.cut()
                if isinstance(error, Exception):
                    log_redis_failure(self.client_id, "start", error)
                raise
            self._pubsub = self._make_pubsub()
            self._started = True
        logger.info("redis_client_started", client_id=self.client_id, address=mask_url_credentials(self.redis_url))

    async def stop(self) -> None:
        """Wait for the replies to what was issued, then close all connections, each within the stop time-out.

        Errors are logged, counted and swallowed.
        """
        try:
            self._enter()
        except RuntimeError as error:
            note_redis_swallowed(self.client_id, "stop", error)
            return
        async with self._lifecycle:
            was_started, self._started = self._started, False
            pubsub, self._pubsub = self._pubsub, None
            if pubsub is not None:
                await self._close(pubsub.aclose())
            await self._close(self._executor.aclose(self._config.stop_timeout_s))
            await self._close(self._connections.aclose())
        if was_started:
            logger.info("redis_client_stopped", client_id=self.client_id)

    async def _close(self, closing: Awaitable[None]) -> None:
        try:
            await closing
        except Exception as error:  # noqa: BLE001  # the contract: stop() never raises
            note_redis_swallowed(self.client_id, "stop", error)

    async def ping(self) -> bool:
        """Whether Redis answers; never raises."""
        try:
            await self._start_if_needed("ping")
            await self._executor.ping()
        except _FAILURES as error:
            note_redis_swallowed(self.client_id, "ping", error)
            return False
        return True

    # --- waiting ---

    async def blpop(self, keys: list[str], timeout: float = 0) -> tuple[str, str] | None:  # noqa: ASYNC109  # Redis' own argument
        """Wait for an item at the head of one of several lists.

        Waiting callers use connections of their own and don't hinder commands. The wait is made of
        slices (`RedisClientConfig.blocking_slice_s`), so that it never runs into a socket time-out.

        Args:
            keys: Lists, in order of precedence.
            timeout: Seconds; 0 waits for ever.

        Returns:
            Key and item, or ``None`` when the time is up.
        """
        self._require_started()
        return await self._run("blpop", self._connections.first_item(keys, timeout))

    # --- inside ---

    def _enter(self) -> None:
        """Belong to the running loop, see the class."""
        loop = asyncio.get_running_loop()
        if self._home is loop:
            return
        if self._home is not None:
            if not self._home.is_closed() and (self._started or self._lifecycle.locked()):
                raise RuntimeError(
                    f"Redis client '{self.client_id}' belongs to another event loop that is still open: "
                    "use one client for each loop, or stop() it there first"
                )
            self._move()
        self._home = loop

    def _move(self) -> None:
        """Leave all behind that is bound to the loop before."""
        self._executor.forget()
        self._connections.forget()
        self._lifecycle = asyncio.Lock()
        if self._started:
            logger.info("redis_client_moved_to_running_loop", client_id=self.client_id)
            self._pubsub = self._make_pubsub()

    def _make_pubsub(self) -> RedisPubSub:
        subscriptions = self._connections.subscriptions
        return RedisPubSub(self.client, self.client_id, subscriptions=subscriptions, config=self._pubsub_config)

    async def _start_if_needed(self, operation: str) -> None:
        self._enter()
        if self._started:
            return
        logger.warning("redis_client_used_before_start", client_id=self.client_id, operation=operation)
        await self.start()

    def _require_started(self) -> None:
        if not self._started:
            raise RuntimeError(f"Redis client '{self.client_id}' is not running.")
        self._enter()

    def _require_pubsub(self) -> RedisPubSub:
        if self._pubsub is None:
            raise RuntimeError(f"Redis client '{self.client_id}' is not running: PubSub not initialized.")
        return self._pubsub

    def _pubsub_here(self) -> RedisPubSub:
        """The same, in the loop that the client belongs to."""
        self._require_pubsub()
        self._enter()  # which makes it anew for another loop
        return self._require_pubsub()

    async def _command(self, operation: str, command: Command, *args: Any) -> Any:
        self._require_started()
        return await self._send(operation, command, args)

    async def _early_command(self, operation: str, command: Command, *args: Any) -> Any:
        await self._start_if_needed(operation)
        return await self._send(operation, command, args)

    async def _early_claim(self, operation: str, wanted: Claim) -> bool:
        await self._start_if_needed(operation)
        return await self._run(operation, claim(self._executor, wanted, self._clock))

    async def _send(self, operation: str, command: Command, args: tuple[Any, ...]) -> Any:
        began = self._spans.begin()
        try:
            reply = await self._executor.submit(command, *args)
        except BaseException as error:
            self._failed(operation, command.name, began, error)
            raise
        if began:
            self._spans.record(command.name, began, None)
        return reply

    async def _run(self, operation: str, command: Awaitable[_Reply]) -> _Reply:
        began = self._spans.begin()
        try:
            reply = await command
        except BaseException as error:
            self._failed(operation, operation, began, error)
            raise
        if began:
            self._spans.record(operation, began, None)
        return reply

    def _failed(self, operation: str, name: str, began: int, error: BaseException) -> None:
        if began:
            self._spans.record(name, began, error)
        if isinstance(error, _FAILURES):
            log_redis_failure(self.client_id, operation, error)
