"""The servers of a run, the proxies before them, and the nursery of its processes."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from huleedu_service_libs.testing.chaos.kafka_proxies import kafka_proxies
from huleedu_service_libs.testing.chaos.nursery import Nursery
from huleedu_service_libs.testing.chaos.proxy import FaultProxy
from huleedu_service_libs.testing.devstack import DevStack

__all__ = ["Lab"]

_PRELOAD = ("chaos.consumers",)


class Lab:
    """Everything that one run shares over its phases.

    Args:
        kafka_nodes: One or three.
        logs: Folder of the processes' output.

    Attributes:
        stack: The servers; the oracle and the faults speak to them directly.
        postgres: The proxy before PostgreSQL; processes only know this one.
        redis: The proxy before Redis.
        kafka: The proxies before the nodes.
        nursery: Starts the processes.
    """

    def __init__(self, *, kafka_nodes: int, logs: Path) -> None:
        self.stack = DevStack(kafka_nodes=kafka_nodes, environ={})
        self.nursery = Nursery(_PRELOAD, folder=logs)
        self.kafka: Sequence[FaultProxy] = ()
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as exit_stack:
            exit_stack.callback(self.stack.stop)
            await asyncio.to_thread(self.stack.start)
            self.postgres = await exit_stack.enter_async_context(FaultProxy(self.stack.postgres.address))
            self.redis = await exit_stack.enter_async_context(FaultProxy(self.stack.redis.address))
            self.kafka = await kafka_proxies(self.stack.kafka.address)
            for proxy in self.kafka:
                exit_stack.push_async_callback(proxy.stop)
            await exit_stack.enter_async_context(self.nursery)
            self._exit = exit_stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exit.aclose()

    @property
    def proxies(self) -> Sequence[FaultProxy]:
        """All of them."""
        return (self.postgres, self.redis, *self.kafka)

    @property
    def kafka_address(self) -> str:
        """Bootstrap servers for processes."""
        return ",".join(proxy.address for proxy in self.kafka)

    def postgres_address(self, database: str) -> str:
        """The address for processes of a database whose direct address is given."""
        user = urlsplit(database).netloc.rpartition("@")[0]
        return f"postgresql+asyncpg://{user}@{self.postgres.address}{urlsplit(database).path}"
