"""An OTLP gRPC collector in this process, for tests of what is exported."""

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import trustme
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent.

    Attributes:
        address: ``http://127.0.0.1:port``.
        requests: What came, each with the call's metadata.
    """

    def __init__(self) -> None:
        self.address = ""
        self.requests: list[tuple[dict[str, str], Any]] = []
        self._lock = threading.Lock()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802  # gRPC's name
        """Take one export."""
        with self._lock:
            self.requests.append((dict(context.invocation_metadata()), request))
        return trace_service_pb2.ExportTraceServiceResponse()

    @property
    def spans(self) -> list[tuple[str, Any]]:
        """Every span with the service that made it."""
        with self._lock:
            return [
                (_service(resource), span)
                for _, request in self.requests
                for resource in request.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ]

    @property
    def resources(self) -> list[dict[str, str]]:
        """The resources of all exports."""
        return [
            {each.key: each.value.string_value for each in resource.resource.attributes}
            for _, request in self.requests
            for resource in request.resource_spans
        ]


def _service(resource: Any) -> str:
    return next((each.value.string_value for each in resource.resource.attributes if each.key == "service.name"), "")


@contextmanager
def collecting(certificate: trustme.LeafCert | None = None) -> Iterator[Collector]:
    """Run a collector on a free port of the loopback interface; with a certificate it speaks TLS only."""
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    if certificate is None:
        collector.address = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    else:
        pair = (certificate.private_key_pem.bytes(), b"".join(each.bytes() for each in certificate.cert_chain_pems))
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        collector.address = f"https://127.0.0.1:{port}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(grace=None)
