"""The page on resilience is as true as the code: its first snippet runs as it stands."""

import asyncio
import re
from pathlib import Path
from typing import Any

from huleedu_service_libs.resilience import CircuitBreakerError, Pipeline

PAGE = Path(__file__).resolve().parent.parent / "docs" / "concepts" / "resilience.md"


def _first_snippet() -> dict[str, Any]:
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {}
    exec(compile(found.group(1), PAGE.name, "exec"), names)  # noqa: S102  # the page of this repository
    return names


async def test_the_pipeline_of_the_page_answers_and_falls_back() -> None:
    """It asks, answers with the fallback when everything has failed, and its breaker is the one that is named."""
    names = _first_snippet()
    pipeline: Pipeline = names["llm"]
    asked: list[str] = []

    async def ask(text: str) -> str:
        asked.append(text)
        return f"good {text}"

    async def fail(_text: str) -> str:
        await asyncio.sleep(0)
        raise CircuitBreakerError("open")

    assert await names["feedback"](ask, "essay") == "good essay"
    assert asked == ["essay"]
    assert await names["feedback"](fail, "essay") == "no feedback at the moment"
    assert "llm" in repr(vars(pipeline))
