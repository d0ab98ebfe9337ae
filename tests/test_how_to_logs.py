"""The how-to page on logs is as true as the code: its snippet logs, with the fields that it names."""

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = (Path(__file__).resolve().parent.parent / "docs/how-to/write-logs.md").read_text(encoding="utf-8")
(SNIPPET,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def _logged(**environment: str) -> str:
    code = f"import asyncio\n{SNIPPET}\nasyncio.run(main())"
    done = subprocess.run(  # noqa: S603  # the page of this repository
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


async def test_the_pages_line_in_production() -> None:
    """One JSON object with the event, its fields, those of the context, and every field that the page says each line has."""
    (line,) = (await asyncio.to_thread(_logged, ENVIRONMENT="production", SERVICE_VERSION="1.2")).splitlines()
    logged = json.loads(line)
    assert (logged["event"], logged["essay_id"], logged["words"], logged["batch_id"]) == (
        "essay_stored",
        "e-1",
        812,
        "b-1",
    )
    (told,) = re.findall(r"Every line has (.*?) and its place in the code", PAGE, flags=re.DOTALL)
    assert set(re.findall(r"`([a-z_]+)`", told)) - {"SERVICE_VERSION"} <= logged.keys()
    assert (logged["logger_name"], logged["service_version"]) == ("essay_service.storage", "1.2")


async def test_the_pages_line_elsewhere() -> None:
    """An aligned line, without colours where nobody looks at a terminal."""
    line = await asyncio.to_thread(_logged, ENVIRONMENT="development")
    assert re.search(r"\[info +\] essay_stored +\[essay_service\.storage\b.*batch_id=b-1 essay_id=e-1 words=812", line)
