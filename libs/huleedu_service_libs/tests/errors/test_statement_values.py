"""What a failed statement was given is somebody's data: no answer, log line or traceback shows it."""

import json
from typing import Any
from unittest.mock import AsyncMock

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from common_core import EventEnvelope
from huleedu_service_libs._redaction import redact_text
from huleedu_service_libs.error_handling.fastapi import register_error_handlers
from huleedu_service_libs.logging_utils import configure_service_logging
from huleedu_service_libs.outbox import OutboxManager, OutboxRepositoryProtocol

REFUSED = (
    'null value in column "city" violates not-null constraint\nDETAIL:  Failing row contains (1, Anna Svensson, null).'
)


def _failed(*values: Any) -> IntegrityError:
    return IntegrityError("INSERT INTO people (id, name, city) VALUES ($1, $2, $3)", values, Exception(REFUSED))


@given(name=st.text(alphabet="ab[]()'\"\\\n,. ", max_size=20))
def test_no_value_is_left_of_a_failed_statement(name: str) -> None:
    """Whatever the values are, brackets and line breaks among them, the statement stays and they do not."""
    told = redact_text(str(_failed(1, f"Anna{name}Svensson", None)))
    assert "Anna" not in told
    assert "Svensson" not in told
    assert "[SQL: INSERT INTO people (id, name, city) VALUES ($1, $2, $3)]\n[parameters: ***]" in told


async def test_an_outbox_that_fails_tells_a_client_no_values(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither the answer nor the log, its traceback included, shows what was to be stored."""
    configure_service_logging("people", "production")
    repository = AsyncMock(spec=OutboxRepositoryProtocol)
    repository.add_event.side_effect = _failed(1, "Anna Svensson", None)
    app = FastAPI(title="people")
    register_error_handlers(app)

    @app.post("/people")
    async def add() -> None:
        event = EventEnvelope[Any](event_type="t.v1", source_service="people", data={})
        await OutboxManager(repository, None, "people").publish_to_outbox("person", "1", "t.v1", event, "people")

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://people") as client:
        answer = await client.post("/people")
    assert answer.status_code == 502
    assert "INSERT INTO people" in json.dumps(answer.json())
    assert "Svensson" not in answer.text
    logged = capsys.readouterr().out
    assert "Traceback" in logged
    assert "Svensson" not in logged
