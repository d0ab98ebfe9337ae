"""A call of a breaker as a block: ``async with breaker.guard(): ...``, or ``with``."""

from types import TracebackType
from typing import Any, Protocol, Self

from huleedu_service_libs.resilience.timers import SharedTimeLimit, Watch

__all__ = ["Guard", "Steps"]


class Steps(Protocol):
    """The steps of one call, as the breaker takes them itself."""

    def begin(self) -> tuple[int, float]:
        """Admit the call; its era, and when it began."""
        ...

    def returned(self, era: int, begun: float, result: Any) -> None:
        """The call has returned."""
        ...

    def failed(self, era: int) -> None:
        """The call has failed, though it returned."""
        ...

    def raised(self, era: int, error: BaseException) -> None:
        """The call has raised."""
        ...


class Guard:
    """One use of a breaker as a context manager; make a new one for each block.

    Args:
        steps: The breaker.
        limit: Its time limit, if it has one; only ``async with`` keeps it.

    Attributes:
        result: Set it inside the block when the breaker judges results.
        failed: Set it inside the block when the call has failed without raising.
    """

    __slots__ = ("_begun", "_era", "_limit", "_steps", "_watch", "failed", "result")

    def __init__(self, steps: Steps, limit: SharedTimeLimit | None) -> None:
        self._steps = steps
        self._limit = limit
        self._watch: Watch | None = None
        self._era = 0
        self._begun = 0.0
        self.failed = False
        self.result: Any = None

    def __enter__(self) -> Self:
        self._era, self._begun = self._steps.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._steps.raised(self._era, error)
        elif self.failed:
            self._steps.failed(self._era)
        else:
            self._steps.returned(self._era, self._begun, self.result)

    async def __aenter__(self) -> Self:
        self.__enter__()
        if self._limit is not None:
            self._watch = self._limit.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        limit, watch = self._limit, self._watch
        if limit is None or watch is None:
            self.__exit__(kind, error, trace)
            return
        told = error if error is None else limit.explain(watch, error)
        limit.end(watch)
        self.__exit__(kind, told, trace)
        if told is not None and told is not error:
            raise told from error
