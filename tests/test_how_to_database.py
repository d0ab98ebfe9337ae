"""The how-to page on watching the database is as true as the code: its snippets run, its metrics exist."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

PAGE = Path(__file__).resolve().parent.parent / "docs" / "how-to" / "watch-the-database.md"


def _text() -> str:
    return PAGE.read_text(encoding="utf-8")


@pytest.mark.integration
async def test_the_page_as_a_service(postgres_database: str, unique_name: str) -> None:
    """All snippets together are a service whose query is counted, whose slow query is kept, whose health is good."""
    settings = SimpleNamespace(DATABASE_URL=postgres_database, SERVICE_NAME=unique_name)
    service: dict[str, Any] = {"settings": settings, "app": SimpleNamespace(extensions={})}
    for snippet in re.findall(r"```python\n(.*?)```", _text(), flags=re.DOTALL):
        exec(compile(snippet, str(PAGE), "exec"), service)  # noqa: S102  # the page of this repository
    engine = service["engine"]
    try:
        async with engine.begin() as connection:
            await connection.execute(text("CREATE TABLE essays (id int, due timestamptz)"))
            await connection.execute(text("INSERT INTO essays VALUES (7, now() - interval '1 day')"))
            await connection.execute(text("SELECT pg_sleep(0.25)"))
        assert await service["find_overdue"]() == [7]
        assert any(line.endswith("SELECT pg_sleep(?)") for line in service["slowest"]())
        report, status = await service["healthz_database"]()
        assert (status, report["overall_status"]) == (200, "healthy")
    finally:
        await engine.dispose()
    prefix = unique_name.replace("-", "_")
    labels = {"operation": "find_overdue", "table": "essays", "result": "success"}
    assert REGISTRY.get_sample_value(f"{prefix}_database_query_duration_seconds_count", labels) == 1

    made = {
        metric.name.removeprefix(f"{prefix}_") for metric in REGISTRY.collect() if metric.name.startswith(f"{prefix}_")
    }
    assert {name.removesuffix("_total") if name not in made else name for name in _named_metrics()} == made


def _named_metrics() -> set[str]:
    """The metrics of the page's table, written out."""
    first = [line.split("|")[1] for line in _text().splitlines() if line.startswith("| `database_")]
    names = [re.sub(r"\{.*", "", name) for cell in first for name in re.findall(r"`([^`]+)`", cell)]
    return {f"database_connections{name}" if name.startswith("_") else name for name in names} | {
        "database_connections_acquired_total",
        "database_connections_released_total",
    }
