"""The code on the page about errors runs and does what the page says."""

import re
from pathlib import Path
from typing import Any

import pytest

from huleedu_service_libs.error_handling import HuleEduError

PAGE = Path(__file__).resolve().parent.parent / "docs/concepts/errors.md"


def test_the_blocks_of_the_page() -> None:
    """Raising, turning an exception into an error, registering, and reading an answer back."""
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102  # a page of this repository
    with pytest.raises(HuleEduError, match="VALIDATION_ERROR"):
        names["check"]("")
    with pytest.raises(HuleEduError) as caught:
        names["consume"]("essays", 7)
    detail = caught.value.error_detail
    assert (detail.service, detail.operation, detail.error_code) == ("spellcheck", "handle", "CONNECTION_ERROR")
    assert (detail.details["topic"], detail.details["offset"]) == ("essays", 7)
    assert "hunter2" not in str(detail.details)
    assert names["outcome"](200, b"", {}) is None
    assert names["outcome"](404, b"", {}).error_code == "RESOURCE_NOT_FOUND"
