"""A user of the demo: token, WebSocket, and everything that arrived on it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

import httpx
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from essay_pipeline.contracts import ACCEPTED_NOTIFICATION, CHECKED_NOTIFICATION, READY_NOTIFICATION
from essay_pipeline.demo.oracle import Notification
from huleedu_service_libs.redis_pubsub import NotificationHistory, PubSubConfig, RedisPubSub

__all__ = ["FENCE", "Arrival", "User", "send_fences"]

FENCE = "demo.fence"
"""Published on a user's channel at the end: whatever came before it has arrived when it arrives."""

_READY_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One message.

    Attributes:
        message: As it came.
        at: When.
    """

    message: dict[str, Any]
    at: datetime

    @property
    def event(self) -> str:
        """Name of the notification."""
        return str(self.message["event"])

    @property
    def essay_id(self) -> str:
        """What it is about."""
        return str(self.message["data"]["essay_id"])


@dataclass(slots=True, kw_only=True)
class User:
    """One user with an open page.

    Attributes:
        user_id: As *notify* named them.
        token: What *intake* wants to see.
        arrivals: What the WebSocket brought, in order.
        fenced: Set when the fence has arrived.
        on_arrival: Told of every notification about an essay.
    """

    user_id: str
    token: str
    on_arrival: Callable[[Arrival], None] = lambda _: None  # a default, not a name
    arrivals: list[Arrival] = field(default_factory=list)
    fenced: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    @asynccontextmanager
    async def connected(
        cls, notify_url: str, on_arrival: Callable[[Arrival], None] = lambda _: None
    ) -> AsyncIterator[Self]:
        """A new user whose WebSocket is ready."""
        async with httpx.AsyncClient(trust_env=False) as http:
            config = (await http.get(f"{notify_url}/config.json")).raise_for_status().json()
        user = cls(user_id=config["user_id"], token=config["token"], on_arrival=on_arrival)
        url = f"{notify_url.replace('http', 'ws', 1)}/ws?token={user.token}"
        async with connect(url, max_size=2**21, proxy=None) as socket:
            async with asyncio.timeout(_READY_S):
                first = json.loads(await socket.recv())
            if (first["event"], first["data"]) != (READY_NOTIFICATION, {"user_id": user.user_id}):
                raise RuntimeError(f"The first message must be 'ready' for {user.user_id}, got {first}")
            reader = asyncio.create_task(user._read(socket))
            try:
                yield user
            finally:
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)

    async def wait_for(self, event: str, essay_id: str, limit: float = 20.0) -> Arrival:
        """The notification ``event`` about an essay, which may have arrived already.

        Raises:
            TimeoutError: It does not come within ``limit`` seconds.
        """
        async with asyncio.timeout(limit):
            while True:
                for arrival in self.arrivals:
                    if (arrival.event, arrival.essay_id) == (event, essay_id):
                        return arrival
                self._news.clear()
                await self._news.wait()

    def notifications(self) -> list[Notification]:
        """What arrived, as the oracle takes it."""
        return [
            Notification(
                event=arrival.event,
                essay_id=arrival.essay_id,
                misspellings=frozenset(
                    (found["start"], found["word"]) for found in arrival.message["data"].get("misspellings", ())
                ),
            )
            for arrival in self.arrivals
        ]

    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for text in socket:
                message = json.loads(text)
                if message["event"] == FENCE:
                    self.fenced.set()
                elif message["event"] in {ACCEPTED_NOTIFICATION, CHECKED_NOTIFICATION}:
                    arrival = Arrival(message=message, at=datetime.now(UTC))
                    self.arrivals.append(arrival)
                    self._news.set()
                    self.on_arrival(arrival)
        except ConnectionClosed:
            return  # what it would have brought is missed, and so reported


async def send_fences(redis_url: str, namespace: str, users: Sequence[User]) -> None:
    """Send each user a notification that comes after all others.

    Args:
        redis_url: The server.
        namespace: Of the pipeline.
        users: Whom.
    """
    kept = PubSubConfig(history=NotificationHistory(key_prefix=namespace))
    async with Redis.from_url(redis_url) as redis:
        notifications = RedisPubSub(redis, "demo", config=kept)
        for user in users:
            await notifications.publish_user_notification(user.user_id, FENCE, {})
