"""Publish/subscribe over Redis, and the notifications that reach users through WebSockets.

`RedisClient` owns one; a service may build its own from a driver client. It
knows nothing of starting: a connection for subscribers exists while there are
any.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import PurePath
from typing import Any

from pydantic import SecretBytes, SecretStr
from pydantic_core import to_jsonable_python

from huleedu_service_libs._client_metrics import log_redis_failure
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._json import dumps
from huleedu_service_libs._redis_pubsub.hub import Hub
from huleedu_service_libs._redis_pubsub.metrics import Reports
from huleedu_service_libs._redis_pubsub.settings import Overflow, PubSubConfig
from huleedu_service_libs._redis_pubsub.subscription import Gap, GapReason, Subscription, SubscriptionClosedError

with requires_extra("redis", module=__name__):
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

__all__ = ["Gap", "GapReason", "Overflow", "PubSubConfig", "RedisPubSub", "Subscription", "SubscriptionClosedError"]


class RedisPubSub:
    """Channels of one Redis server.

    All subscribers share one connection. When it breaks it is made again, however long that takes,
    and every channel is subscribed again; each subscriber is told that messages may be missing.

    Args:
        client: The driver's client, for publishing.
        client_id: Name in logs and metrics.
        subscriptions: The driver's client that lends the connection for subscribing; ``client`` by default.
        config: Bounds of queues and of time.
    """

    def __init__(
        self,
        client: Redis,
        client_id: str,
        *,
        subscriptions: Redis | None = None,
        config: PubSubConfig | None = None,
    ) -> None:
        self._client = client
        self._client_id = client_id
        self._config = config or PubSubConfig()
        self._reports = Reports(client_id)
        lender = subscriptions if subscriptions is not None else client
        self._hub = Hub(lambda: lender.connection_pool, client_id, self._config, self._reports)

    async def publish(self, channel: str, message: str) -> int:
        """Publish to a channel.

        Returns:
            The number of receivers; the subscribers of one client count as one.

        Raises:
            redis.exceptions.RedisError: As the driver raises it, after one log line.
        """
        try:
            return int(await self._client.publish(channel, message))
        except (RedisError, OSError, TimeoutError) as error:
            log_redis_failure(self._client_id, "publish", error, channel=channel)
            raise

    @asynccontextmanager
    async def subscribe(
        self,
        channel: str,
        *,
        queue_size: int | None = None,
        overflow: Overflow | None = None,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> AsyncIterator[Subscription]:
        """Receive a channel's messages inside the block.

        The subscription stands when the block begins: what is published from then on arrives. When the
        connection is lost, the yielded object waits until it is back, however long that takes; messages
        sent in between are lost, as always with publish/subscribe, and the reader is told of the `Gap`.

        Args:
            channel: Which.
            queue_size: Messages that wait at most; as the config has it by default.
            overflow: What happens beyond; as the config has it by default.
            on_gap: Called when the reader comes to a place where messages may be missing.

        Yields:
            What is read like the driver's object: ``await it.get_message(ignore_subscribe_messages=True,
            timeout=1.0)``. Its messages carry ``data`` as ``str``.

        Raises:
            ValueError: ``queue_size`` is not positive.
            redis.exceptions.RedisError: It could not subscribe; after one log line.
        """
        if queue_size is not None and queue_size <= 0:
            raise ValueError(f"queue_size must be positive, got {queue_size}")
        subscription = Subscription(
            channel,
            size=queue_size or self._config.queue_size,
            overflow=overflow or self._config.overflow,
            reports=self._reports,
            on_gap=on_gap,
        )
        try:
            seat = await self._hub.join(channel, subscription)
        except (RedisError, OSError, TimeoutError) as error:
            log_redis_failure(self._client_id, "subscribe", error, channel=channel)
            raise
        try:
            yield subscription
        finally:
            await self._hub.leave(seat)

    async def aclose(self) -> None:
        """End all subscriptions: their readers get `SubscriptionClosedError`. Usable again afterwards."""
        await self._hub.aclose("the client was stopped")

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
