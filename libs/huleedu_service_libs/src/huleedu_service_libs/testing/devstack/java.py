"""Java and Maven on this machine, and Apache Kafka's jars resolved with them.

``kafka`` starts brokers with what this module finds. The jars are those of
the ``pom.xml`` beside it; they are resolved once and kept in the user's cache
folder, together with an archive of loaded classes that halves the start time.
"""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from huleedu_service_libs.testing.devstack.cache import cache_folder, is_in_home, make_once
from huleedu_service_libs.testing.devstack.errors import CommandError, DevStackError, JarsError, JavaMissingError
from huleedu_service_libs.testing.devstack.run_context import RunContext
from huleedu_service_libs.testing.devstack.supervision import Command

__all__ = ["JavaTools", "class_archive_path", "find_java_tools", "kafka_version", "resolve_jars"]

_POM = Path(__file__).with_name("pom.xml")
_OLDEST_JAVA = 17
_VERSION_LIMIT_S = 15.0
_MAVEN_LIMIT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JavaTools:
    """Programs.

    Attributes:
        java: Java 17 or newer.
        maven: ``mvn``.
        java_version: What ``java -version`` printed.
    """

    java: Path
    maven: Path
    java_version: str


def find_java_tools() -> JavaTools:
    """Look at ``JAVA_HOME`` and the PATH.

    Returns:
        The programs.

    Raises:
        JavaMissingError: One is missing, or Java is too old or does not say its version.
    """
    home = os.environ.get("JAVA_HOME")
    java = (shutil.which("java", path=str(Path(home) / "bin")) if home else None) or shutil.which("java")
    maven = shutil.which("mvn")
    missing = [name for name, path in (("java", java), ("mvn", maven)) if path is None]
    if java is None or maven is None:
        raise JavaMissingError(f"no {' and no '.join(missing)} on the PATH")
    try:
        done = subprocess.run(  # noqa: S603 - found on the PATH
            [java, "-version"],
            capture_output=True,
            text=True,
            timeout=_VERSION_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise JavaMissingError(f"`{java} -version` did not end within {_VERSION_LIMIT_S:g} s") from error
    except OSError as error:
        raise JavaMissingError(f"{java} cannot be run ({error.strerror})") from error
    major = re.search(r'version "(\d+)', done.stderr)
    if major is None:
        raise JavaMissingError(f"`{java} -version` names no version")
    if int(major[1]) < _OLDEST_JAVA:
        # Java 8 called itself 1.8.
        version = re.search(r'version "(?:1\.)?(\d+)', done.stderr)
        raise JavaMissingError(f"{java} is Java {version[1] if version else major[1]}, older than {_OLDEST_JAVA}")
    return JavaTools(java=Path(java), maven=Path(maven), java_version=done.stderr)


def kafka_version() -> str:
    """Return the version of Apache Kafka that the ``pom.xml`` names.

    Raises:
        DevStackError: It names none.
    """
    found = re.search(r"<kafka.version>(.+?)</kafka.version>", _POM.read_text(encoding="utf-8"))
    if found is None:
        raise DevStackError(f"{_POM.name} does not set kafka.version")
    return found[1]


def resolve_jars(run: RunContext, tools: JavaTools) -> Path:
    """Return the folder of Apache Kafka's jars, filled by Maven when it is not there yet.

    Args:
        run: The run.
        tools: Java and Maven.

    Returns:
        The folder; complete, and never written to again.

    Raises:
        JarsError: Maven failed.
        DevStackError: Another process held the lock for too long.
    """
    folder = cache_folder(run.progress) / f"kafka-{kafka_version()}-{_short_hash(_POM.read_bytes())}"
    make_once(folder, partial(_copy_jars, run, tools), run.supervisor)
    return folder


def class_archive_path(jars: Path, tools: JavaTools) -> Path:
    """Return where the archive of loaded classes belongs, one for each version of Java.

    Args:
        jars: As ``resolve_jars()`` returns it.
        tools: The Java that reads it.
    """
    return jars.with_name(f"{jars.name}-{_short_hash(tools.java_version.encode())}.jsa")


def _copy_jars(run: RunContext, tools: JavaTools, folder: Path) -> None:
    run.progress("kafka: resolving jars with Maven (first time only)")
    shutil.rmtree(folder, ignore_errors=True)
    arguments: Sequence[str] = (
        *("-q", "-B", "-Dstyle.color=never", "-f", str(_POM)),
        "dependency:copy-dependencies",
        "-DincludeScope=runtime",
        f"-DoutputDirectory={folder}",
    )
    if not is_in_home(folder):
        # Maven's own store would be in the home that cannot be written to.
        arguments = (f"-Dmaven.repo.local={folder.with_name('maven')}", *arguments)
    command = Command(argv=[str(tools.maven), *arguments], log=run.folder / "maven.log", cwd=run.folder)
    try:
        run.supervisor.run(command, _MAVEN_LIMIT_S)
    except CommandError as error:
        raise JarsError(error.program, error.problem, error.log) from error


def _short_hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:10]
