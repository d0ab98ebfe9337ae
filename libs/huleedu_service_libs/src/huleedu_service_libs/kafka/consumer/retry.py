"""What follows from a failure: again in place, later through a retry topic, or never. Pure; chance is passed in.

``_backoff`` has the arithmetic of delays; half of one is left to chance.
"""

from collections.abc import Callable
from dataclasses import dataclass

from huleedu_service_libs._backoff import grown, spread
from huleedu_service_libs.kafka.consumer.config import RetryPolicy
from huleedu_service_libs.kafka.consumer.errors import HandlerTimeoutError
from huleedu_service_libs.outages import causes, is_outage

__all__ = ["Again", "GiveUp", "Later", "delay_after", "plan_retry", "waits_for_others"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """Run the handler again after ``delay_s`` seconds; the key waits."""

    delay_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """Send the event to retry topic ``tier``, from 1, to be tried after ``delay_s`` seconds; the key goes on."""

    tier: int
    delay_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Dead-letter the event."""


def delay_after(failures: int, *, first_s: float, longest_s: float, jitter: Callable[[], float]) -> float:
    """Seconds to wait after that many failures in a row.

    Args:
        failures: At least one.
        first_s: After the first.
        longest_s: At most.
        jitter: A number in [0, 1).
    """
    return spread(grown(failures, first=first_s, longest=longest_s), jitter())


def waits_for_others(policy: RetryPolicy, error: Exception, *, since_s: float) -> bool:
    """Whether the event has to wait for something that is out of reach, and no attempt is counted.

    Args:
        policy: What else is an outage, and for how long it may last.
        error: What the handler raised.
        since_s: Seconds since the outage began for this event.
    """
    if isinstance(error, (HandlerTimeoutError, *policy.never)):
        return False
    if policy.outage_limit_s is not None and since_s > policy.outage_limit_s:
        return False
    return is_outage(error) or any(isinstance(each, policy.outages) for each in causes(error))


def plan_retry(
    policy: RetryPolicy, error: Exception, *, failures: int, tier: int, jitter: Callable[[], float]
) -> Again | Later | GiveUp:
    """What to do after a failed run.

    Args:
        policy: How often.
        error: What the handler raised.
        failures: Failed runs in place, this one included.
        tier: The retry topic that the event came from; 0 for its first topic.
        jitter: A number in [0, 1).
    """
    if isinstance(error, policy.never):
        return GiveUp()
    in_place = policy.attempts if tier == 0 else 1
    if failures < in_place:
        delay = delay_after(failures, first_s=policy.first_delay_s, longest_s=policy.longest_delay_s, jitter=jitter)
        return Again(delay_s=delay)
    if tier < len(policy.delayed_s):
        return Later(tier=tier + 1, delay_s=policy.delayed_s[tier])
    return GiveUp()
