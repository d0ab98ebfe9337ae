"""Publish/subscribe over Redis, and the notifications that reach users through WebSockets.

`RedisClient` owns one; a service may build its own from a driver client. It
knows nothing of starting and stopping.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import PurePath
from typing import Any

from pydantic import SecretBytes, SecretStr
from pydantic_core import to_jsonable_python

from huleedu_service_libs._client_metrics import log_redis_failure, note_redis_swallowed
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._json import dumps

with requires_extra("redis", module=__name__):
    from redis.asyncio import Redis
    from redis.asyncio.client import PubSub
    from redis.exceptions import RedisError
    from redis.exceptions import TimeoutError as RedisTimeoutError

__all__ = ["RedisPubSub"]

_CONFIRMATION_S = 5.0
_CLEAN_UP_S = 2.0


class RedisPubSub:
    """Channels of one Redis server.

    Args:
        client: The driver's client, for publishing.
        client_id: Name in logs and metrics.
        subscriptions: The driver's client for subscribing, which holds a connection for every
            subscriber; ``client`` by default.
    """

    def __init__(self, client: Redis, client_id: str, *, subscriptions: Redis | None = None) -> None:
        self._client = client
        self._client_id = client_id
        self._subscriptions = subscriptions if subscriptions is not None else client

    async def publish(self, channel: str, message: str) -> int:
        """Publish to a channel.

        Returns:
            The number of receivers.

        Raises:
            redis.exceptions.RedisError: As the driver raises it, after one log line.
        """
        try:
            return int(await self._client.publish(channel, message))
        except (RedisError, OSError, TimeoutError) as error:
            log_redis_failure(self._client_id, "publish", error, channel=channel)
            raise

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[PubSub]:
        """Receive a channel's messages inside the block.

        The subscription stands when the block begins: what is published from then on arrives. The
        yielded object reconnects and subscribes again when the server restarts; messages sent in
        between are lost, as always with publish/subscribe.

        Yields:
            The driver's object; ``await it.get_message(ignore_subscribe_messages=True, timeout=1.0)``.
            Its messages carry ``data`` as ``str``.

        Raises:
            redis.exceptions.RedisError: It could not subscribe; after one log line.
        """
        pubsub = self._subscriptions.pubsub()
        try:
            await self._open(pubsub, channel)
            yield pubsub
        finally:
            await self._close(pubsub, channel)

    def get_user_channel(self, user_id: str) -> str:
        """The channel of a user's notifications."""
        return f"ws:{user_id}"

    async def publish_user_notification(self, user_id: str, event_type: str, data: dict[str, Any]) -> int:
        """Publish ``{"event": event_type, "data": data}`` as JSON to the user's channel.

        UUIDs, dates, enum members, decimals, sets, pydantic models and dataclasses take their JSON
        form; secrets stay masked.

        Returns:
            The number of receivers.

        Raises:
            TypeError: ``data`` holds something without a JSON form.
            redis.exceptions.RedisError: As the driver raises it, after one log line.
        """
        message = dumps({"event": event_type, "data": data}, default=_json_form, any_keys=True)
        return await self.publish(self.get_user_channel(user_id), message.decode("utf-8"))

    async def _open(self, pubsub: PubSub, channel: str) -> None:
        try:
            await pubsub.subscribe(channel)
            # Sending the command is not being subscribed: wait for the server's word
            if await pubsub.get_message(timeout=_CONFIRMATION_S) is None:
                raise RedisTimeoutError(f"Redis did not confirm the subscription within {_CONFIRMATION_S:g} s")
        except (RedisError, OSError, TimeoutError) as error:
            log_redis_failure(self._client_id, "subscribe", error, channel=channel)
            raise

    async def _close(self, pubsub: PubSub, channel: str) -> None:
        try:
            async with asyncio.timeout(_CLEAN_UP_S):
                await pubsub.unsubscribe(channel)
        except (RedisError, OSError, TimeoutError) as error:
            note_redis_swallowed(self._client_id, "unsubscribe", error, channel=channel)
        finally:
            try:
                async with asyncio.timeout(_CLEAN_UP_S):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]  # the driver has no hint there
            except (RedisError, OSError, TimeoutError) as error:
                note_redis_swallowed(self._client_id, "close", error, channel=channel)


def _json_form(value: Any) -> Any:
    """What the encoder does not encode by itself."""
    if isinstance(value, Decimal | PurePath | SecretStr | SecretBytes):
        return str(value)
    try:
        return to_jsonable_python(value)
    except ValueError as error:
        raise TypeError(
            f"{type(value).__name__} has no JSON form; convert it before it goes into a notification"
        ) from error
