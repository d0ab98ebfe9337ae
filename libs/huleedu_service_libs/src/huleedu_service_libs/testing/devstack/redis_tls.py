"""A Redis behind TLS that wants a certificate of its client.

Where the server program speaks TLS itself it does so. The wheel's Valkey is built without; there a TLS front
in a process of its own ends the encryption and passes everything on to it: what the client sees is the same.
"""

from pathlib import Path

from huleedu_service_libs.testing.devstack.certificates import Certificates, make_certificates
from huleedu_service_libs.testing.devstack.local import free_ports
from huleedu_service_libs.testing.devstack.redis_nodes import RedisNode, node_process
from huleedu_service_libs.testing.devstack.run_context import RunContext
from huleedu_service_libs.testing.devstack.server import Kind
from huleedu_service_libs.testing.devstack.servers import RedisTlsServer
from huleedu_service_libs.testing.devstack.tls_fronts import TlsFront, front_process

__all__ = ["start_redis_tls"]

_OPENSSL = b"SSL_CTX_new"


def start_redis_tls(run: RunContext, program: Path) -> RedisTlsServer:
    """Start the server, and the front where it needs one.

    Args:
        run: The run.
        program: As ``find_redis_program()`` returns it.

    Returns:
        The running server.

    Raises:
        ServerStartError: It does not come up.
    """
    certificates = make_certificates(run.folder / "certificates")
    plain, secure = free_ports(2)
    speaks_tls = _OPENSSL in program.resolve().read_bytes()
    run.progress(f"redis_tls: starting ({program.name}{'' if speaks_tls else ' behind a TLS front'})")
    options = _tls_options(certificates, secure) if speaks_tls else {}
    processes = [node_process(run, program, RedisNode(name="redis tls", port=plain, options=options))]
    if not speaks_tls:
        processes.append(front_process(run, certificates, [TlsFront(port=secure, target=plain)]))
    for process in processes:
        process.start()
    return RedisTlsServer(
        name="redis_tls",
        kind=Kind.LOCAL,
        address=f"rediss://localhost:{secure}/0",
        label=program.name,
        controls=processes,
        certificates=certificates,
    )


def _tls_options(certificates: Certificates, port: int) -> dict[str, str]:
    return {
        "tls-port": str(port),
        "tls-cert-file": str(certificates.server),
        "tls-key-file": str(certificates.server_key),
        "tls-ca-cert-file": str(certificates.authority),
        "tls-auth-clients": "yes",
    }
