"""Alembic itself, on a real PostgreSQL, with the helper and with the template."""

import asyncio
from importlib.resources import files
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from huleedu_service_libs.outbox.models import Base
from huleedu_service_libs.outbox.schema import check_schema

pytestmark = pytest.mark.integration

ENV = """
import asyncio

from alembic import context
from sqlalchemy.ext.asyncio import create_async_engine

from huleedu_service_libs.outbox.models import Base


def run(connection):
    context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
    with context.begin_transaction():
        context.run_migrations()


async def main():
    engine = create_async_engine(context.config.get_main_option("sqlalchemy.url"))
    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()
    await engine.dispose()


asyncio.run(main())
"""
HELPER = '''
"""Create the outbox."""

from alembic import op

from huleedu_service_libs.outbox.migration import (
    create_audit_table, create_outbox_table, drop_audit_table, drop_outbox_table,
)

revision = "0001"
down_revision = None


def upgrade():
    create_outbox_table(op)
    create_audit_table(op)


def downgrade():
    drop_audit_table(op)
    drop_outbox_table(op)
'''


def _template() -> str:
    template = (files("huleedu_service_libs.outbox") / "templates" / "create_outbox_table.py.template").read_text()
    filled = template.replace('"{DOWN_REVISION}"', "None")
    for name, value in {
        "SERVICE_NAME": "svc",
        "REVISION_ID": "0001",
        "DOWN_REVISION": "",
        "CREATE_DATE": "2026-01-01",
    }.items():
        filled = filled.replace(f"{{{name}}}", value)
    return filled


@pytest.fixture(name="alembic", params=["helper", "template"])
def _alembic(request: pytest.FixtureRequest, postgres_database: str, tmp_path: Path) -> Config:
    (tmp_path / "versions").mkdir()
    (tmp_path / "env.py").write_text(ENV, encoding="utf-8")
    revision = HELPER if request.param == "helper" else _template()
    (tmp_path / "versions" / "0001_outbox.py").write_text(revision, encoding="utf-8")
    config = Config()
    config.set_main_option("script_location", str(tmp_path))
    config.set_main_option("path_separator", "os")
    config.set_main_option("sqlalchemy.url", postgres_database)
    return config


def _differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(
        connection,
        opts={
            "compare_server_default": True,
            "include_name": lambda name, kind, _: kind != "table" or name == "event_outbox",
        },
    )
    return list(compare_metadata(context, Base.metadata))


def test_upgrade_makes_what_the_model_says_and_downgrade_takes_it_away(alembic: Config, postgres_database: str) -> None:
    """``alembic upgrade`` leaves a table without findings in which autogenerate sees no difference; downgrade none."""

    async def look() -> tuple[list[object], bool, list[str]]:
        engine = create_async_engine(postgres_database)
        async with engine.connect() as connection:
            differences = await connection.run_sync(_differences)
            tables = await connection.scalars(
                text("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
            )
        report = await check_schema(engine)
        await engine.dispose()
        return differences, report.findings == (), [name for name in tables if name != "alembic_version"]

    command.upgrade(alembic, "head")
    differences, no_findings, tables = asyncio.run(look())
    assert differences == []
    assert no_findings
    assert "event_outbox" in tables
    command.downgrade(alembic, "base")
    differences, _, tables = asyncio.run(look())
    assert tables == []
    assert differences  # the comparison does see a missing table
