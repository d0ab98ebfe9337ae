"""One request is one trace, through three processes, two outboxes and Kafka, as a collector sees it."""

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from essay_pipeline.demo.clients import User
from essay_pipeline.demo.processes import PipelineProcesses, Servers
from essay_pipeline.demo.service import Log
from libs.huleedu_service_libs.tests.observability.collector import Collector, collecting

from .conftest import ENGLISH

pytestmark = pytest.mark.integration


@pytest.fixture(name="collector", scope="module")
def _collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(name="traced", scope="module")
def _traced(
    servers: Servers, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PipelineProcesses]:
    """The three services, which send every span to the collector."""
    folder = tmp_path_factory.mktemp("traced")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")  # milliseconds
        with PipelineProcesses(
            servers=servers, make_log=lambda name: Log(folder / f"{name}.log"), namespace=f"traced-{uuid4().hex[:8]}."
        ) as processes:
            yield processes


def tree(spans: list[tuple[str, Any]], parent: bytes, namespace: str) -> Any:
    """The spans below ``parent``: service and name, each with those below it, in the order of their beginnings."""
    below = sorted(
        (each for each in spans if each[1].parent_span_id == parent), key=lambda each: each[1].start_time_unix_nano
    )
    return [
        (service.removesuffix("-service"), span.name.replace(namespace, ""), tree(spans, span.span_id, namespace))
        for service, span in below
    ]


def names(branches: Any) -> list[tuple[str, str]]:
    """Services and names of a tree, without its shape."""
    return [pair for service, name, below in branches for pair in [(service, name), *names(below)]]


async def test_one_request_is_one_trace(traced: PipelineProcesses, collector: Collector) -> None:
    """Request, both outboxes, both consumers: every span is below its cause and links to it, with one correlation id."""
    trace_id, root, correlation_id = uuid4().hex, "00f067aa0ba902b7", str(uuid4())
    headers = {"X-Correlation-ID": correlation_id, "traceparent": f"00-{trace_id}-{root}-01"}
    async with (
        User.connected(traced.notify_url) as user,
        httpx.AsyncClient(base_url=traced.intake_url, timeout=20, trust_env=False) as http,
    ):
        answer = await http.post(
            "/v1/essays",
            json={"title": "A letter", "language": "en", "text": ENGLISH},
            headers={"X-User-Token": user.token, **headers},
        )
        essay_id = answer.json()["essay_id"]
        await user.wait_for("essay.checked", essay_id)

    submitted, checked = (topic.removeprefix(traced.namespace) for topic in traced.topics)
    wanted = {
        ("intake", "POST /v1/essays"),
        ("intake", f"send {submitted}"),
        ("spellcheck", f"process {submitted}"),
        ("notify", f"process {submitted}"),
        ("spellcheck", f"send {checked}"),
        ("notify", f"process {checked}"),
    }
    spans = wait_for(collector, trace_id, wanted, traced.namespace)
    whole = tree(spans, bytes.fromhex(root), traced.namespace)

    assert [(service, name) for service, name, _ in whole] == [("intake", "POST /v1/essays")]
    assert wanted <= set(names(whole))
    own = {(service.removesuffix("-service"), span.name.replace(traced.namespace, "")): span for service, span in spans}
    checking = own["spellcheck", f"process {submitted}"]
    assert below(own["intake", f"send {submitted}"], own["intake", "POST /v1/essays"], spans)
    assert below(checking, own["intake", "POST /v1/essays"], spans)
    assert below(own["spellcheck", f"send {checked}"], checking, spans)
    assert below(own["notify", f"process {checked}"], checking, spans)
    for (_, name), span in own.items():
        if name.startswith(("send ", "process ")):
            links = [(link.trace_id.hex(), link.span_id) for link in span.links]
            assert links[:1] == [(trace_id, span.parent_span_id)], name
            assert len(links) == 1 + name.startswith("send "), name  # what left together, in a trace of its own
            assert attribute(span, "messaging.message.conversation_id") == correlation_id
            assert attribute(span, "messaging.system") == "kafka"
    assert attribute(own["intake", "POST /v1/essays"], "correlation_id") == correlation_id
    assert own["notify", f"process {checked}"].kind == Span.SpanKind.SPAN_KIND_CONSUMER
    assert own["spellcheck", f"send {checked}"].kind == Span.SpanKind.SPAN_KIND_PRODUCER


async def test_metrics_of_the_services_have_templates(traced: PipelineProcesses) -> None:
    """All three services tell their requests by route, in OpenMetrics with exemplars where it is asked for."""
    for name, url, path, template in (
        ("intake", traced.intake_url, "/nothing", "__unmatched__"),
        ("notify", traced.notify_url, "/texts/none", "/texts/{essay_id}"),
        ("spellcheck", traced.spellcheck_url, "/nothing", "__unmatched__"),
    ):
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            await http.get(path)
            text = (await http.get("/metrics", headers={"Accept": "application/openmetrics-text"})).text
        assert f'endpoint="{template}"' in text
        assert f'service="{name}-service"' in text
        assert 'trace_id="' in text


def wait_for(
    collector: Collector, trace_id: str, wanted: set[tuple[str, str]], namespace: str
) -> list[tuple[str, Any]]:
    """The spans of a trace, once all that are wanted have come."""
    until = time.monotonic() + 20
    while True:
        spans = [each for each in collector.spans if each[1].trace_id.hex() == trace_id]
        found = {(service.removesuffix("-service"), span.name.replace(namespace, "")) for service, span in spans}
        if wanted <= found:
            return spans
        assert time.monotonic() < until, f"missing {wanted - found}, found {found}"
        time.sleep(0.1)


def below(span: Any, ancestor: Any, spans: list[tuple[str, Any]]) -> bool:
    """Whether ``span`` is somewhere below ``ancestor``."""
    by_id = {each.span_id: each for _, each in spans}
    while span is not None and span.span_id != ancestor.span_id:
        span = by_id.get(span.parent_span_id)
    return span is not None


def attribute(span: Any, name: str) -> str | None:
    """The text of an attribute."""
    return next((each.value.string_value for each in span.attributes if each.key == name), None)
