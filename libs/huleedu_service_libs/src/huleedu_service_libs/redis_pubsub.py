"""Publish/subscribe over Redis, and the notifications that reach users through WebSockets.

`RedisClient` owns one; a service may build its own from a driver client. It
knows nothing of starting: a connection for subscribers exists while there are
any.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

from huleedu_service_libs._checks import positive
from huleedu_service_libs._client_metrics import log_redis_failure
from huleedu_service_libs._clock import Sleep, sleep
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._ids import random_id
from huleedu_service_libs._redis_pubsub.cursor import FROM_START, Cursor, HistoryGone, InvalidCursorError, Loss
from huleedu_service_libs._redis_pubsub.encoding import notification_text
from huleedu_service_libs._redis_pubsub.follower import Follower, Notification, WakeUp
from huleedu_service_libs._redis_pubsub.history import History, NotificationHistory
from huleedu_service_libs._redis_pubsub.hub import Hub, Seat
from huleedu_service_libs._redis_pubsub.messages import Gap, GapReason, Receiver, SubscriptionClosedError
from huleedu_service_libs._redis_pubsub.metrics import Reports
from huleedu_service_libs._redis_pubsub.settings import Overflow, PubSubConfig
from huleedu_service_libs._redis_pubsub.subscription import Subscription

with requires_extra("redis", module=__name__):
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

__all__ = [
    "FROM_START",
    "Follower",
    "Gap",
    "GapReason",
    "HistoryGone",
    "InvalidCursorError",
    "Loss",
    "Notification",
    "NotificationHistory",
    "Overflow",
    "PubSubConfig",
    "RedisPubSub",
    "Subscription",
    "SubscriptionClosedError",
    "UserNotifications",
]


class UserNotifications(Protocol):
    """Notifications that a user gets also after having been away. `RedisClient` and `RedisPubSub` have both methods."""

    async def publish_user_notification(
        self, user_id: str, event_type: str, data: dict[str, Any], *, notification_id: str | None = None
    ) -> int:
        """Notify a user; the same ``notification_id`` again has no second effect."""
        ...

    def follow_user(self, user_id: str, *, after: str | None = None) -> AbstractAsyncContextManager[Follower]:
        """A user's notifications after the one with that id."""
        ...


class RedisPubSub:
    """Channels of one Redis server.

    All subscribers share one connection. When it breaks it is made again, however long that takes,
    and every channel is subscribed again; each subscriber is told that messages may be missing.

    Args:
        client: The driver's client, for publishing.
        client_id: Name in logs and metrics.
        subscriptions: The driver's client that lends the connection for subscribing; ``client`` by default.
        config: Bounds of queues and of time, and what is kept of notifications.
        sleep: Waits.
    """

    def __init__(
        self,
        client: Redis,
        client_id: str,
        *,
        subscriptions: Redis | None = None,
        config: PubSubConfig | None = None,
        sleep: Sleep = sleep,
    ) -> None:
        self._client = client
        self._client_id = client_id
        self._config = config or PubSubConfig()
        self._reports = Reports(client_id)
        kept = self._config.history
        self._history = History(client, kept, client_id, self._reports, sleep=sleep) if kept is not None else None
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
        positive(queue_size=queue_size)
        subscription = Subscription(
            channel,
            size=queue_size or self._config.queue_size,
            overflow=overflow or self._config.overflow,
            reports=self._reports,
            on_gap=on_gap,
        )
        seat = await self._join(channel, subscription)
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

    async def publish_user_notification(
        self, user_id: str, event_type: str, data: dict[str, Any], *, notification_id: str | None = None
    ) -> int:
        """Publish ``{"event": event_type, "data": data}`` as JSON to the user's channel.

        UUIDs, dates, enum members, decimals, sets, pydantic models and dataclasses take their JSON
        form; secrets stay masked. With a history (`PubSubConfig.history`) the notification is kept,
        and a lost reply is tried again without doubling it.

        Args:
            user_id: Whom.
            event_type: What happened.
            data: The particulars.
            notification_id: Of a notification that a handler may send again, such as the event's id; sent
                twice while the history keeps it, it has one effect. Needs a history.

        Returns:
            The number of receivers; 0 for what had been sent before.

        Raises:
            TypeError: ``data`` holds something without a JSON form.
            ValueError: A ``notification_id`` without a history.
            redis.exceptions.RedisError: As the driver raises it, after one log line.
        """
        text = notification_text(event_type, data)
        channel = self.get_user_channel(user_id)
        if self._history is None:
            if notification_id is not None:
                raise ValueError("notification_id needs a history: PubSubConfig(history=NotificationHistory())")
            return await self.publish(channel, text)
        try:
            return (await self._history.store(channel, text, notification_id or random_id())).receivers
        except (RedisError, OSError, TimeoutError) as error:
            log_redis_failure(self._client_id, "publish_user_notification", error, channel=channel)
            raise

    @asynccontextmanager
    async def follow_user(self, user_id: str, *, after: str | None = None) -> AsyncIterator[Follower]:
        """Receive a user's notifications inside the block, those that were missed included.

        Args:
            user_id: Whose.
            after: The ``id`` of the last notification that the client has seen; ``None`` begins now, `FROM_START`
                with the oldest that is kept.

        Yields:
            What is iterated: `Notification`, or `HistoryGone` where some are missing for good.

        Raises:
            RuntimeError: There is no history.
            InvalidCursorError: ``after`` is no such id. It is a `ValueError`.
            redis.exceptions.RedisError: It could not subscribe; after one log line.
        """
        history, kept = self._history, self._config.history
        if history is None or kept is None:
            raise RuntimeError(
                f"Redis client '{self._client_id}' keeps no notifications: PubSubConfig(history=NotificationHistory())"
            )
        place = Cursor.parse(after) if after is not None else None
        channel, wake_up = self.get_user_channel(user_id), WakeUp()
        seat = await self._join(channel, wake_up)
        try:
            yield Follower(
                channel,
                history=history,
                place=place or await history.head(channel),
                wake_up=wake_up,
                config=kept,
                reports=self._reports,
            )
        finally:
            await self._hub.leave(seat)

    async def _join(self, channel: str, receiver: Receiver) -> Seat:
        try:
            return await self._hub.join(channel, receiver)
        except (RedisError, OSError, TimeoutError) as error:
            log_redis_failure(self._client_id, "subscribe", error, channel=channel)
            raise
