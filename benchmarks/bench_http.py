"""What a request costs beyond the application: ids, metrics, traces and error answers, beside the usual middleware.

Run by ``make bench SUBJECT=http``. In-process ASGI, ``GET /users/{user_id}`` with six headers; 1 % of the traces are
sampled and go to an exporter that throws them away. CPU time, since nothing here waits. What counts is what a stack adds to its bare application in the same run.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from itertools import count
from time import process_time_ns
from typing import Any

from fastapi import FastAPI
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from prometheus_client import CollectorRegistry
from prometheus_fastapi_instrumentator import Instrumentator
from quart import Quart
from starlette_exporter import PrometheusMiddleware

from harness import Call, Figure, measure, print_table, versions_of, write_result
from huleedu_service_libs.error_handling.fastapi import register_error_handlers as fastapi_errors
from huleedu_service_libs.error_handling.quart import register_error_handlers as quart_errors
from huleedu_service_libs.logging_utils import configure_service_logging
from huleedu_service_libs.metrics_middleware import setup_standard_service_metrics_middleware as quart_metrics
from huleedu_service_libs.middleware.frameworks.fastapi_metrics_middleware import (
    setup_standard_service_metrics_middleware as fastapi_metrics,
)
from huleedu_service_libs.middleware.frameworks.fastapi_middleware import setup_tracing_middleware as fastapi_tracing
from huleedu_service_libs.middleware.frameworks.quart_middleware import setup_tracing_middleware as quart_tracing

PEERS = [
    "fastapi",
    "quart",
    "starlette-exporter",
    "prometheus-fastapi-instrumentator",
    "opentelemetry-instrumentation-asgi",
    "opentelemetry-instrumentation-fastapi",
    "opentelemetry-sdk",
]
ROUNDS, CALLS = 151, 40  # short rounds: most of them are not disturbed
SAMPLED = 0.01
BARE, ALL = "bare", "ours: ids, metrics, traces, errors"

HEADERS = [
    (b"host", b"essays.example"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"application/json"),
    (b"accept-language", b"sv-SE,sv;q=0.8,en-US;q=0.5,en;q=0.3"),
    (b"accept-encoding", b"gzip, deflate, br"),
    (b"connection", b"keep-alive"),
]

_numbers = count()


class Nowhere(SpanExporter):
    """Takes spans and forgets them."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002, D102
        return SpanExportResult.SUCCESS


def provider() -> TracerProvider:
    """One per subject, so that none pays for another's."""
    made = TracerProvider(sampler=ParentBased(TraceIdRatioBased(SAMPLED)))
    made.add_span_processor(BatchSpanProcessor(Nowhere()))
    return made


def fastapi_app(**options: Any) -> FastAPI:
    """One route, no validation of the answer."""
    app = FastAPI(title="bench", docs_url=None, redoc_url=None, openapi_url=None, **options)

    @app.get("/users/{user_id}")
    async def user(user_id: str) -> Any:
        return {"id": user_id}

    return app


def quart_app() -> Quart:
    """The same."""
    app = Quart("bench")

    @app.get("/users/<user_id>")
    async def user(user_id: str) -> Any:
        return {"id": user_id}

    return app


def request(app: Any) -> Call:
    """One request, by a new id each time."""

    async def call() -> None:
        path = f"/users/{random.randrange(10_000)}"  # noqa: S311  # no secret
        asked = False

        async def receive() -> Any:
            nonlocal asked
            if asked:
                await asyncio.Event().wait()
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}

        await app(
            {
                "type": "http",
                "asgi": {"version": "3.0", "spec_version": "2.3"},
                "http_version": "1.1",
                "method": "GET",
                "scheme": "http",
                "path": path,
                "raw_path": path.encode(),
                "query_string": b"",
                "root_path": "",
                "headers": list(HEADERS),
                "client": ("127.0.0.1", 50000),
                "server": ("127.0.0.1", 8000),
            },
            receive,
            _send,
        )

    return call


async def _send(message: Any) -> None:
    if message["type"] == "http.response.start" and message["status"] != 200:  # noqa: PLR2004
        raise RuntimeError(f"the subject answered {message['status']}")


def _with(app: Any, *set_ups: Callable[[Any], Any]) -> Any:
    for set_up in set_ups:
        set_up(app)
    return app


def _exporter(app: FastAPI) -> None:
    # It knows the default registry only, so each subject has a prefix of its own.
    app.add_middleware(PrometheusMiddleware, app_name="bench", group_paths=True, prefix=f"exporter_{next(_numbers)}")


def _instrumentator(app: FastAPI) -> None:
    Instrumentator(registry=CollectorRegistry()).instrument(app)


def _otel(app: FastAPI) -> None:
    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider(), exclude_spans=["send", "receive"])


def _otel_default(app: FastAPI) -> None:
    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider())


def _no_native() -> Any:
    """FastAPI's own telemetry off, so that the bare application is bare."""
    try:
        return fastapi_app(telemetry={"tracing": False, "metrics": False, "logs": False})
    except TypeError:  # an older FastAPI
        return fastapi_app()


def fastapi_subjects() -> dict[str, Any]:
    """FastAPI alone, with ours in steps, with the peers."""
    tracer = provider().get_tracer("bench")
    ours = (
        lambda app: fastapi_metrics(app, "bench", CollectorRegistry()),
        lambda app: fastapi_tracing(app, tracer),
        fastapi_errors,
    )
    return {
        BARE: _no_native(),
        ALL: _with(_no_native(), *ours),
        "ours: metrics": _with(_no_native(), ours[0]),
        "ours: traces": _with(_no_native(), ours[1]),
        "starlette_exporter": _with(_no_native(), _exporter),
        "prometheus-fastapi-instrumentator": _with(_no_native(), _instrumentator),
        "OTel, no send/receive spans": _with(_no_native(), _otel),
        "OTel as it comes": _with(_no_native(), _otel_default),
        "FastAPI's own telemetry": fastapi_app(telemetry={"tracer_provider": provider(), "metrics": False}),
        "starlette_exporter + OTel": _with(_no_native(), _exporter, _otel),
        "instrumentator + OTel": _with(_no_native(), _instrumentator, _otel),
    }


def quart_subjects() -> dict[str, Any]:
    """Quart alone, with ours in steps, and OTel's ASGI middleware, which knows no routes of Quart."""
    tracer = provider().get_tracer("bench")
    ours = (lambda app: quart_metrics(app, "bench"), lambda app: quart_tracing(app, tracer), quart_errors)
    traced = quart_app()
    traced.asgi_app = OpenTelemetryMiddleware(  # type: ignore[method-assign]
        traced.asgi_app, tracer_provider=provider(), exclude_spans=["send", "receive"]
    )
    return {
        BARE: quart_app(),
        ALL: _with(quart_app(), *ours),
        "ours: metrics": _with(quart_app(), ours[0]),
        "ours: traces": _with(quart_app(), ours[1]),
        "OTel ASGI, no routes, no metrics": traced,
    }


async def main() -> None:
    """Measure, print, write."""
    logging.disable(logging.CRITICAL)
    configure_service_logging("bench", log_level="CRITICAL")
    result: dict[str, Any] = {}
    for title, subjects in (("FastAPI", fastapi_subjects()), ("Quart", quart_subjects())):
        figures = await measure(
            {name: request(app) for name, app in subjects.items()}, rounds=ROUNDS, calls=CALLS, clock=process_time_ns
        )
        print_table(f"a request through {title}", figures, {}, BARE)
        result[title] = _added(title, figures)
    content = {"unit": "ns of CPU a request (median of interleaved rounds)", "sampled": SAMPLED, "parts": result}
    print(f"\n{write_result('http', {**content, 'versions': versions_of(PEERS)})}")


def _added(title: str, figures: dict[str, Figure]) -> dict[str, Any]:
    bare, ours = figures[BARE], figures[ALL]
    print(f"\n  added to {title}, µs{'':<27}{'median':>8}{'best':>8}{'ours / this':>14}")
    rows = {}
    for name, figure in figures.items():
        median, best = figure.median - bare.median, figure.best - bare.best
        share = (ours.median - bare.median) / median if median > 0 else None
        rows[name] = {
            "median": round(figure.median),
            "best": round(figure.best),
            "added": round(median),
            "added_best": round(best),
            "spread": round(figure.spread),
            "ours_over_this": None if share is None else round(share, 3),
        }
        shown = "" if share is None else f"{share:.2f}"
        print(f"  {name:<44}{median / 1000:>8.1f}{best / 1000:>8.1f}{shown:>14}")
    return rows


if __name__ == "__main__":
    asyncio.run(main())
