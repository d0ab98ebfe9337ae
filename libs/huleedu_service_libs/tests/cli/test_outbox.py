"""``huleedu outbox`` against a real PostgreSQL: what the commands print, change, and end with."""

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from huleedu_service_libs.cli.main import main
from huleedu_service_libs.outbox.models import Base
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository

pytestmark = pytest.mark.integration

Texts = pytest.CaptureFixture[str]


class Database:
    """An outbox, filled and looked at from tests that are not asynchronous, as the commands are not."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.run()

    def run(self, statement: str = "") -> list[Any]:
        """Make the table if need be, then run a statement; its rows."""

        async def work() -> list[Any]:
            engine = create_async_engine(self.address)
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
                result = await connection.execute(text(statement)) if statement else None
                rows = list(result.all()) if result is not None and result.returns_rows else []
            await engine.dispose()
            return rows

        return asyncio.run(work())

    def park(self, key: str, cause: str = "too large") -> UUID:
        """Add a parked event."""

        async def work() -> UUID:
            engine = create_async_engine(self.address)
            row = await PostgreSQLOutboxRepository(engine).add_event(key, "essay", "e.v1", {"data": {}}, "t")
            async with engine.begin() as connection:
                await connection.execute(
                    text("UPDATE event_outbox SET retry_count = 5, last_error = :cause WHERE id = :id"),
                    {"cause": cause, "id": row},
                )
            await engine.dispose()
            return row

        return asyncio.run(work())


@pytest.fixture(name="database")
def _database(postgres_database: str, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setenv("HULEEDU_DATABASE_URL", postgres_database.replace("+asyncpg", ""))
    return Database(postgres_database)


def test_status_says_what_is_wrong_and_ends_with_6(database: Database, capsys: Texts) -> None:
    """0 when all is well; with a problem 6, for people and as JSON."""
    assert main(["outbox", "status"]) == 0
    well = capsys.readouterr().out
    assert "healthy" in well
    assert well.count("oldest age") == 1  # each fact once
    database.park("k")
    assert main(["outbox", "status"]) == 6
    assert "parked events: 1" in capsys.readouterr().out
    assert main(["outbox", "status", "--json"]) == 6
    assert json.loads(capsys.readouterr().out)["parked"] == 1


def test_parked_events_are_listed(database: Database, capsys: Texts) -> None:
    """Key and cause of each; a selection narrows it; none is said in a sentence."""
    assert main(["outbox", "parked"]) == 0
    assert capsys.readouterr().out == "Nothing is parked.\n"
    database.park("essay-1")
    two = database.park("essay-2", "no schema \x1b[31m")
    assert main(["outbox", "parked"]) == 0
    printed = capsys.readouterr().out
    assert "essay-1" in printed
    assert "no schema" in printed
    assert "\x1b[31m" not in printed
    assert main(["outbox", "parked", "--key", "essay-2", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["id"] == str(two)


def test_redrive_is_a_dry_run_until_it_is_confirmed(database: Database, capsys: Texts) -> None:
    """Without --yes the plan alone; with it the events move, and the record names who and why."""
    row = database.park("k")
    command = ["outbox", "redrive", "--mode", "in-place", "--id", str(row), "--reason", "fixed", "--actor", "ada"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "nothing was moved; repeat it with --yes" in printed
    assert "k: 1" in printed
    assert database.run("SELECT retry_count FROM event_outbox") == [(5,)]
    assert main([*command, "--yes"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("Redriven in-place: 1.")
    assert "outbox_audit" in captured.err
    assert database.run("SELECT retry_count, last_error FROM event_outbox") == [
        (0, "Redriven in-place by ada: fixed | before: too large")
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["redrive", "--mode", "appended", "--apply", "--all"], "reason is empty"),
        (["redrive", "--mode", "appended", "--yes", "--reason", "x"], "nothing is selected"),
        (["redrive", "--mode", "appended", "--all", "--rate", "1000"], "batches_per_second"),
        (["parked", "--since", "2026-01-01T00:00:00"], "has no time zone"),
        (["parked", "--id", "seven"], "seven"),
        (["purge", "--older-than", "week"], "'week' is no time"),
    ],
)
def test_what_makes_no_sense_ends_with_2(database: Database, capsys: Texts, arguments: list[str], says: str) -> None:
    """One line says which value, and nothing is changed."""
    database.park("k")
    assert main(["outbox", *arguments]) == 2
    assert says in capsys.readouterr().err
    assert database.run("SELECT retry_count FROM event_outbox") == [(5,)]


def test_purge_deletes_what_is_old(database: Database, capsys: Texts) -> None:
    """Published longer ago than said; the parked event stays."""
    database.park("old")
    database.park("parked")
    database.run("UPDATE event_outbox SET published_at = now() - interval '8 days' WHERE aggregate_id = 'old'")
    assert main(["outbox", "purge", "--older-than", "7d"]) == 0
    assert capsys.readouterr().out == "Events deleted: 1.\n"
    assert database.run("SELECT aggregate_id FROM event_outbox") == [("parked",)]


def test_schema_and_bloat_give_the_statements(database: Database, capsys: Texts) -> None:
    """6 and the ALTER TABLE while there is something to say, 0 afterwards."""
    assert main(["outbox", "schema"]) == 0
    assert "as it should be" in capsys.readouterr().out
    database.run("ALTER TABLE event_outbox ALTER published_at SET NOT NULL")
    assert main(["outbox", "schema"]) == 6
    assert "ALTER TABLE event_outbox ALTER published_at DROP NOT NULL" in capsys.readouterr().out
    assert main(["outbox", "bloat", "--json"]) == 6
    for statement in json.loads(capsys.readouterr().out)["statements"]:
        database.run(statement)
    assert main(["outbox", "bloat"]) == 0


def test_a_database_that_does_not_answer_ends_with_3(monkeypatch: pytest.MonkeyPatch, capsys: Texts) -> None:
    """The line names the place, and never the password."""
    monkeypatch.setenv("HULEEDU_DATABASE_URL", "postgresql://ada:s3cret@127.0.0.1:9/essays")
    assert main(["outbox", "status"]) == 3
    said = capsys.readouterr().err
    assert "database essays on 127.0.0.1:9 cannot be reached" in said
    assert "s3cret" not in said


@pytest.mark.parametrize("address", ["mysql://ada:s3cret@h/d", "s3cret"])
def test_an_address_that_is_none_is_not_repeated(monkeypatch: pytest.MonkeyPatch, capsys: Texts, address: str) -> None:
    """It may hold a password."""
    monkeypatch.setenv("HULEEDU_DATABASE_URL", address)
    assert main(["outbox", "status"]) == 2
    said = capsys.readouterr().err
    assert "the database address" in said
    assert "s3cret" not in said


def test_a_table_that_is_missing_is_said_by_the_database(database: Database, capsys: Texts) -> None:
    """One line, not a stack of errors; the schema command says what to do."""
    asyncio.run(_drop(database.address))
    assert main(["outbox", "parked"]) == 5
    assert 'relation "event_outbox" does not exist' in capsys.readouterr().err
    assert main(["outbox", "schema"]) == 6
    assert "alembic upgrade head" in capsys.readouterr().out


async def _drop(address: str) -> None:
    engine = create_async_engine(address)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
    await engine.dispose()
