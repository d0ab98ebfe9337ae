"""Databases of tests: an engine whose database has the tables, and the statements that an engine runs."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from sqlalchemy import MetaData, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

__all__ = ["engine_with", "statements_of"]


@asynccontextmanager
async def engine_with(
    tables: MetaData | str, url: str, *, zone: str | None = None, **options: Any
) -> AsyncIterator[AsyncEngine]:
    """An engine on the database behind ``url``, after the tables have been made.

    Args:
        tables: Models, or DDL whose statements end with a semicolon each.
        url: Of the database.
        zone: Time zone of its sessions; the server's when absent.
        options: For `create_async_engine`.
    """
    if zone is not None:
        options["connect_args"] = {"server_settings": {"timezone": zone}}
    engine = create_async_engine(url, **options)
    async with engine.begin() as connection:
        if isinstance(tables, MetaData):
            await connection.run_sync(tables.create_all)
        else:
            for statement in filter(str.strip, tables.split(";")):
                await connection.execute(text(statement))
    yield engine
    await engine.dispose()


@contextmanager
def statements_of(engine: AsyncEngine) -> Iterator[list[str]]:
    """What the engine's connections run inside the block, as it comes."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", note)
