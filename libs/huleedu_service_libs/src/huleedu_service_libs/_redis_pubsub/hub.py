"""All subscriptions of a client over one connection, which is made again for as long as anybody listens.

`RedisPubSub` owns one. There is a connection, and a task, only while there are
subscribers. It knows nothing of what messages mean.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from huleedu_service_libs._backoff import grown, spread
from huleedu_service_libs._client_metrics import note_redis_swallowed
from huleedu_service_libs._clock import Clock, Sleep, monotonic, sleep
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redis_pubsub.cancellation import CANCEL_AGAIN_S
from huleedu_service_libs._redis_pubsub.feed import Feed
from huleedu_service_libs._redis_pubsub.messages import Message, Receiver, SubscriptionClosedError
from huleedu_service_libs._redis_pubsub.metrics import Reports
from huleedu_service_libs._redis_pubsub.session import Session
from huleedu_service_libs._redis_pubsub.settings import PubSubConfig
from huleedu_service_libs._tasks import begin, end, look_away

with requires_extra("redis", module=__name__):
    from redis.exceptions import ResponseError
    from redis.exceptions import TimeoutError as RedisTimeoutError

__all__ = ["Hub", "Seat"]


@dataclass(slots=True, eq=False)
class Seat:
    """A receiver's place in a channel.

    Attributes:
        channel: Which.
        receiver: Who.
        ready: Done when the subscription stands for the first time, or cannot be made.
        away_since: When the server was last heard before the connection broke.
    """

    channel: str
    receiver: Receiver
    ready: asyncio.Future[None]
    away_since: float | None = None

    @property
    def established(self) -> bool:
        """Whether the subscription has ever stood."""
        return self.ready.done() and not self.ready.cancelled() and self.ready.exception() is None

    def retire(self) -> None:
        """Nobody waits any more."""
        if not self.ready.cancel():
            look_away(self.ready)


class Hub:
    """Who listens where, and the connection that serves them all.

    It belongs to the event loop of its subscribers; once the last has left, to that of the next.

    Args:
        pool: Gives the driver's pool of connections.
        client_id: Name in logs and metrics.
        config: Limits of time.
        reports: Metrics and log.
        clock: Monotonic seconds.
        sleep: Waits.
        jitter: A number in [0, 1) at each call.
    """

    def __init__(
        self,
        pool: Callable[[], Any],
        client_id: str,
        config: PubSubConfig,
        reports: Reports,
        *,
        clock: Clock = monotonic,
        sleep: Sleep = sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._pool = pool
        self._client_id = client_id
        self._config = config
        self._reports = reports
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._channels: dict[str, list[Seat]] = {}
        self._session: Session | None = None
        self._runner: asyncio.Task[None] | None = None
        self._away_since: float | None = None

    async def join(self, channel: str, receiver: Receiver) -> Seat:
        """Listen to a channel; when this returns, the server has confirmed it.

        Raises:
            redis.exceptions.RedisError: It could not subscribe.
            RuntimeError: The hub is at work in another event loop.
        """
        loop = asyncio.get_running_loop()
        self._check_loop(loop)
        seat = Seat(channel, receiver, loop.create_future())
        self._channels.setdefault(channel, []).append(seat)
        self._reports.joined()
        try:
            self._ask_for(seat)
            await self._confirmation(seat)
        except BaseException:
            await self.leave(seat)
            raise
        return seat

    async def leave(self, seat: Seat) -> None:
        """Listen no more. Returns when the server has confirmed it, or the time for that is up; never fails."""
        seats = self._channels.get(seat.channel, [])
        if seat not in seats:
            return
        seats.remove(seat)
        seat.retire()
        self._reports.left()
        if seats:
            return
        del self._channels[seat.channel]
        try:
            await self._say_farewell(seat.channel)
        finally:
            if not self._channels:
                await self._retire()

    async def aclose(self, reason: str) -> None:
        """End all subscriptions and the connection. Usable again afterwards."""
        for channel, seats in self._channels.items():
            for seat in seats:
                error = SubscriptionClosedError(channel, reason)
                seat.receiver.fail(error)
                if not seat.ready.done():
                    seat.ready.set_exception(error)
        await self._retire()

    # --- seats ---

    def _check_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        runner = self._runner
        if runner is None or runner.get_loop() is loop:
            return
        if not runner.get_loop().is_closed():
            raise RuntimeError(
                f"Redis client '{self._client_id}' has subscribers in another event loop; use one client a loop"
            )
        self._runner = self._session = None  # its loop has ended without leaving: nobody is there
        for seats in self._channels.values():
            for _ in seats:
                self._reports.left()
        self._channels.clear()

    def _ask_for(self, seat: Seat) -> None:
        if self._runner is None:
            self._away_since = None
            self._runner = begin(self._run(), name=f"redis-pubsub-{self._client_id}")
        elif self._session is not None:
            if seat.channel in self._session.standing:
                seat.ready.set_result(None)
            else:
                self._session.changed(seat.channel)

    async def _confirmation(self, seat: Seat) -> None:
        limit_s = self._config.confirm_timeout_s
        await asyncio.wait({seat.ready}, timeout=limit_s)
        if not seat.ready.done():
            raise RedisTimeoutError(f"Redis did not confirm the subscription within {limit_s:g} s")
        seat.ready.result()

    async def _say_farewell(self, channel: str) -> None:
        if self._session is None:
            return
        try:
            await self._session.gone(channel, self._config.clean_up_timeout_s)
        except TimeoutError as error:
            note_redis_swallowed(self._client_id, "unsubscribe", error, channel=channel)

    async def _retire(self) -> None:
        runner, self._runner, self._session = self._runner, None, None
        if runner is not None:
            await end(runner, limit_s=self._config.clean_up_timeout_s, again_s=CANCEL_AGAIN_S)

    # --- the connection ---

    async def _run(self) -> None:
        failures = 0
        while True:
            session: Session | None = None
            try:
                feed = await Feed.open(self._pool(), self._config.connect_timeout_s)
                try:
                    session = self._begin(feed)
                    await session.run()
                finally:
                    self._end(session)
                    await self._close(feed)
            except Exception as error:  # noqa: BLE001  # whatever it is, subscribers need their connection back
                failures = 0 if session is not None and session.standing else failures
                failures += 1
                self._broke(session, error, failures)
            await self._sleep(self._pause(failures))

    def _begin(self, feed: Feed) -> Session:
        self._session = Session(
            feed,
            self._channels.keys(),
            on_message=self._message,
            on_undecodable=self._undecodable,
            on_standing=self._standing,
            on_refused=self._refused,
            config=self._config,
            clock=self._clock,
            sleep=self._sleep,
        )
        return self._session

    def _end(self, session: Session | None) -> None:
        if session is not None and self._session is session:  # a runner that was retired may end after the next began
            self._session = None

    async def _close(self, feed: Feed) -> None:
        try:
            await feed.close()
        except Exception as error:  # noqa: BLE001  # whatever the driver says, the connection is given up
            note_redis_swallowed(self._client_id, "close", error)

    def _broke(self, session: Session | None, error: Exception, failures: int) -> None:
        """The connection broke, or could not be made: who waits for it is told, who had it will be."""
        if session is not None and session.standing:
            self._reports.lost(error, len(session.standing))
        else:
            self._reports.still_away(error, failures)
        for seat in [seat for seats in self._channels.values() for seat in seats]:
            if session is None and not seat.ready.done():
                seat.ready.set_exception(error)
            elif session is not None and seat.established and seat.away_since is None:
                seat.away_since = session.heard_at
        if self._away_since is None and session is not None and session.standing:
            self._away_since = session.heard_at

    def _pause(self, failures: int) -> float:
        longest = grown(failures, first=self._config.first_delay_s, longest=self._config.longest_delay_s)
        return spread(longest, self._jitter())

    # --- what it brings ---

    def _message(self, message: Message) -> None:
        for seat in self._channels.get(message.channel, ()):
            seat.receiver.deliver(message)

    def _undecodable(self, channel: str) -> None:
        self._reports.dropped("undecodable", channel, first=True)

    def _standing(self, channel: str) -> None:
        for seat in self._channels.get(channel, ()):
            if not seat.ready.done():
                seat.ready.set_result(None)
            elif seat.away_since is not None:
                since, seat.away_since = seat.away_since, None
                seat.receiver.missed(self._clock() - since)
        if self._away_since is not None:
            since, self._away_since = self._away_since, None
            self._reports.restored(self._clock() - since, len(self._channels))
        else:
            self._reports.stands()

    def _refused(self, channel: str, error: ResponseError) -> None:
        for seat in self._channels.get(channel, ()):
            if not seat.ready.done():
                seat.ready.set_exception(error)
            else:
                self._reports.refused(channel, error)
                closed = SubscriptionClosedError(channel, f"the server refuses it: {error}")
                seat.receiver.fail(closed)
