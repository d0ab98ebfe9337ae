"""Bring defects of the earlier library back, one at a time, and demand that a test named for the number fails.

``make defects`` runs all (minutes: each runs its tests on real servers), ``make defects DEFECTS="12 23"`` some. The edits
are in ``tests/contract/returning_defects.py``, the tests in ``tests/contract/defects.py``. Works in a copy.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.contract.defects import tests_of  # noqa: E402
from tests.contract.returning_defects import RETURNING, Edit  # noqa: E402

LIBRARY = "libs/huleedu_service_libs/src"
LIMIT_S = 170
FAILED = 1  # pytest's exit code for failed tests; others say that none ran


def copy_of_the_repository(into: Path) -> None:
    """All files that git knows, as they are now."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout  # noqa: S607
    for name in filter(None, names.decode().split("\0")):
        source, target = ROOT / name, into / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def outcome(copy: Path, number: int, edit: Edit) -> str:
    """What the tests say to the edited copy."""
    module = copy / LIBRARY / "huleedu_service_libs" / edit.module
    before = module.read_text(encoding="utf-8")
    if before.count(edit.text) != 1:
        return "STALE: the text to replace is not there once"
    module.write_text(before.replace(edit.text, edit.by), encoding="utf-8")
    path = os.pathsep.join(str(copy / source) for source in (LIBRARY, "libs/common_core/src", "."))
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *tests_of(number)]
    try:
        run = subprocess.run(  # noqa: S603
            command,
            cwd=copy,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "found (the tests hang)"
    finally:
        module.write_text(before, encoding="utf-8")
    failed = next((line for line in run.stdout.splitlines() if line.startswith("FAILED ")), "")
    if run.returncode == FAILED and failed:
        return f"found by {failed.removeprefix('FAILED ').partition(' - ')[0].rpartition('::')[2]}"
    return f"NOT FOUND (exit code {run.returncode}) " + " ".join(run.stdout.splitlines()[-3:])


def main(numbers: list[int]) -> int:
    """Judge each number; 1 when one is not found."""
    results: dict[int, str] = {}
    with tempfile.TemporaryDirectory(prefix="defects-") as folder:
        copy_of_the_repository(Path(folder))
        for number in numbers or RETURNING:
            results[number] = outcome(Path(folder), number, RETURNING[number])
            print(f"defect {number:02}: {results[number]}", flush=True)
    missed = [number for number, result in results.items() if not result.startswith("found")]
    print(
        f"{len(results) - len(missed)} of {len(results)} that were brought back were found"
        + f"; not {missed}" * bool(missed)
    )
    return int(bool(missed))


if __name__ == "__main__":
    raise SystemExit(main([int(argument) for argument in sys.argv[1:]]))
