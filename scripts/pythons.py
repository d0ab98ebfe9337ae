"""Run tests on every Python that is here, with the locked packages: each in an environment of its own.

Run by ``make pythons``. Interpreters are looked for on the PATH and in pyenv's folder, and none is downloaded. An
environment is kept for the next time, as ``.venv-python3.13``, and brought to the lock each time.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = str(Path(sys.executable).with_name("uv"))
LOCK = ["requirements/dev.txt", "requirements/uv.txt"]
MEMBERS = ["libs/common_core", "libs/huleedu_service_libs", "examples/essay_pipeline"]


def interpreter(version: str) -> Path | None:
    """Where the interpreter of ``version`` is, such as 3.13; None when there is none that runs."""
    name = f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    folders = [*map(Path, os.environ.get("PATH", "").split(os.pathsep)), *sorted(pyenv.glob(f"{version}*/bin"))]
    return next((folder / name for folder in folders if _is_version(folder / name, version)), None)


def _is_version(program: Path, version: str) -> bool:
    """A pyenv shim has the name and does not run."""
    if not program.is_file():
        return False
    command = [str(program), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    said = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603  # an interpreter that was found
    return said.stdout.strip() == version


def environment(program: Path, version: str) -> Path:
    """The interpreter of an environment with the locked packages and the workspace's own."""
    python = ROOT / f".venv-python{version}" / "bin" / "python"
    if not python.exists():
        _uv("venv", f"--python={program}", str(python.parent.parent))
    _uv("pip", "sync", f"--python={python}", "--require-hashes", *LOCK)
    editable = [word for member in MEMBERS for word in ("--editable", member)]
    _uv("pip", "install", f"--python={python}", "--no-deps", "--no-build-isolation", *editable)
    return python


def _uv(*words: str) -> None:
    subprocess.run([UV, "--quiet", *words], cwd=ROOT, check=True)  # noqa: S603  # our own command


def main() -> int:
    """Run; 1 when a test failed on one of them."""
    parser = argparse.ArgumentParser(prog="make pythons", description=__doc__)
    parser.add_argument("--versions", nargs="+", required=True, help="such as 3.12 3.13")
    parser.add_argument("tests", nargs="+", help="files and folders")
    arguments = parser.parse_args()
    came_to: dict[str, str] = {}
    for version in arguments.versions:
        program = interpreter(version)
        if program is None:
            came_to[version] = "is not here"
            continue
        print(f"pythons: {version} ({program})", flush=True)
        python = environment(program, version)
        tests = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments.tests]
        done = subprocess.run(tests, cwd=ROOT, check=False)  # noqa: S603  # our own command
        came_to[version] = "passed" if done.returncode == 0 else "FAILED"
    for version, outcome in came_to.items():
        print(f"pythons: {version} {outcome}")
    return "FAILED" in came_to.values()


if __name__ == "__main__":
    sys.exit(main())
