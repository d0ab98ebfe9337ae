"""One connection to the server that subscribes, and what it brings.

The hub opens one and opens another when it breaks. It speaks RESP2 and RESP3,
and leaves the driver only the framing: redis-py's own ``PubSub`` would connect
again behind the hub's back, and for a few seconds only.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Self

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redis_pubsub.messages import Message

with requires_extra("redis", module=__name__):
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import ResponseError
    from redis.exceptions import TimeoutError as RedisTimeoutError

__all__ = ["Command", "Feed", "Reply", "Undecodable"]

Command = tuple[Literal["SUBSCRIBE", "UNSUBSCRIBE", "PING"], str]
"""A command and its channel; none for ``PING``."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The server's answer to the oldest command that has none yet.

    Attributes:
        error: What it refused the command with.
    """

    error: ResponseError | None = None


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A message whose bytes are no text.

    Attributes:
        channel: Where.
    """

    channel: str


class Feed:
    """A connection, from `open` to `close`. One task reads, one sends.

    Args:
        pool: The driver's pool that lends it.
        connection: The driver's connection.
    """

    def __init__(self, pool: Any, connection: Any) -> None:
        self._pool = pool
        self._connection = connection
        encoder = connection.encoder
        self._decodes: bool = encoder.decode_responses
        self._encoding: tuple[str, str] = (encoder.encoding, encoder.encoding_errors)

    @classmethod
    async def open(cls, pool: Any, limit_s: float) -> Self:
        """Borrow a connected connection.

        Raises:
            redis.exceptions.RedisError: The server cannot be reached, or refuses the credentials.
            redis.exceptions.TimeoutError: Not within ``limit_s`` seconds.
        """
        limit = asyncio.timeout(limit_s)
        try:
            async with limit:
                connection = await pool.get_connection()
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise RedisTimeoutError(f"no connection within {limit_s:g} s") from error
        set_handler = getattr(connection._parser, "set_pubsub_push_handler", None)  # noqa: SLF001  # as the driver's PubSub
        if set_handler is not None:
            set_handler(_as_it_comes)  # the driver's default writes every message into its debug log
        return cls(pool, connection)

    async def send(self, commands: Iterable[Command]) -> None:
        """Send commands in one piece.

        Raises:
            redis.exceptions.ConnectionError: The connection is gone.
        """
        if not self._connection.is_connected:  # the driver would connect anew, and nobody would know
            raise RedisConnectionError("the connection is closed")
        words = [command if command[1] else command[:1] for command in commands]
        await self._connection.send_packed_command(self._connection.pack_commands(words), check_health=False)

    async def read(self, limit_s: float) -> Message | Undecodable | Reply | None:
        """What comes next; ``None`` when nothing does within ``limit_s`` seconds.

        Raises:
            redis.exceptions.RedisError: The connection is gone, or speaks nonsense.
        """
        try:
            heard = await self._connection.read_response(
                disable_decoding=True, timeout=limit_s, disconnect_on_error=False, push_request=True
            )
        except ResponseError as error:
            return Reply(error)
        if heard is None:
            return None
        if isinstance(heard, list) and heard[0] == b"message":
            return self._message(heard[1], heard[2])
        return Reply()  # subscribe, unsubscribe, pong

    async def close(self) -> None:
        """Close the connection at once, and give its place in the pool back. Idempotent."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            await connection.disconnect(nowait=True)  # a subscribed connection is of no use to anybody else
        finally:
            await self._pool.release(connection)

    def _message(self, channel: bytes, data: bytes) -> Message | Undecodable:
        name = channel.decode(self._encoding[0], "replace")
        if not self._decodes:
            return Message(name, data)
        try:
            return Message(name, data.decode(*self._encoding))
        except UnicodeDecodeError:
            return Undecodable(name)


async def _as_it_comes(response: Any) -> Any:
    return response
