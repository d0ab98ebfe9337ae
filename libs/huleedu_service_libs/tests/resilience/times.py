"""Time that only passes when a test says so."""

from datetime import UTC, datetime, timedelta

__all__ = ["Time"]


class Time:
    """A monotonic clock, a time of day and a sleep that agree with each other."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime(2026, 11, 28, tzinfo=UTC) + timedelta(seconds=self.seconds)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds

    def passes(self, seconds: float) -> None:
        self.seconds += seconds
