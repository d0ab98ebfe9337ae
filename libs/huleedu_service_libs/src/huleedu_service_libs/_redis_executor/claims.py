"""``SET NX`` that knows its own value again: after a lost reply it looks whether it had won.

`RedisClient.set_if_not_exists` is this. Values are told apart by their text and by their age.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from huleedu_service_libs._clock import Clock
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redis_executor import commands
from huleedu_service_libs._redis_executor.errors import GivenUpError, ReplyLateError, ReplyLostError
from huleedu_service_libs._redis_executor.executor import Executor

with requires_extra("redis", module=__name__):
    from redis.exceptions import ResponseError

__all__ = ["Claim", "claim"]

_ATTEMPTS = 3
_ROUNDING_MS = 2
_NO_EXPIRY = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What shall be set.

    Attributes:
        key: Where.
        value: What. Only a value that no other caller uses tells them apart for certain.
        ttl_seconds: Time to live.
    """

    key: str
    value: str
    ttl_seconds: int | None

    def is_mine(self, stored: str, left_ms: int, elapsed_s: float) -> bool:
        """Whether what is stored was set by this claim.

        The same text is not enough: it may have stood there before. But then less of its time to live
        is left than this claim could have used up.

        Args:
            stored: The text under the key.
            left_ms: Its remaining time to live, as ``PTTL`` says it.
            elapsed_s: Since the claim was issued.
        """
        if stored != _as_stored(self.value):
            return False
        if self.ttl_seconds is None:
            return left_ms == _NO_EXPIRY
        whole_ms = self.ttl_seconds * 1_000
        return whole_ms - elapsed_s * 1_000 - _ROUNDING_MS <= left_ms <= whole_ms


async def claim(executor: Executor, wanted: Claim, clock: Clock) -> bool:
    """Set the key unless it exists; whether this call has set it.

    Raises:
        ReplyLostError: The reply got lost, and Redis could not be asked what became of it.
        ReplyLateError: The same with a reply that did not come in time.
        redis.exceptions.RedisError: As the driver raises it.
    """
    began = clock()
    expiry = () if wanted.ttl_seconds is None else ("EX", wanted.ttl_seconds)
    lost: Exception | None = None
    for _ in range(_ATTEMPTS):
        try:
            won = await executor.submit(commands.CLAIM, wanted.key, wanted.value, "NX", *expiry) is not None
        except GivenUpError:
            raise
        except (ReplyLostError, ReplyLateError) as error:
            lost = error
        else:
            if won or lost is None:
                return won
        # also when this attempt found the key taken: an earlier one may have reached the server after we had looked
        outcome = await _look(executor, wanted, clock, began, lost)
        if outcome is not None:
            return outcome
    raise lost or AssertionError  # each attempt was lost


def _as_stored(value: object) -> str:
    """The text that Redis has of a value; `str` of bytes and of some enum members is another."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str.__str__(value) if isinstance(value, str) else str(value)


async def _look(executor: Executor, wanted: Claim, clock: Clock, began: float, lost: Exception) -> bool | None:
    """Whether the key is ours; ``None`` when it does not exist, so that setting it again is right."""
    asked = executor.submit(commands.GET, wanted.key), executor.submit(commands.PTTL, wanted.key)
    answers: tuple[Any, Any] = await asyncio.gather(*asked, return_exceptions=True)
    stored, left_ms = answers
    if isinstance(stored, ResponseError):
        return False  # no string: another program's
    if isinstance(stored, BaseException) or isinstance(left_ms, BaseException):
        raise lost
    return None if stored is None else wanted.is_mine(stored, left_ms, clock() - began)
