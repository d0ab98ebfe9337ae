"""Publish/subscribe of `RedisClient`: messages to channels, notifications to users.

What arrives, and what is kept of it, is the business of ``redis_pubsub``. Knows nothing of starting or stopping.
"""

from contextlib import AbstractAsyncContextManager
from typing import Any

from huleedu_service_libs.redis_pubsub import Follower, RedisPubSub

__all__ = ["RedisNotices"]


class RedisNotices:
    """What a started client publishes and subscribes to. Errors: see `RedisClient`."""

    def _require_pubsub(self) -> RedisPubSub:
        """That of the client, or an error unless it is started."""
        raise NotImplementedError

    def _pubsub_here(self) -> RedisPubSub:
        """The same, in the loop that the client belongs to."""
        raise NotImplementedError

    async def publish(self, channel: str, message: str) -> int:
        """Publish to a channel; the number of receivers."""
        return await self._pubsub_here().publish(channel, message)

    def subscribe(self, channel: str) -> AbstractAsyncContextManager[Any]:
        """A context in which the yielded PubSub object receives the channel's messages."""
        return self._pubsub_here().subscribe(channel)

    def get_user_channel(self, user_id: str) -> str:
        """The notification channel of a user."""
        return self._require_pubsub().get_user_channel(user_id)

    async def publish_user_notification(
        self, user_id: str, event_type: str, data: dict[str, Any], *, notification_id: str | None = None
    ) -> int:
        """Publish ``{"event": ..., "data": ...}`` to a user's channel, see `RedisPubSub`; the number of receivers."""
        pubsub = self._pubsub_here()
        return await pubsub.publish_user_notification(user_id, event_type, data, notification_id=notification_id)

    def follow_user(self, user_id: str, *, after: str | None = None) -> AbstractAsyncContextManager[Follower]:
        """A context in which a user's notifications arrive, those missed since ``after`` included: see `RedisPubSub`."""
        return self._pubsub_here().follow_user(user_id, after=after)
