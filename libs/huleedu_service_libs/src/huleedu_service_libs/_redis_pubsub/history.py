"""Notifications that stay for a while: appended and read by scripts, each of them one step for the server.

A channel has three keys in one hash slot: the entries (a stream), their
numbering (epoch and offset) and the ids of those that are kept, by which a
repeated append is recognised. `NotificationHistory` bounds all of them.
"""

import random
from dataclasses import dataclass
from secrets import token_hex

from huleedu_service_libs._backoff import grown, spread
from huleedu_service_libs._checks import numbers_of, positive
from huleedu_service_libs._client_metrics import note_redis_swallowed
from huleedu_service_libs._clock import Sleep, sleep
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redis_pubsub.cursor import Cursor, Entry, Page
from huleedu_service_libs._redis_pubsub.metrics import Reports

with requires_extra("redis", module=__name__):
    from redis.asyncio import Redis
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import TimeoutError as RedisTimeoutError

__all__ = ["Appended", "History", "NotificationHistory"]

_EPOCH_BYTES = 8
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.1, 5.0
_LOST = (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError)

_APPEND = """
local entries, numbering, ids = KEYS[1], KEYS[2], KEYS[3]
local channel, text, id, new_epoch = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local size, keep_ms, remember_ms = ARGV[5], ARGV[6], ARGV[7]
if redis.call('ZSCORE', ids, id) then
  return {0, 0}
end
if redis.call('HSETNX', numbering, 'epoch', new_epoch) == 1 then
  redis.call('DEL', entries, ids)
  redis.call('HDEL', numbering, 'offset')
end
local offset = redis.call('HINCRBY', numbering, 'offset', 1)
local entry = redis.call('XADD', entries, 'MAXLEN', size, '*', 'o', offset, 't', text)
local oldest = tonumber(string.match(entry, '^%d+')) - tonumber(keep_ms)
redis.call('XTRIM', entries, 'MINID', string.format('%.0f', math.max(oldest, 0)))
redis.call('ZADD', ids, offset, id)
redis.call('ZREMRANGEBYRANK', ids, 0, -tonumber(size) - 1)
redis.call('PEXPIRE', entries, keep_ms)
redis.call('PEXPIRE', ids, keep_ms)
redis.call('PEXPIRE', numbering, remember_ms)
return {1, redis.call('PUBLISH', channel, text)}
"""

_READ = """
local entries, numbering = KEYS[1], KEYS[2]
local epoch, after, count = ARGV[1], ARGV[2], ARGV[3]
local now = redis.call('HMGET', numbering, 'epoch', 'offset')
if not now[1] then
  return {'', 0, {}}
end
if after == '$' then
  return {now[1], now[2], redis.call('XREVRANGE', entries, '+', '-', 'COUNT', 1)}
end
local from = '(' .. after
if epoch ~= '' and epoch ~= now[1] then
  from = '-'
end
return {now[1], now[2], redis.call('XRANGE', entries, from, '+', 'COUNT', count)}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationHistory:
    """How much of each user's notifications is kept, and for how long.

    Attributes:
        size: Notifications of one channel.
        keep_s: Seconds that a notification can be had again, and that a repeated one is recognised by its id.
        remember_s: Seconds after the last notification for which the numbering is kept, so that a reader that has
            been away for longer than ``keep_s`` and has missed nothing is not told otherwise.
        page: Notifications that are read at once.
        poll_s: Seconds after which a reader looks though nothing has woken it: what a lost wake-up costs.
        attempts: Times that an append is tried when its reply is lost. The id makes that safe.
        key_prefix: Before the names of the keys; the same for all services that notify the same users.

    Raises:
        ValueError: A value is not positive, or the numbering would be forgotten before the notifications.
    """

    size: int = 1000
    keep_s: float = 86_400.0
    remember_s: float = 7 * 86_400.0
    page: int = 100
    poll_s: float = 10.0
    attempts: int = 3
    key_prefix: str = ""

    def __post_init__(self) -> None:
        positive(**numbers_of(self))
        if self.remember_s < self.keep_s:
            raise ValueError(f"remember_s must be at least keep_s ({self.keep_s:g}), got {self.remember_s:g}")


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of a notification.

    Attributes:
        new: Whether it was stored now; otherwise it had been before.
        receivers: Subscribers that got it at once.
    """

    new: bool
    receivers: int


class History:
    """The histories of channels on one server.

    Args:
        client: The driver's client.
        config: Bounds.
        client_id: Name in logs and metrics.
        reports: Metrics.
        sleep: Waits.
    """

    def __init__(
        self, client: Redis, config: NotificationHistory, client_id: str, reports: Reports, *, sleep: Sleep = sleep
    ) -> None:
        self._config = config
        self._client_id = client_id
        self._reports = reports
        self._sleep = sleep
        self._append = client.register_script(_APPEND)
        self._read = client.register_script(_READ)

    async def store(self, channel: str, text: str, notification_id: str) -> Appended:
        """Store a notification and wake the channel's readers, unless it is stored already.

        A lost reply is tried again, which its id makes safe.

        Raises:
            redis.exceptions.RedisError: As the driver raises it, after the last attempt.
        """
        attempt = 1
        while True:
            try:
                appended = await self._store(channel, text, notification_id)
            except _LOST as error:
                if attempt >= self._config.attempts:
                    raise
                note_redis_swallowed(self._client_id, "append", error, channel=channel, attempt=attempt)
            else:
                self._reports.stored(new=appended.new)
                return appended
            longest = grown(attempt, first=_FIRST_RETRY_S, longest=_LONGEST_RETRY_S)
            await self._sleep(spread(longest, random.random()))  # noqa: S311  # no secret
            attempt += 1

    async def _store(self, channel: str, text: str, notification_id: str) -> Appended:
        config = self._config
        arguments: list[str | int] = [
            channel,
            text,
            notification_id,
            token_hex(_EPOCH_BYTES),
            config.size,
            round(config.keep_s * 1000),
            round(config.remember_s * 1000),
        ]
        new, receivers = await self._append(keys=self._keys(channel), args=arguments)
        return Appended(bool(new), int(receivers))

    async def after(self, channel: str, place: Cursor) -> Page:
        """What comes after a place; no more than a page.

        Raises:
            redis.exceptions.RedisError: As the driver raises it.
        """
        return await self._page(channel, [place.epoch, place.entry, self._config.page])

    async def head(self, channel: str) -> Cursor:
        """The place behind the latest notification.

        Raises:
            redis.exceptions.RedisError: As the driver raises it.
        """
        return (await self._page(channel, ["", "$", 1])).head()

    async def _page(self, channel: str, arguments: list[str | int]) -> Page:
        epoch, offset, entries = await self._read(keys=self._keys(channel)[:2], args=arguments)
        return Page(_text(epoch), int(offset), [_entry(*each) for each in entries])

    def _keys(self, channel: str) -> list[str]:
        base = f"{self._config.key_prefix}{{{channel}}}"  # braces: one hash slot of a cluster
        return [f"{base}:history", f"{base}:numbering", f"{base}:ids"]


def _entry(entry: str | bytes, fields: list[str | bytes]) -> Entry:
    _, offset, _, text = fields
    return Entry(_text(entry), int(offset), _text(text))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
