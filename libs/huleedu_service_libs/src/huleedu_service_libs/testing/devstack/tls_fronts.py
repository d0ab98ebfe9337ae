"""Starts the process that ends TLS in front of Redis servers which do not speak it: ``tls_front``."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from huleedu_service_libs.testing.devstack import tls_front
from huleedu_service_libs.testing.devstack.answers import port_answers
from huleedu_service_libs.testing.devstack.certificates import Certificates
from huleedu_service_libs.testing.devstack.local import LOOPBACK, LocalProcess, LocalServer
from huleedu_service_libs.testing.devstack.run_context import RunContext
from huleedu_service_libs.testing.devstack.supervision import Command

__all__ = ["TlsFront", "front_process"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFront:
    """One port in front of another.

    Attributes:
        port: Where clients connect.
        target: Where the server listens, in clear text.
        plain_too: Whether clients without TLS are let through as well.
    """

    port: int
    target: int
    plain_too: bool = False

    def __str__(self) -> str:
        return f"{self.port}:{self.target}" + (":plain" if self.plain_too else "")


def front_process(run: RunContext, certificates: Certificates, fronts: Sequence[TlsFront]) -> LocalProcess:
    """The process of these fronts, not started; it is ready when all of them listen."""
    argv = [sys.executable, "-I", "-S", tls_front.__file__, LOOPBACK]
    argv += [str(certificates.server), str(certificates.server_key), str(certificates.authority)]
    argv += [str(front) for front in fronts]
    ports = [front.port for front in fronts]
    server = LocalServer(
        name="tls front",
        address=",".join(f"{LOOPBACK}:{port}" for port in ports),
        command=Command(argv=argv, log=run.folder / f"tls-front-{ports[0]}.log", cwd=run.folder),
        is_ready=lambda: all(port_answers(LOOPBACK, port) for port in ports),
    )
    return LocalProcess(server, run.supervisor)
