"""A listener of tests that remembers what an executor tells it."""

from huleedu_service_libs._redis_executor.line import Call
from huleedu_service_libs._redis_executor.reports import ExecutorListener
from huleedu_service_libs.redis_client import (
    RedisClient,
)


class Witness(ExecutorListener):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.most_unanswered = 0
        self.replies = 0
        self.losses: list[tuple[int, int]] = []
        self.connections: list[bool] = []

    def sent(self, commands: int) -> None:
        self.batches.append(commands)
        self.most_unanswered = max(self.most_unanswered, sum(self.batches) - self.replies)

    def answered(self, calls: list[Call], at: float) -> None:
        self.replies += len(calls)

    def lost(self, unanswered: int, repeated: int, error: Exception | None) -> None:
        self.losses.append((unanswered, repeated))

    def connected(self, *, again: bool) -> None:
        self.connections.append(again)


def watched_by(client: RedisClient) -> Witness:
    """Told what the client does from now on."""
    witness = Witness()
    client._executor._listener = witness
    return witness
