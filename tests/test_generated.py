"""What follows from the error catalogue is what is committed."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_factories_exports_and_catalogue_page_are_current() -> None:
    """``make generate`` would change nothing."""
    spec = importlib.util.spec_from_file_location("generate_errors", ROOT / "scripts/generate_errors.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert [str(path.relative_to(ROOT)) for path in script.stale()] == []
