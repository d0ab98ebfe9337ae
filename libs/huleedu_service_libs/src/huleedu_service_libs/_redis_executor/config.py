"""Sizes and patience of the executor."""

from dataclasses import dataclass

from huleedu_service_libs._checks import not_negative, positive, values_of

__all__ = ["PipeliningConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PipeliningConfig:
    """How commands share the connection.

    Attributes:
        batch_commands: Commands in one write.
        batch_bytes: Bytes in one write; a single command may be larger.
        unanswered: Commands that may be under way; the others wait for replies.
        queue_size: Commands that may wait for their turn; more are refused with `RedisOverloadedError`.
        attempts: How often a command is sent in all, when its reply got lost and repeating it is safe; 1 repeats nothing.
        first_delay_s: Seconds before the second attempt to connect for commands to be repeated; doubles with each up to 2 s, and
            up to half is taken off at random.

    Raises:
        ValueError: A size is not positive, or a number is negative.
    """

    batch_commands: int = 1_000
    batch_bytes: int = 256 * 1024
    unanswered: int = 4_000
    queue_size: int = 100_000
    attempts: int = 4
    first_delay_s: float = 0.05

    def __post_init__(self) -> None:
        positive(**values_of(self, "batch_commands", "batch_bytes", "unanswered", "queue_size", "attempts"))
        not_negative(first_delay_s=self.first_delay_s)
