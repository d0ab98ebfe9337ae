"""`init_tracing`: once for a process, to a collector or to none, with and without the SDK."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trustme

from huleedu_service_libs.observability import TracingSettings
from huleedu_service_libs.observability._otlp import _endpoint_of

from .collector import collecting

_NOWHERE = "http://127.0.0.1:9"  # discard: nobody listens


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a process of its own: a process has one provider."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(  # noqa: S603  # our own
        [sys.executable, "-W", "error", "-c", code],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def done(code: str, **environment: str) -> str:
    """The same, and its output; it must succeed."""
    finished = run(code, **environment)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_spans_reach_the_collector_with_resource_and_headers() -> None:
    """What waits is sent at shutdown; service, version and environment stand in the resource."""
    code = """
from huleedu_service_libs import init_tracing
from huleedu_service_libs.observability import TracingSettings, shutdown_tracing
tracer = init_tracing("svc", TracingSettings(headers={"X-Key": "k"}))
with tracer.start_as_current_span("work"):
    pass
shutdown_tracing()
"""
    with collecting() as collector:
        done(code, OTEL_EXPORTER_OTLP_ENDPOINT=collector.address, SERVICE_VERSION="2.1", ENVIRONMENT="staging")
        assert [(service, span.name) for service, span in collector.spans] == [("svc", "work")]
        (resource,) = collector.resources
        ((metadata, _),) = collector.requests
    assert metadata["x-key"] == "k"
    wanted = {
        "service.name": "svc",
        "service.version": "2.1",
        "deployment.environment": "staging",
        "service.namespace": "huleedu",
    }
    assert wanted.items() <= resource.items()


def test_init_tracing_is_idempotent() -> None:
    """One provider and one exporter thread, however often it is called; after a shutdown it records again."""
    code = """
import threading
from opentelemetry import trace
from huleedu_service_libs.observability import flush_tracing, init_tracing, shutdown_tracing
init_tracing("svc")
provider, threads = trace.get_tracer_provider(), threading.active_count()
for _ in range(5):
    tracer = init_tracing("svc")
assert trace.get_tracer_provider() is provider
assert threading.active_count() == threads
with tracer.start_as_current_span("first"):
    pass
assert flush_tracing()
shutdown_tracing()
shutdown_tracing()
with tracer.start_as_current_span("unseen"):
    pass
with init_tracing("svc").start_as_current_span("second"):
    pass
shutdown_tracing()
"""
    with collecting() as collector:
        done(code, OTEL_EXPORTER_OTLP_ENDPOINT=collector.address)
        assert [span.name for _, span in collector.spans] == ["first", "second"]


def test_without_a_collector_nothing_waits_and_little_is_said() -> None:
    """Importing, tracing and leaving take moments; the log has one line about it."""
    code = """
import logging, time
logging.basicConfig()
from huleedu_service_libs.observability import TracingSettings, init_tracing, shutdown_tracing
before = time.perf_counter()
tracer = init_tracing("svc", TracingSettings(endpoint="NOWHERE", flush_timeout_s=0.5, export_timeout_s=1))
for _ in range(3000):
    with tracer.start_as_current_span("work"):
        pass
assert time.perf_counter() - before < 5
before = time.perf_counter()
shutdown_tracing()
assert time.perf_counter() - before < 3
""".replace("NOWHERE", _NOWHERE)
    before = time.perf_counter()
    finished = run(code)
    assert finished.returncode == 0, finished.stderr
    assert time.perf_counter() - before < 30
    assert finished.stderr.count("opentelemetry.exporter") <= 2, finished.stderr


def test_leaving_takes_no_longer_than_set() -> None:
    """A process that forgets to shut down still sends what waits, and without a collector does not hang at exit."""
    code = """
from huleedu_service_libs.observability import TracingSettings, init_tracing
with init_tracing("svc", TracingSettings(flush_timeout_s=1)).start_as_current_span("last"):
    pass
"""
    before = time.perf_counter()
    done(code, OTEL_EXPORTER_OTLP_ENDPOINT=_NOWHERE)
    assert time.perf_counter() - before < 15
    with collecting() as collector:
        done(code, OTEL_EXPORTER_OTLP_ENDPOINT=collector.address)
        assert [span.name for _, span in collector.spans] == ["last"]


def test_spans_travel_over_tls(tmp_path: Path) -> None:
    """To a collector whose authority is given; one of another authority gets nothing, which is counted, and nobody waits."""
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "own.pem")
    other.cert_pem.write_to_path(tmp_path / "other.pem")
    code = """
from prometheus_client import REGISTRY
from huleedu_service_libs.observability import *
settings = TracingSettings(certificate_file="FILE", flush_timeout_s=SECONDS, export_timeout_s=2)
with init_tracing("svc", settings).start_as_current_span("work"):
    pass
print("flushed", flush_tracing(SECONDS))
shutdown_tracing()
"""
    with collecting(authority.issue_cert("127.0.0.1")) as collector:
        for name, seconds, sent in (("own.pem", "20", "True"), ("other.pem", "3", "False")):
            program = code.replace("FILE", str(tmp_path / name)).replace("SECONDS", seconds)
            assert f"flushed {sent}" in done(program, OTEL_EXPORTER_OTLP_ENDPOINT=collector.address)
        assert [(service, span.name) for service, span in collector.spans] == [("svc", "work")]


def test_an_address_without_scheme_means_no_tls() -> None:
    """``collector:4317`` in the environment, as in many a compose file; an empty variable means the default."""
    code = """
from huleedu_service_libs.observability import *
with init_tracing("svc").start_as_current_span("work"):
    pass
shutdown_tracing()
"""
    with collecting() as collector:
        done(code, OTEL_EXPORTER_OTLP_ENDPOINT=collector.address.removeprefix("http://"))
        assert len(collector.spans) == 1
    asked = TracingSettings()
    assert _endpoint_of({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, asked) == "http://localhost:4317"
    assert _endpoint_of({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c:1"}, asked) is None
    for tls in ("OTEL_EXPORTER_OTLP_INSECURE", "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"):
        assert _endpoint_of({"OTEL_EXPORTER_OTLP_ENDPOINT": "c:1", tls: "false"}, asked) is None


def test_settings_that_were_refused_leave_nothing_behind(tmp_path: Path) -> None:
    """A certificate that is missing or none is told by name; a call with good settings records afterwards."""
    (tmp_path / "none.pem").write_text("hello")
    code = """
from huleedu_service_libs.observability import *
for name in ("missing.pem", "none.pem"):
    try:
        init_tracing("svc", TracingSettings(endpoint="https://127.0.0.1:9", certificate_file=f"FOLDER/{name}"))
    except (FileNotFoundError, ValueError) as error:
        print(error)
with init_tracing("svc").start_as_current_span("work"):
    pass
shutdown_tracing()
""".replace("FOLDER", str(tmp_path))
    with collecting() as collector:
        said = done(code, OTEL_EXPORTER_OTLP_ENDPOINT=collector.address)
        assert len(collector.spans) == 1
    assert "missing.pem" in said
    assert "none.pem' holds no PEM certificate: give that of the authority" in said


def test_flushing_and_leaving_take_no_longer_than_said() -> None:
    """A collector that takes connections and never answers: `flush_tracing` says no in time, and the process ends."""
    code = """
import time
from huleedu_service_libs.observability import *
tracer = init_tracing("svc", TracingSettings(flush_timeout_s=1, export_timeout_s=30))
with tracer.start_as_current_span("work"):
    pass
before = time.perf_counter()
assert flush_tracing(1.0) is False
shutdown_tracing()
assert time.perf_counter() - before < 15
"""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        before = time.perf_counter()
        done(code, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.perf_counter() - before < 28


def test_a_forked_process_sends_its_own_spans() -> None:
    """As workers of a server that loads the application before it forks: each span arrives, and none twice."""
    code = """
import os, sys
from huleedu_service_libs.observability import *
tracer = init_tracing("svc")
with tracer.start_as_current_span("before"):
    pass
assert flush_tracing()
with tracer.start_as_current_span("waits"):
    pass
child = os.fork()
if child == 0:
    with tracer.start_as_current_span("child"):
        pass
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
with tracer.start_as_current_span("after"):
    pass
shutdown_tracing()
"""
    with collecting() as collector:
        done(code, OTEL_EXPORTER_OTLP_ENDPOINT=collector.address)
        assert sorted(span.name for _, span in collector.spans) == ["after", "before", "child", "waits"]


def test_a_provider_that_is_there_stays() -> None:
    """A test suite's own provider is used, not replaced."""
    code = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
own = TracerProvider()
trace.set_tracer_provider(own)
from huleedu_service_libs import init_tracing
init_tracing("svc")
assert trace.get_tracer_provider() is own
"""
    done(code)


def test_the_api_alone_suffices() -> None:
    """Without the SDK tracers trace nothing, ids travel on, and nothing fails."""
    code = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter")):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name.startswith("opentelemetry.sdk") else found(name, *rest)
from huleedu_service_libs.observability import *
tracer = init_tracing("svc")
carrier = {}
with use_trace_context({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}):
    with trace_operation(tracer, "work"):
        inject_trace_context(carrier)
assert carrier["traceparent"].split("-")[1] == "0af7651916cd43dd8448eb211c80319c", carrier
assert flush_tracing()
shutdown_tracing()
"""
    done(code)


@pytest.mark.parametrize(("ratio", "exported"), [(0.0, 0), (1.0, 20)])
def test_the_sampler_is_a_setting(ratio: float, exported: int) -> None:
    """Traces that begin here are sampled by ratio; what came in sampled stays so."""
    code = f"""
from huleedu_service_libs.observability import *
tracer = init_tracing("svc", TracingSettings(sample_ratio={ratio}))
for _ in range(20):
    with tracer.start_as_current_span("begun"):
        pass
with use_trace_context({{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}):
    with tracer.start_as_current_span("continued"):
        pass
shutdown_tracing()
"""
    with collecting() as collector:
        done(code, OTEL_EXPORTER_OTLP_ENDPOINT=collector.address)
        names = [span.name for _, span in collector.spans]
    assert names.count("begun") == exported
    assert names.count("continued") == 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"sample_ratio": 1.5}, "sample_ratio must be between 0 and 1, is 1.5"),
        ({"endpoint": "collector:4317"}, "endpoint must begin with http:// or https://, is 'collector:4317'"),
        ({"batch_size": 5000}, r"batch_size must be 1 to queue_size \(2048\), is 5000"),
        ({"insecure": True, "certificate_file": "ca.pem"}, "insecure=True contradicts certificate_file"),
        ({"insecure": True, "endpoint": "https://c:4317"}, "insecure=True contradicts .* an endpoint of https://"),
        ({"flush_timeout_s": 0}, "flush_timeout_s must be positive, got 0"),
    ],
)
def test_settings_check_themselves(wrong: dict[str, Any], says: str) -> None:
    """The error names the setting and its value; headers, which hold keys, are not shown."""
    with pytest.raises(ValueError, match=says):
        TracingSettings(**wrong)
    assert "geheim" not in repr(TracingSettings(headers={"x-key": "geheim"}))
