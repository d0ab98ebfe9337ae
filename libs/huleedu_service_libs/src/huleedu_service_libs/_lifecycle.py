"""``async with`` for whatever is started and stopped: one form of it for clients, workers and watchers."""

from types import TracebackType
from typing import Self

__all__ = ["StartStop"]


class StartStop:
    """Entering a block starts it, leaving the block stops it, whatever happens inside."""

    async def start(self) -> None:
        """Begin."""
        raise NotImplementedError

    async def stop(self) -> None:
        """End."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
