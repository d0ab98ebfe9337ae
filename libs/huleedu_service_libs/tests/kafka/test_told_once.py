"""What a resilient publisher tells of a journal and a recovery that fail: a line at the beginning, one when it is over."""

from collections.abc import MutableMapping, Sequence
from types import SimpleNamespace
from typing import Any

from structlog.testing import capture_logs

from huleedu_service_libs.kafka.fallback_handler import QueuedMessage
from huleedu_service_libs.kafka.recovery import Recovery
from huleedu_service_libs.kafka.safekeeping import Safekeeping

from ..waiting import until
from .journals import waiting_message


class _Disk:
    """A spill that keeps a journal, on a disk that is full for a while."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    async def save(self, messages: Sequence[QueuedMessage[Any]]) -> None:
        """Nothing is kept."""

    async def load(self) -> list[QueuedMessage[Any]]:
        """Nothing is found."""
        return []

    async def append(self, _message: QueuedMessage[Any]) -> None:
        """Refused until the disk has room."""
        self.failures -= 1
        if self.failures >= 0:
            raise OSError(28, "No space left on device")

    async def remove(self, _message: QueuedMessage[Any]) -> None:
        """As `append`."""
        await self.append(_message)


def _told(logs: Sequence[MutableMapping[str, Any]]) -> list[tuple[str, int]]:
    return [(line["event"], line["failures"]) for line in logs if "failures" in line]


async def test_a_journal_on_a_full_disk_is_one_trouble() -> None:
    """Messages that cannot be written down, or struck off, are one line; the first that can be is the end."""
    keeping, message = Safekeeping(_Disk(3), object()), waiting_message(1)
    with capture_logs() as logs:
        await keeping.kept(message)
        await keeping.kept(message)
        await keeping.gone(message)
        await keeping.kept(message)
        await keeping.gone(message)
    assert _told(logs) == [("kafka_journal_failed", 1), ("kafka_journal_trouble_over", 3)]


async def test_a_recovery_that_fails_is_one_trouble() -> None:
    """Rounds that fail are one line, and the first that works is another."""
    rounds = [ConnectionError("away")] * 3

    async def process() -> None:
        if rounds:
            raise rounds.pop()

    handler = SimpleNamespace(has_queued_messages=lambda: True)
    sender: Any = SimpleNamespace(handler=handler, breaker=None, held_up=False, delegate=object())
    recovery = Recovery(sender, process, lambda: 0.001)
    with capture_logs() as logs:
        recovery.start()
        await until(lambda: any(line["event"] == "kafka_recovery_trouble_over" for line in logs))
        await recovery.stop(10)
    assert _told(logs) == [("kafka_recovery_failed", 1), ("kafka_recovery_trouble_over", 3)]
