"""How often and how patiently a connection to Redis is tried to be made.

``_redis_endpoints`` gives it to every connection; once made, nothing repeats by it.
"""

import random
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from huleedu_service_libs._backoff import FULL_JITTER, grown, spread
from huleedu_service_libs._clock import Sleep
from huleedu_service_libs._clock import sleep as real_sleep
from huleedu_service_libs._extras import requires_extra

with requires_extra("redis", module=__name__):
    from redis.exceptions import ConnectionError as RedisConnectionError

__all__ = ["Patience"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often a connection is tried to be made.

    Attributes:
        attempts: In all.
        first_delay_s: The longest pause before the second attempt, seconds; doubles with each.
        longest_delay_s: The longest pause at all, seconds.
        sleep: Waits.
        draw: A random number below 1. A pause is that share of the longest.
    """

    attempts: int
    first_delay_s: float
    longest_delay_s: float
    sleep: Sleep = real_sleep
    draw: Callable[[], float] = random.random

    async def insist(self, connect: Callable[[], Awaitable[None]]) -> None:
        """Connect, or raise the last attempt's error; a certificate that is not trusted will not be so later."""
        for attempt in range(1, self.attempts + 1):
            try:
                return await connect()
            except ssl.SSLCertVerificationError:
                raise
            except (OSError, TimeoutError, RedisConnectionError):
                if attempt == self.attempts:
                    raise
            longest = grown(attempt, first=self.first_delay_s, longest=self.longest_delay_s)
            await self.sleep(spread(longest, self.draw(), FULL_JITTER))
        return None
