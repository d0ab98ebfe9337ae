"""Section 21: variables of the environment, names on the wire, packaging, and what importing does not do."""

import json
import os
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from quart import Quart

import huleedu_service_libs
from huleedu_service_libs.idempotency_v2 import IdempotencyConfig
from huleedu_service_libs.middleware.frameworks.quart_middleware import setup_tracing_middleware
from huleedu_service_libs.outbox import EventRelayWorker, OutboxSettings

ROOT = Path(__file__).parents[2] / "libs" / "huleedu_service_libs"
EXPORTS = [
    "HuleEduApp",
    "KafkaBus",
    "RedisClient",
    "init_tracing",
    "trace_operation",
    "get_current_trace_id",
    "inject_trace_context",
    "extract_trace_context",
]
EARLIER = [
    "aiohttp",
    "aiokafka",
    "pydantic",
    "structlog",
    "huleedu-common-core",
    "redis",
    "opentelemetry-api",
    "opentelemetry-sdk",
    "opentelemetry-exporter-otlp",
    "sqlalchemy",
    "quart",
    "prometheus-client",
]
UNSET = ("KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL", "ENVIRONMENT", "SERVICE_NAME", "SERVICE_VERSION")


def run(code: str, **variables: str) -> Any:
    """What ``code`` prints last, as JSON, with these variables of the library's and none other."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if key not in UNSET and not key.startswith(("OTEL_", "HULEEDU_"))
    }
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], env=kept | variables, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


ADDRESSES = """
import json
from huleedu_service_libs import kafka_client, queue_redis_client, redis_client
print(json.dumps([
    kafka_client.KAFKA_BOOTSTRAP_SERVERS, kafka_client.KafkaBus(client_id="c").bootstrap_servers,
    redis_client.REDIS_URL, redis_client.RedisClient(client_id="c").redis_url, queue_redis_client.REDIS_URL,
]))
"""


@pytest.mark.contract("21-kafka-bootstrap-servers", "21-redis-url")
@pytest.mark.parametrize(
    ("variables", "kafka", "redis"),
    [
        ({}, "kafka:9092", "redis://redis:6379"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "k:1", "REDIS_URL": "redis://r:2"}, "k:1", "redis://r:2"),
    ],
    ids=["defaults", "variables"],
)
def test_addresses(variables: dict[str, str], kafka: str, redis: str) -> None:
    """Read at import, and what is constructed without an address has them."""
    assert run(ADDRESSES, **variables) == [kafka, kafka, redis, redis, redis]


EVERYTHING = """
import json, os
from huleedu_service_libs import init_tracing
from huleedu_service_libs.config import SecureServiceSettings
from huleedu_service_libs.logging_utils import configure_service_logging, create_service_logger
from huleedu_service_libs.outbox.di import OutboxProvider
from huleedu_service_libs.outbox import OutboxSettings
from opentelemetry import trace
import inspect
settings = SecureServiceSettings()
before = os.environ.get("SERVICE_NAME")
outbox = OutboxProvider().provide_outbox_settings() if hasattr(OutboxProvider, "provide_outbox_settings") else None
init_tracing("svc")
resource = dict(trace.get_tracer_provider().resource.attributes)
configure_service_logging("svc", log_level="error")
found = {
    "settings": settings.ENVIRONMENT.value, "password": settings.get_db_password(), "key": settings.get_internal_api_key(),
    "tracing": [resource["deployment.environment"], resource["service.version"]],
    "outbox": None if outbox is None else outbox.poll_interval_seconds,
    "before": before, "after": os.environ["SERVICE_NAME"],
}
print(json.dumps(found), flush=True)
os._exit(0)
"""


@pytest.mark.contract("21-environment", "21-service-name", "21-tracing-variables", "21-settings-variables")
@pytest.mark.parametrize(
    ("variables", "environment", "version", "poll"),
    [
        ({}, "development", "1.0.0", 5.0),
        (
            {
                "ENVIRONMENT": "testing",
                "SERVICE_VERSION": "3",
                "HULEEDU_DB_PASSWORD": "p",
                "HULEEDU_INTERNAL_API_KEY": "k",
                "SERVICE_NAME": "own",
            },
            "testing",
            "3",
            0.1,
        ),
    ],
    ids=["defaults", "variables"],
)
def test_variables(variables: dict[str, str], environment: str, version: str, poll: float) -> None:
    """One process, its settings, traces, outbox and the variable that logging sets."""
    found = run(EVERYTHING, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", **variables)
    assert (found["settings"], found["tracing"]) == (environment, [environment, version])
    assert (found["password"], found["key"]) == (("p", "k") if variables else ("", ""))
    assert (found["before"], found["after"]) == (variables.get("SERVICE_NAME"), variables.get("SERVICE_NAME", "svc"))
    assert found["outbox"] == poll


@pytest.mark.contract("21-http-headers")
async def test_headers() -> None:
    """The trace that comes in goes on, and the ids go out."""
    app = Quart("x")
    app.get("/")(lambda: "x")
    setup_tracing_middleware(app, TracerProvider().get_tracer("t"))
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    incoming = {
        "X-Correlation-ID": "abc-1",
        "traceparent": f"00-{trace_id}-b7ad6b7169203331-01",
        "tracestate": "vendor=1",
    }
    transport: Any = httpx.ASGITransport(app=app)  # type: ignore[arg-type]  # Quart types its scope more closely
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as http:
        headers = (await http.get("/", headers=incoming)).headers
    assert (headers["X-Trace-ID"], len(headers["X-Span-ID"])) == (trace_id, 16)
    assert headers["traceparent"].startswith(f"00-{trace_id}-{headers['X-Span-ID']}-")


@pytest.mark.contract("21-redis-names")
def test_names_in_redis() -> None:
    """Wake lists and idempotency keys; channels of users are tested with the server that has them."""
    worker = EventRelayWorker(
        outbox_repository=AsyncMock(),
        kafka_bus=AsyncMock(),
        settings=OutboxSettings(enable_metrics=False),
        service_name="svc",
    )
    assert worker.wake_key == "outbox:wake:svc"
    key = IdempotencyConfig(service_name="svc").generate_redis_key("e.v1", "id", "digest")
    assert key.startswith("huleedu:idempotency:v2:")


@pytest.mark.contract("21-root-exports")
def test_the_root() -> None:
    """Eight names, each of which can be had."""
    assert [name for name in EXPORTS if not hasattr(huleedu_service_libs, name)] == []
    assert set(EXPORTS) <= set(huleedu_service_libs.__all__)


@pytest.mark.contract("21-py-typed", "21-layout", "21-version")
def test_the_package() -> None:
    """Where services' Docker files look for it, with its version and its marker."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (project["name"], project["version"]) == ("huleedu-service-libs", "0.2.0")
    assert metadata.version("huleedu-service-libs") == "0.2.0"
    supported = SpecifierSet(project["requires-python"])
    assert [version in supported for version in ("3.10", "3.11", "3.13")] == [False, True, True]
    source = ROOT / "src" / "huleedu_service_libs"
    assert (source / "py.typed").is_file()
    assert (source / "__init__.py").is_file()


@pytest.mark.contract("21-dependencies")
def test_dependencies() -> None:
    """All that services may count on, with two extras and a lower bound each."""
    needed = {
        one.name: one for one in map(Requirement, metadata.requires("huleedu-service-libs") or []) if one.marker is None
    }
    assert set(EARLIER) <= set(needed)
    assert (needed["redis"].extras, needed["sqlalchemy"].extras) == ({"hiredis"}, {"asyncio"})
    assert [name for name, one in needed.items() if not one.specifier] == []


IMPORTS = """
import asyncio, importlib, json, pkgutil, socket, sys, threading
seen = []
def refuse(what):
    def call(*args, **kwargs):
        raise AssertionError(f"{what} while importing")
    return call
for module, name in ((asyncio, "new_event_loop"), (asyncio, "run")):
    setattr(module, name, refuse(name))
socket.socket.connect = refuse("connect")
socket.getaddrinfo = refuse("getaddrinfo")
import huleedu_service_libs
names = sorted(one.name for one in pkgutil.walk_packages(huleedu_service_libs.__path__, "huleedu_service_libs."))
names = [one for one in names if not one.endswith("__main__")]
for name in names if sys.argv[1] == "forwards" else names[::-1]:
    importlib.import_module(name)
for name in names:
    importlib.import_module(name)
from prometheus_client import generate_latest
lines = generate_latest().decode().splitlines()
types = [line for line in lines if line.startswith("# TYPE")]
print(json.dumps({"modules": len(names), "threads": threading.active_count(), "doubled": len(types) - len(set(types))}))
"""


@pytest.mark.contract("21-import-no-loop", "21-import-no-duplicates")
@pytest.mark.parametrize("order", ["forwards", "backwards"])
def test_importing_everything(order: str) -> None:
    """Every module in either order, and again: no loop, no connection, no thread, no metric twice."""
    found = run(IMPORTS.replace("sys.argv[1]", repr(order)))
    assert found["modules"] > 100
    assert (found["threads"], found["doubled"]) == (1, 0)


@pytest.mark.contract("21-import-no-frameworks")
def test_importing_the_root() -> None:
    """No driver and no framework comes with it."""
    code = "import json, sys, huleedu_service_libs; print(json.dumps(sorted({one.partition('.')[0] for one in sys.modules})))"
    heavy = {"quart", "fastapi", "starlette", "sqlalchemy", "aiokafka", "redis", "aiohttp", "dishka", "grpc"}
    assert heavy & set(run(code)) == set()
