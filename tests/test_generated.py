"""What is generated is what is committed."""

import importlib.util
import subprocess
import sys
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


def test_every_log_line_metric_and_setting_has_its_place_in_the_reference() -> None:
    """Each event is named in the one style and described, each metric named alike, each setting and variable told, and the pages are current."""
    command = [sys.executable, "-W", "error", str(ROOT / "scripts/generate_reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)  # noqa: S603  # our own
    assert (done.returncode, done.stderr) == (0, "")
