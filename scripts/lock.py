"""Resolve every dependency of the workspace into requirements/*.txt, with hashes and without registry addresses.

Run by ``make lock``. ``uv.lock`` is not used: it would carry the addresses of the registries.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "--quiet", "--universal", "--python-version=3.11"]
LOCK = ["--generate-hashes", "--no-emit-index-url", "--no-annotate", "--custom-compile-command=make lock"]
MEMBERS = ["libs/common_core", "libs/huleedu_service_libs", "examples/essay_pipeline"]
OWN_PACKAGES = ["huleedu-common-core", "huleedu-service-libs", "essay-pipeline"]


def compile_requirements(output: str, *sources: str) -> None:
    """Resolve ``sources`` into ``requirements/<output>``."""
    own = [f"--no-emit-package={name}" for name in OWN_PACKAGES]
    command = [*UV, *LOCK, *own, *sys.argv[1:], *sources, f"--output-file=requirements/{output}"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)  # noqa: S603  # our own command
    print(f"requirements/{output}")


if __name__ == "__main__":
    compile_requirements("uv.txt", "requirements/uv.in")
    members = [f"{member}/pyproject.toml" for member in MEMBERS]
    compile_requirements("dev.txt", "pyproject.toml", *members, "--all-extras", "--group=dev")
    # With what dev.txt has already decided, so that both can be installed together.
    compile_requirements("bench.txt", "pyproject.toml", "--group=bench", "--constraint=requirements/dev.txt")
