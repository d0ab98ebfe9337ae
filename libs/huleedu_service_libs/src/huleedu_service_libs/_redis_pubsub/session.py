"""What one connection has subscribed, and what is still to be said to the server.

The desired state is the hub's registry of channels; a session brings the
server there, and dies with its connection. It does not know of reconnecting.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection

from huleedu_service_libs._clock import Clock, Sleep
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redis_pubsub.cancellation import CANCEL_AGAIN_S
from huleedu_service_libs._redis_pubsub.feed import Command, Feed, Reply, Undecodable
from huleedu_service_libs._redis_pubsub.messages import Message
from huleedu_service_libs._redis_pubsub.settings import PubSubConfig
from huleedu_service_libs._tasks import attended, end

with requires_extra("redis", module=__name__):
    from redis.exceptions import RedisError, ResponseError
    from redis.exceptions import TimeoutError as RedisTimeoutError

__all__ = ["Session"]

_LONGEST_RUN = 100
_MOST_AT_ONCE = 1000


class Session:
    """A connection at work.

    Args:
        feed: The connection.
        wanted: Channels that somebody listens to; it changes, and `changed` tells which.
        on_message: Gets every message.
        on_undecodable: Gets the channel of a message that is no text.
        on_standing: Gets a channel whose subscription stands.
        on_refused: Gets a channel that the server refuses, and its words.
        config: Limits of time.
        clock: Monotonic seconds.
        sleep: Lets others run.

    Attributes:
        standing: Channels that the server has confirmed.
        heard_at: When the server was last heard.
    """

    def __init__(
        self,
        feed: Feed,
        wanted: Collection[str],
        *,
        on_message: Callable[[Message], None],
        on_undecodable: Callable[[str], None],
        on_standing: Callable[[str], None],
        on_refused: Callable[[str, ResponseError], None],
        config: PubSubConfig,
        clock: Clock,
        sleep: Sleep,
    ) -> None:
        self.standing: set[str] = set()
        self.heard_at = clock()
        self._feed = feed
        self._wanted = wanted
        self._on_message = on_message
        self._on_undecodable = on_undecodable
        self._on_standing = on_standing
        self._on_refused = on_refused
        self._config = config
        self._clock = clock
        self._sleep = sleep
        self._asked: set[str] = set()  # channels whose last command was SUBSCRIBE
        self._dirty: set[str] = set(wanted)  # channels whose state may differ from the desired one
        self._ping = False
        self._unanswered: deque[Command] = deque()  # bound: one for each who joins or leaves, and waits
        self._farewells: dict[str, asyncio.Future[None]] = {}
        self._work = asyncio.Event()
        self._work.set()

    async def run(self) -> None:
        """Read and send until the connection breaks.

        Raises:
            redis.exceptions.RedisError: It broke.
            OSError: It broke.
        """
        tasks = {attended(self._read(), name="redis-pubsub-reader"), attended(self._send(), name="redis-pubsub-sender")}
        try:
            # no limit: reading fails when the server is silent for too long
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            done.pop().result()
        finally:
            await end(*tasks, limit_s=self._config.clean_up_timeout_s, again_s=CANCEL_AGAIN_S)
            self._end_farewells()

    def changed(self, channel: str) -> None:
        """Bring a channel into its desired state, soon."""
        self._dirty.add(channel)
        self._work.set()

    async def gone(self, channel: str, limit_s: float) -> None:
        """Wait until the server has confirmed that nobody listens to a channel, or somebody does again.

        Raises:
            TimeoutError: Not within ``limit_s`` seconds.
        """
        if channel not in self._asked and channel not in self._dirty:
            return
        farewell = self._farewells.get(channel)
        if farewell is None:
            farewell = self._farewells[channel] = asyncio.get_running_loop().create_future()
        self.changed(channel)
        async with asyncio.timeout(limit_s):
            await asyncio.shield(farewell)  # others may wait for the same

    # --- sending ---

    async def _send(self) -> None:
        while True:
            await self._work.wait()  # no limit: as long as the connection
            self._work.clear()
            while commands := self._due():
                self._unanswered.extend(commands)
                await self._feed.send(commands)

    def _due(self) -> list[Command]:
        commands: list[Command] = []
        if self._ping:
            self._ping = False
            commands.append(("PING", ""))
        while self._dirty and len(commands) < _MOST_AT_ONCE:
            channel = self._dirty.pop()
            if channel in self._wanted:
                self._end_farewell(channel)
                if channel not in self._asked:
                    self._asked.add(channel)
                    commands.append(("SUBSCRIBE", channel))
            elif channel in self._asked:
                self._asked.discard(channel)
                self.standing.discard(channel)
                commands.append(("UNSUBSCRIBE", channel))
            else:
                self._end_farewell(channel)
        return commands

    # --- reading ---

    async def _read(self) -> None:
        run = 0
        asked_for_a_word = False
        while True:
            heard = await self._feed.read(
                self._config.answer_timeout_s if asked_for_a_word else self._config.health_interval_s
            )
            if heard is None:
                if asked_for_a_word:
                    silent_s = self._clock() - self.heard_at
                    raise RedisTimeoutError(f"the server has said nothing for {silent_s:.1f} s, not even to a PING")
                asked_for_a_word = self._ping = True
                self._work.set()
                continue
            self.heard_at = self._clock()
            asked_for_a_word = False
            self._handle(heard)
            run += 1
            if run % _LONGEST_RUN == 0:  # what has arrived in one piece comes without a pause: let the readers in
                await self._sleep(0)

    def _handle(self, heard: Message | Undecodable | Reply) -> None:
        if isinstance(heard, Message):
            self._on_message(heard)
        elif isinstance(heard, Undecodable):
            self._on_undecodable(heard.channel)
        else:
            self._answered(heard.error)

    def _answered(self, error: ResponseError | None) -> None:
        if not self._unanswered:
            raise RedisError("the server has answered what nobody asked")
        kind, channel = self._unanswered.popleft()
        if kind == "UNSUBSCRIBE":
            if channel not in self._asked:
                self._end_farewell(channel)
        elif kind == "SUBSCRIBE" and channel in self._asked and ("SUBSCRIBE", channel) not in self._unanswered:
            if error is not None:
                self._asked.discard(channel)
                self._on_refused(channel, error)
            else:
                self.standing.add(channel)
                self._on_standing(channel)

    def _end_farewell(self, channel: str) -> None:
        farewell = self._farewells.pop(channel, None)
        if farewell is not None and not farewell.done():
            farewell.set_result(None)

    def _end_farewells(self) -> None:
        for channel in list(self._farewells):
            self._end_farewell(channel)
