"""The how-to page on operating the outbox is as true as the code: its snippets and commands run as they stand."""

import ast
import asyncio
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from alembic import op
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from huleedu_service_libs.cli.main import main
from huleedu_service_libs.outbox.bloat import check_bloat
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository
from tests.snippets import snippets_of

PAGE = Path(__file__).resolve().parent.parent / "docs" / "how-to" / "operate-the-outbox.md"

pytestmark = pytest.mark.integration


async def _run(snippet: str, names: dict[str, Any]) -> None:
    """Run a snippet, which may await, in the names that the ones before have left."""
    code = compile(snippet, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waits = eval(code, names)  # noqa: S307  # the page of this repository
    if waits is not None:
        await waits


def _upgrade(connection: Connection, revision: dict[str, Any]) -> None:
    with Operations.context(MigrationContext.configure(connection)):
        revision["upgrade"]()


async def _park(engine: AsyncEngine) -> None:
    await PostgreSQLOutboxRepository(engine).add_event("essay-1", "essay", "essay.submitted.v1", {"data": {}}, "t")
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE event_outbox SET retry_count = 5 WHERE published_at IS NULL"))


async def _prepared(address: str) -> tuple[AsyncEngine, dict[str, Any]]:
    """A database with the table that the page's revision makes, and one parked event."""
    engine = create_async_engine(address)
    names: dict[str, Any] = {"engine": engine, "op": op}
    await _run(snippets_of(PAGE, "python")[0], names)
    async with engine.begin() as connection:
        await connection.run_sync(_upgrade, names)
    await _park(engine)
    return engine, names


async def test_the_pages_snippets(postgres_database: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In order, on one database: the table, the check, the status, a redrive, and settings that the relay takes."""
    engine, names = await _prepared(postgres_database)
    for snippet in snippets_of(PAGE, "python")[1:]:
        await _run(snippet, names)
    assert "warning" in capsys.readouterr().out
    assert len(names["result"].moved) == 1
    assert names["result"].audited_in == "outbox_audit"
    assert names["settings"].strict_order
    await engine.dispose()


async def test_the_pages_statement_is_the_one_that_the_check_prints(postgres_database: str) -> None:
    """The page shows word for word what the bloat check prints."""
    engine, _ = await _prepared(postgres_database)
    (statement,) = snippets_of(PAGE, "sql")
    assert (await check_bloat(engine)).statements == (statement.strip(),)
    await engine.dispose()


def test_the_pages_commands(postgres_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each runs: checks find something or nothing, the others work."""
    monkeypatch.setenv("HULEEDU_DATABASE_URL", postgres_database)

    async def prepare() -> None:
        engine, _ = await _prepared(postgres_database)
        await engine.dispose()

    asyncio.run(prepare())
    page = PAGE.read_text(encoding="utf-8")
    commands = [
        line for block in snippets_of(PAGE, "bash") for line in block.splitlines() if line.startswith("huleedu ")
    ]
    commands += re.findall(r"`(huleedu outbox [^`]+)`", page)
    assert len(commands) >= 7
    for command in commands:
        arguments = shlex.split(command, comments=True)[1:]
        assert main(arguments) in ({0, 6} if arguments[1] in {"status", "schema", "bloat"} else {0}), command
