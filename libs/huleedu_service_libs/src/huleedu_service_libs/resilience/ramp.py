"""How calls come back after a recovery: a growing share of them. ``machine`` asks it while one is under way."""

from huleedu_service_libs.resilience.policy import Ramp

__all__ = ["RampUp"]


class RampUp:
    """One recovery.

    Calls pass by credit instead of by chance: a share of 10 % is every tenth call, and the first one passes.

    Args:
        ramp: How fast.
        since: When it began, by the breaker's clock.
    """

    __slots__ = ("_credit", "_ramp", "_since")

    def __init__(self, ramp: Ramp, since: float) -> None:
        self._ramp = ramp
        self._since = since
        self._credit = 1.0

    def is_over(self, now: float) -> bool:
        """Whether every call passes again."""
        return now - self._since >= self._ramp.seconds

    def admit(self, now: float) -> str | None:
        """Let one call in, or say why not."""
        ramp = self._ramp
        share = ramp.initial + (1 - ramp.initial) * max(0.0, now - self._since) / ramp.seconds
        self._credit += share
        if self._credit < 1:
            return f"is CLOSED again, but lets only {share:.0%} of the calls through for now"
        self._credit -= 1
        return None
