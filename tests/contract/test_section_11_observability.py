"""Section 11: set-up of traces, their contexts, and spans around operations."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from quart import Quart, g

import huleedu_service_libs
from common_core.events.envelope import EventEnvelope
from huleedu_service_libs import observability
from huleedu_service_libs.middleware.frameworks.quart_middleware import setup_tracing_middleware
from huleedu_service_libs.observability import (
    extract_trace_context,
    get_current_span,
    get_current_trace_id,
    get_tracer,
    inject_trace_context,
    trace_operation,
    tracing,
    use_trace_context,
)
from huleedu_service_libs.observability.tracing import add_event_to_span
from tests.contract.signatures import Wanted
from tests.contract.tables import signatures

TRACE = "0af7651916cd43dd8448eb211c80319c"
CARRIER = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "tracestate": "a=b"}


@pytest.mark.parametrize("wanted", signatures(11), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


@pytest.fixture(name="exporter")
def _exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Finished spans of the provider that a suite has installed globally."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return exporter


@pytest.mark.contract("11-paths")
def test_where_the_functions_are() -> None:
    """The same objects by each path."""
    names = ["init_tracing", "trace_operation", "inject_trace_context", "extract_trace_context", "get_current_trace_id"]
    for name in names:
        assert getattr(huleedu_service_libs, name) is getattr(observability, name) is getattr(tracing, name)
    assert observability.get_tracer is tracing.get_tracer


def run(code: str, **variables: str) -> Any:
    """What ``code`` prints as JSON, in an interpreter of its own with these variables and none other of tracing."""
    unset = ("SERVICE_VERSION", "ENVIRONMENT", "SERVICE_NAME")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_") and key not in unset}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], env=kept | variables, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


RESOURCE = """
import json, time
since = time.monotonic()
from huleedu_service_libs import init_tracing
tracer = init_tracing("svc")
again = init_tracing("svc")
from opentelemetry import propagate, trace
with tracer.start_as_current_span("work"):
    carrier = {}
    propagate.inject(carrier)
provider = trace.get_tracer_provider()
print(json.dumps({
    "resource": dict(provider.resource.attributes),
    "tracer": hasattr(again, "start_as_current_span"),
    "carrier": sorted(carrier),
    "seconds": time.monotonic() - since,
}))
import os, sys
sys.stdout.flush()
os._exit(0)
"""


@pytest.mark.contract("11-resource", "11-provider", "11-without-collector")
@pytest.mark.parametrize(
    ("variables", "version", "environment"),
    [({}, "1.0.0", "development"), ({"SERVICE_VERSION": "2.1", "ENVIRONMENT": "staging"}, "2.1", "staging")],
    ids=["defaults", "variables"],
)
def test_setting_up(variables: dict[str, str], version: str, environment: str) -> None:
    """Twice, with nobody at the collector's address: provider, resource, propagator, and no wait."""
    found = run(RESOURCE, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", **variables)
    expected = {
        "service.name": "svc",
        "service.version": version,
        "deployment.environment": environment,
        "service.namespace": "huleedu",
    }
    assert expected.items() <= found["resource"].items()
    assert (found["tracer"], found["carrier"]) == (True, ["traceparent"])
    assert found["seconds"] < 30


EXPORT = """
import json, os, socket, sys, threading
server = socket.create_server(("127.0.0.1", 0))
os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{server.getsockname()[1]}"
from huleedu_service_libs import init_tracing
from opentelemetry import trace
tracer = init_tracing("svc")
with tracer.start_as_current_span("work"):
    pass
threading.Thread(target=trace.get_tracer_provider().force_flush, args=(5000,), daemon=True).start()
server.settimeout(60)
connection, _ = server.accept()
connection.settimeout(60)
print(json.dumps(connection.recv(3).decode("latin-1")))
sys.stdout.flush()
os._exit(0)
"""


@pytest.mark.contract("11-exporter")
def test_where_spans_go() -> None:
    """A connection to the variable's address, in plain HTTP/2, which is what gRPC speaks without TLS."""
    assert run(EXPORT) == "PRI"


@pytest.mark.contract("11-operation-span", "11-operation-attributes", "11-global-provider")
def test_an_operation(exporter: InMemorySpanExporter) -> None:
    """A span that is current inside, with the attributes as text; of whatever provider is global now."""
    given = {"text": "t", "none": None, "number": 3, "many": [1, 2]}
    with trace_operation(get_tracer("svc"), "work", given) as span:
        assert get_current_span() is span
    (done,) = exporter.get_finished_spans()
    attributes = dict(done.attributes or {})
    assert (done.name, attributes["text"], attributes["none"], attributes["many"]) == ("work", "t", "", "[1, 2]")
    assert attributes["number"] == 3
    assert get_current_span() is None


@pytest.mark.contract("11-operation-error")
def test_an_operation_that_fails(exporter: InMemorySpanExporter) -> None:
    """Recorded once, marked, and raised again."""
    with pytest.raises(KeyError), trace_operation(get_tracer("svc"), "work"):
        raise KeyError("x")
    (done,) = exporter.get_finished_spans()
    assert (done.status.status_code, [event.name for event in done.events]) == (StatusCode.ERROR, ["exception"])
    attributes = dict(done.attributes or {})
    assert (attributes["error"], attributes["error.type"]) == (True, "KeyError")


@pytest.mark.contract("11-operation-correlation")
async def test_an_operation_inside_a_request(exporter: InMemorySpanExporter) -> None:
    """The request's correlation id is on the span."""
    app = Quart("x")
    setup_tracing_middleware(app, get_tracer("svc"))
    seen = []

    @app.get("/")
    async def view() -> str:
        seen.append(g.correlation_id)
        with trace_operation(get_tracer("svc"), "inner"):
            return "x"

    await app.test_client().get("/", headers={"X-Correlation-ID": "abc-1"})
    (inner,) = [span for span in exporter.get_finished_spans() if span.name == "inner"]
    assert (seen, (inner.attributes or {})["correlation_id"]) == (["abc-1"], "abc-1")


@pytest.mark.contract("11-use", "11-inject", "11-extract", "11-current-trace-id")
def test_contexts() -> None:
    """What came in is current inside, goes out again, and is gone afterwards."""
    out: dict[str, Any] = {}
    with use_trace_context(dict(CARRIER)):
        assert get_current_trace_id() == TRACE
        inject_trace_context(out)
    assert out == CARRIER
    assert get_current_trace_id() is None
    found = trace.get_current_span(extract_trace_context(dict(CARRIER))).get_span_context()
    assert f"{found.trace_id:032x}" == TRACE


@pytest.mark.contract("11-carrier-metadata")
def test_a_context_travels_in_metadata(exporter: InMemorySpanExporter) -> None:
    """Injected into `envelope.metadata`, and current again after the journey."""
    event: EventEnvelope[Any] = EventEnvelope(event_type="e", source_service="s", data={})
    event.metadata = {}
    with trace_operation(get_tracer("svc"), "send"):
        sent = get_current_trace_id()
        inject_trace_context(event.metadata)
    arrived = EventEnvelope[Any].model_validate_json(event.model_dump_json())
    assert arrived.metadata is not None
    with use_trace_context(arrived.metadata), trace_operation(get_tracer("svc"), "receive"):
        assert get_current_trace_id() == sent
    assert len(exporter.get_finished_spans()) == 2


@pytest.mark.contract("11-current-span", "11-add-event")
def test_the_current_span(exporter: InMemorySpanExporter) -> None:
    """`None` outside and where nobody records; events go onto the one that records."""
    add_event_to_span("nowhere")
    assert (get_current_span(), get_current_trace_id()) == (None, None)
    with use_trace_context(dict(CARRIER)):
        assert get_current_span() is None
    with trace_operation(get_tracer("svc"), "work"):
        add_event_to_span("halfway", {"share": 0.5})
        assert len(get_current_trace_id() or "") == 32
    (done,) = exporter.get_finished_spans()
    assert [(event.name, dict(event.attributes or {})) for event in done.events] == [("halfway", {"share": 0.5})]
