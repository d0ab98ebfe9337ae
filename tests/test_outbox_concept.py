"""The page on the outbox is as true as the code: the tests that it names exist, its snippet runs."""

import re
import textwrap
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from common_core import EventEnvelope
from huleedu_service_libs.outbox.manager import NewEvent, OutboxManager
from huleedu_service_libs.outbox.protocols import OutboxRepositoryProtocol

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "concepts" / "outbox.md").read_text(encoding="utf-8")
TESTS = ROOT / "libs" / "huleedu_service_libs"


def _named() -> list[tuple[str, str]]:
    """Files and tests; an ellipsis stands for the file named before."""
    named, file = [], ""
    for path, name in re.findall(r"`(tests/[\w/]+\.py|…)(?:::(\w+))?`", PAGE):
        file = file if path == "…" else path
        named.append((file, name))
    return named


@pytest.mark.parametrize(("file", "name"), _named(), ids=str)
def test_each_test_that_is_named_is_there(file: str, name: str) -> None:
    """A promise whose test was renamed or removed is no promise."""
    source = (TESTS / file).read_text(encoding="utf-8")
    assert not name or re.search(rf"^ *(?:async )?def {name}\(", source, flags=re.MULTILINE)


async def test_the_snippet_stores_every_event() -> None:
    """Three events, three rows, in the session of the business transaction."""
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    repository, session = AsyncMock(spec=OutboxRepositoryProtocol), AsyncMock(spec=AsyncSession)
    envelope: EventEnvelope[Any] = EventEnvelope(event_type="e.v1", source_service="svc", data={})
    names: dict[str, Any] = {
        "NewEvent": NewEvent,
        "manager": OutboxManager(repository, None, "svc"),
        "scored": {f"essay-{number}": envelope for number in range(3)},
        "session": session,
        "topic": "t",
    }
    exec("async def run():\n" + textwrap.indent(snippet, "    "), names)  # noqa: S102  # a page of this repository
    await names["run"]()
    calls = repository.add_event.await_args_list
    assert [call.kwargs["aggregate_id"] for call in calls] == ["essay-0", "essay-1", "essay-2"]
    assert all(call.kwargs["session"] is session for call in calls)
