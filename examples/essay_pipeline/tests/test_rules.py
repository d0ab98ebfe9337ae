"""The rules for a service on this library, in full, and for each what shows that the example follows it.

``here::`` stands for this file, ``tests/`` for the tests of the example, ``libs/`` for those of the library: where a
rule is about what a part of it does, the test of that part. Every test that is named is one that pytest runs.
"""

import ast
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import AsyncMock, Mock
from uuid import NAMESPACE_OID, uuid4, uuid5

import httpx
import pytest
from dishka import AsyncContainer
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from essay_pipeline.demo.clients import User
from essay_pipeline.demo.processes import PipelineProcesses, Servers
from essay_pipeline.demo.readback import read_database, read_topic
from essay_pipeline.intake import di as intake_di
from essay_pipeline.intake.app import create_app as create_intake
from essay_pipeline.intake.models import EssayRequest
from essay_pipeline.intake.service import EssayIntake, Submission
from essay_pipeline.intake.settings import IntakeSettings
from essay_pipeline.notify import di as notify_di
from essay_pipeline.notify.settings import NotifySettings
from essay_pipeline.settings import PipelineSettings
from essay_pipeline.spellcheck import di as spellcheck_di
from essay_pipeline.spellcheck.app import create_app as create_spellcheck
from essay_pipeline.spellcheck.settings import SpellcheckSettings
from huleedu_service_libs.kafka.consumer import EventConsumer
from huleedu_service_libs.kafka.resilient_kafka_bus import ResilientKafkaPublisher
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.outbox import EventRelayWorker
from huleedu_service_libs.outbox.manager import OutboxManager
from huleedu_service_libs.protocols import KafkaPublisherProtocol
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.resilience import CircuitBreakerRegistry

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = "examples/essay_pipeline/"
SOURCES = sorted((ROOT / EXAMPLE / "src/essay_pipeline").rglob("*.py"))

Connect = Callable[[], Awaitable[User]]
Submit = Callable[..., Awaitable[httpx.Response]]
Make = tuple[ModuleType, type[PipelineSettings]]

SERVICES: dict[str, Make] = {
    "intake": (intake_di, IntakeSettings),
    "spellcheck": (spellcheck_di, SpellcheckSettings),
    "notify": (notify_di, NotifySettings),
}
COLUMNS = "id, aggregate_id, aggregate_type, event_type, event_data, event_key, topic, created_at, published_at, retry_count, last_error"

RULES: dict[str, tuple[str, ...]] = {
    # Redis
    "`start()` before use, `stop()` on shutdown": (
        "here::test_clients_live_between_start_and_stop",
        "tests/test_services_lifecycle.py::test_sigterm_stops_gracefully",
    ),
    "`set_if_not_exists()` for idempotency keys": (
        "here::test_an_event_is_claimed_under_its_key",
        "libs/idempotency/test_consumer.py::test_calls_of_an_undisturbed_event",
        "libs/idempotency/test_redis.py::test_duplicates_are_skipped",
    ),
    "`publish_user_notification()` as the WebSocket backplane": (
        "tests/test_services_flow.py::test_both_pages_of_a_user_hear",
        "tests/test_services_flow.py::test_users_hear_only_of_their_own_essays",
        "tests/test_services_parts.py::test_accepted_is_told_before_checked",
    ),
    # Kafka
    "envelopes serialised to JSON": (
        "here::test_event_ids_come_from_content",
        "tests/test_services_parts.py::test_events_are_json_with_fixed_times",
    ),
    "every consumer wrapped with `@idempotent_consumer`": (
        "here::test_every_consumer_is_idempotent",
        "tests/test_services_flow.py::test_duplicates_have_no_second_effect",
    ),
    "producer errors handled without crashing": ("here::test_a_broker_that_is_away_does_not_crash_a_service",),
    "deterministic event ids from message content": ("here::test_event_ids_come_from_content",),
    # Database
    "`setup_database_monitoring()` in every PostgreSQL service": (
        "tests/test_services_intake.py::test_database_health_and_figures",
    ),
    "the `DatabaseHealthChecker` stored on the app for the health endpoints": (
        "here::test_the_health_checker_is_on_the_application",
        "tests/test_services_intake.py::test_database_health_and_figures",
    ),
    "`@query_performance_tracker` on critical queries": ("here::test_critical_queries_are_timed",),
    # Outbox
    "the shared `OutboxManager`": ("here::test_services_publish_through_the_shared_manager",),
    f"the `EventOutbox` columns `{COLUMNS}`": ("here::test_the_outbox_has_its_columns",),
    "`EventRelayWorker` started in the application's lifecycle": (
        "tests/test_services_intake.py::test_health_and_metrics",
        "tests/test_services_lifecycle.py::test_sigterm_stops_gracefully",
    ),
    "one session for business logic and outbox": (
        "tests/test_services_intake.py::test_a_rolled_back_essay_leaves_nothing",
    ),
    # DI
    "DI with Dishka, scope APP": ("here::test_everything_lives_as_long_as_the_service",),
    "a Redis provider that yields between `start()` and `stop()`": ("here::test_clients_live_between_start_and_stop",),
    "a Kafka provider that yields `ResilientKafkaPublisher(bus, breaker)` when `settings.CIRCUIT_BREAKER_ENABLED`, else the bus": (
        "here::test_the_publisher_is_what_the_settings_say",
    ),
    "pattern A, an `OutboxManager` provided directly from repository, Redis client and settings": (
        "here::test_everything_lives_as_long_as_the_service",
        "libs/outbox/test_di.py::test_a_container_has_the_whole_outbox",
    ),
    "pattern B, `make_async_container(CoreProvider(), ServiceProvider(), OutboxProvider())`": (
        "here::test_everything_lives_as_long_as_the_service",
    ),
    "Settings names: `SERVICE_NAME`, `REDIS_URL`, `PRODUCER_CLIENT_ID`, `KAFKA_BOOTSTRAP_SERVERS`, `CIRCUIT_BREAKER_ENABLED`": (
        "here::test_settings_have_the_common_names",
    ),
    # Observability
    "`setup_standard_service_metrics_middleware(app, service_name)`": (
        "here::test_collectors_have_the_common_labels",
        "tests/test_services_traces.py::test_metrics_of_the_services_have_templates",
    ),
    "`create_service_logger(name)` for structured JSON": (
        "here::test_no_module_has_another_logger",
        "tests/test_services_flow.py::test_correlation_and_trace_reach_every_log",
    ),
    "labels `method`, `endpoint`, `status`": ("here::test_collectors_have_the_common_labels",),
    "breaker metrics through `StandardCircuitBreakerMetrics`": ("here::test_breakers_have_their_metrics",),
    "`setup_tracing_middleware` from the module of the service's framework": (
        "tests/test_services_traces.py::test_one_request_is_one_trace",
    ),
    # Resilience
    "breakers with configurable thresholds, one registry, typed wrappers": (
        "here::test_the_publisher_is_what_the_settings_say",
        "libs/test_di.py::test_the_publisher_is_guarded_when_the_settings_say_so",
    ),
    "HTTP clients, Kafka producers and external APIs wrapped through DI": (
        "here::test_no_module_has_a_client_of_its_own",
        "here::test_the_publisher_is_what_the_settings_say",
    ),
    # Errors
    "`ErrorContext` with the `error_handling` factories": (
        "tests/test_services_intake.py::test_faulty_essays_are_refused",
        "tests/test_services_intake.py::test_wrong_tokens_are_refused",
    ),
    "correlation ids propagate by themselves": (
        "tests/test_services_flow.py::test_correlation_and_trace_reach_every_log",
        "tests/test_services_parts.py::test_failures_of_intake_have_a_body",
    ),
    # Tests
    "`AsyncMock(spec=Protocol)`, mocks at protocol level": ("here::test_doubles_have_a_specification",),
    "testcontainers (or the local servers of §4) for Redis, Kafka and PostgreSQL": (
        "libs/devstack/test_choice.py::test_addresses_from_the_environment_come_first",
        "tests/test_services_flow.py::test_an_essay_travels_stage_by_stage",
    ),
    "idempotency fails open: a message is processed when Redis is unavailable": (
        "tests/test_services_outage.py::test_sixty_of_sixty_notifications_arrive_across_an_outage_of_redis",
        "libs/idempotency/test_consumer.py::test_redis_failure_fails_open",
    ),
    # Lifecycle
    "explicit `start()`/`stop()`, through DI containers or start-up hooks": (
        "here::test_clients_live_between_start_and_stop",
        "tests/test_services_lifecycle.py::test_sigterm_stops_gracefully",
    ),
    "async resources cleaned up": (
        "here::test_clients_live_between_start_and_stop",
        "tests/test_services_flow.py::test_a_closed_page_is_forgotten",
        "tests/test_demo.py::test_nothing_is_left_after_the_web_demo",
    ),
}
"""Each rule, in the words in which it was given, and its evidence."""


# --- the evidence is there


def _path_of(evidence: str) -> str:
    path = evidence.partition("::")[0]
    if path.startswith("libs/"):
        return "libs/huleedu_service_libs/tests/" + path.removeprefix("libs/")
    return EXAMPLE + ("tests/test_rules.py" if path == "here" else path)


def _id_of(evidence: str) -> str:
    return f"{_path_of(evidence)}::{evidence.partition('::')[2]}"


@pytest.fixture(name="collected", scope="module")
def _collected() -> set[str]:
    """The tests that pytest finds in the files that are named, without their parameters."""
    files = sorted({_path_of(one) for evidence in RULES.values() for one in evidence})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *files]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)  # noqa: S603
    assert found.returncode == 0, found.stdout[-2000:] + found.stderr[-2000:]
    return {line.partition("[")[0] for line in found.stdout.splitlines() if "::" in line}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_has_evidence_that_runs(rule: str, collected: set[str]) -> None:
    """Each test that a rule names is one that pytest runs, and that nobody has marked to be skipped."""
    absent = [one for one in RULES[rule] if _id_of(one) not in collected or _is_skipped(one)]
    assert RULES[rule]
    assert not absent, f"{rule}: no such test, or a skipped one: {absent}"


def _is_skipped(evidence: str) -> bool:
    tree = ast.parse((ROOT / _path_of(evidence)).read_text(encoding="utf-8"))
    name = evidence.partition("::")[2]
    marks = [
        ast.unparse(mark)
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
        for mark in node.decorator_list
    ]
    return any("skip" in mark or "xfail" in mark for mark in marks)


# --- containers


def _settings(name: str, servers: Servers, monkeypatch: pytest.MonkeyPatch, **more: Any) -> PipelineSettings:
    monkeypatch.setenv("HULEEDU_INTERNAL_API_KEY", "secret")
    values: dict[str, Any] = {
        "REDIS_URL": servers.redis.address,
        "KAFKA_BOOTSTRAP_SERVERS": servers.kafka.address,
        "KAFKA_IDEMPOTENT_PRODUCER": servers.kafka.supports_idempotent_producer,
        "KAFKA_NAMESPACE": f"rules-{uuid4().hex[:8]}.",
    }
    return SERVICES[name][1](**values, **more)


def _container(name: str, settings: PipelineSettings) -> AsyncContainer:
    container: AsyncContainer = SERVICES[name][0].make_container(settings)
    return container


@pytest.mark.integration
@pytest.mark.parametrize("name", SERVICES)
async def test_clients_live_between_start_and_stop(
    name: str, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each service: what the container hands out has been started, and is stopped when the container is closed."""
    container = _container(name, _settings(name, servers, monkeypatch))
    redis, bus = await container.get(RedisClient), await container.get(KafkaBus)
    assert (redis._started, bus._started, await redis.ping()) == (True, True, True)
    await container.close()
    assert (redis._started, bus._started) == (False, False)


@pytest.mark.integration
@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("name", ["intake", "spellcheck"])
async def test_the_publisher_is_what_the_settings_say(
    name: str,
    enabled: bool,  # noqa: FBT001
    servers: Servers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With `CIRCUIT_BREAKER_ENABLED`, and by default, the publisher has a breaker of the one registry; without, it is the bus."""
    assert SERVICES[name][1].model_fields["CIRCUIT_BREAKER_ENABLED"].default is True
    container = _container(name, _settings(name, servers, monkeypatch, CIRCUIT_BREAKER_ENABLED=enabled))
    try:
        publisher, bus = await container.get(KafkaPublisherProtocol), await container.get(KafkaBus)
        registry = await container.get(CircuitBreakerRegistry)
        if enabled:
            assert isinstance(publisher, ResilientKafkaPublisher)
            assert publisher.delegate is bus
            assert registry.get("kafka_producer") is publisher.circuit_breaker
        else:
            assert (publisher, registry.get("kafka_producer")) == (bus, None)
    finally:
        await container.close()


@pytest.mark.integration
@pytest.mark.parametrize("name", ["intake", "spellcheck"])
async def test_everything_lives_as_long_as_the_service(
    name: str, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One object of each kind for the application, put together from the service's providers and the library's."""
    container = _container(name, _settings(name, servers, monkeypatch))
    try:
        for kind in (OutboxManager, EventRelayWorker, RedisClient, KafkaPublisherProtocol):
            assert await container.get(kind) is await container.get(kind)
        manager, relay = await container.get(OutboxManager), await container.get(EventRelayWorker)
        assert manager.outbox_repository is relay.outbox_repository
        assert manager.redis_client is await container.get(RedisClient)
        assert manager.service_name == relay.service_name == f"{name}-service"
    finally:
        await container.close()


@pytest.mark.integration
@pytest.mark.parametrize("name", ["spellcheck", "notify"])
async def test_every_consumer_is_idempotent(name: str, servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one consumer in each service that has any, and each is behind a step that claims events in Redis."""
    container = _container(name, _settings(name, servers, monkeypatch))
    try:
        consumer = await container.get(EventConsumer)
        made = [path for path in SOURCES if "EventConsumer(" in path.read_text(encoding="utf-8")]
        assert [path.name for path in made] == ["consumer.py"]
        assert "steps=[IdempotentStep(redis, once)]" in made[0].read_text(encoding="utf-8")
        assert consumer.config.group_id.endswith(f"{name}-service")
    finally:
        await container.close()


@pytest.mark.integration
async def test_an_event_is_claimed_under_its_key(pipeline: PipelineProcesses, connect: Connect, submit: Submit) -> None:
    """After an essay's way there is a completed record for each consumer and event, in Redis, under the common keys."""
    user = await connect()
    essay_id = (await submit(user)).json()["essay_id"]
    await user.wait_for("essay.checked", essay_id)
    prefix = f"{pipeline.namespace}huleedu:idempotency:v2:"
    async with RedisClient(client_id="rules", redis_url=pipeline.servers.redis.address) as redis:
        records = {key: json.loads(await redis.get(key) or "{}") for key in await redis.scan_pattern(f"{prefix}*")}
    services = {key.removeprefix(prefix).partition(":")[0] for key in records}
    assert services == {"spellcheck-service", "notify-service"}
    assert "completed" in {record["status"] for record in records.values()}


# --- behaviour


@pytest.mark.integration
async def test_event_ids_come_from_content(pipeline: PipelineProcesses, connect: Connect, submit: Submit) -> None:
    """Both records of an essay are envelopes in JSON, whose ids are derived from the essay's and from the cause's."""
    user = await connect()
    answer = (await submit(user)).json()
    await user.wait_for("essay.checked", answer["essay_id"])
    bodies = []
    for topic in pipeline.topics:
        records = await read_topic(pipeline.servers.kafka.address, topic)
        (body,) = [json.loads(each.value) for each in records if each.key == answer["essay_id"].encode()]
        bodies.append(body)
    submitted, checked = bodies
    assert submitted["event_id"] == str(uuid5(NAMESPACE_OID, f"{answer['essay_id']}:{submitted['event_type']}"))
    assert checked["event_id"] == str(uuid5(NAMESPACE_OID, f"{submitted['event_id']}:{checked['event_type']}"))
    assert answer["event_id"] == submitted["event_id"]


@pytest.mark.integration
async def test_a_broker_that_is_away_does_not_crash_a_service(
    servers: Servers, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing can be published an essay is taken, the relay goes on trying, and no attempt is counted."""
    settings = _settings("intake", servers, monkeypatch, DATABASE_URL=postgres_database)
    assert isinstance(settings, IntakeSettings)
    app = create_intake(settings)
    async with app.test_app():
        bus = await app.container.get(KafkaBus)
        assert bus.producer is not None
        monkeypatch.setattr(KafkaBus, "publish_batch", AsyncMock(side_effect=ConnectionError("no broker")))
        monkeypatch.setattr(KafkaBus, "publish", AsyncMock(side_effect=ConnectionError("no broker")))
        receipt = await app.extensions["intake"].accept(_submission())
        sessions = await app.container.get(async_sessionmaker[AsyncSession])
        async with sessions() as session:
            rows = (await session.execute(text("SELECT retry_count, published_at FROM event_outbox"))).all()
        assert rows == [(0, None)]
        assert receipt.event_id
        relay = app.relay_worker
        assert relay is not None
        assert relay.is_running


def _submission() -> Submission:
    essay = EssayRequest(title="t", language="en", text="This text is long enough for an essay.")
    return Submission(essay=essay, user_id="u", correlation_id=uuid4(), received_at=datetime.now(UTC))


@pytest.mark.integration
async def test_critical_queries_are_timed(pipeline: PipelineProcesses, connect: Connect, submit: Submit) -> None:
    """The insertion that a request waits for, and the one that keeps a result single, have series of their own."""
    user = await connect()
    await user.wait_for("essay.checked", (await submit(user)).json()["essay_id"])
    for url, name, table in (
        (pipeline.intake_url, "intake", "essays"),
        (pipeline.spellcheck_url, "spellcheck", "spellcheck_results"),
    ):
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            lines = (await http.get("/metrics")).text.splitlines()
        series = f'{name}_service_database_query_duration_seconds_count{{operation="insert",'
        values = [float(line.split()[-1]) for line in lines if line.startswith(series) and f'table="{table}"' in line]
        assert sum(values) >= 1, f"{series} table={table}"


@pytest.mark.integration
async def test_collectors_have_the_common_labels(pipeline: PipelineProcesses) -> None:
    """Requests of all three services are counted by `method`, `endpoint` and `status`."""
    for url in (pipeline.intake_url, pipeline.spellcheck_url, pipeline.notify_url):
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            await http.get("/healthz")
            lines = (await http.get("/metrics")).text.splitlines()
        counted = [line for line in lines if line.startswith("http_server_request_duration_seconds_count{")]
        assert counted
        assert all(f'{label}="' in line for line in counted for label in ("method", "endpoint", "status"))


@pytest.mark.integration
async def test_breakers_have_their_metrics(pipeline: PipelineProcesses) -> None:
    """Both services that publish tell the state of their breaker."""
    for url, name in ((pipeline.intake_url, "intake"), (pipeline.spellcheck_url, "spellcheck")):
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            lines = (await http.get("/metrics")).text.splitlines()
        assert any(line.startswith("circuit_breaker_state{") and f"{name}-service" in line for line in lines)


@pytest.mark.integration
async def test_the_outbox_has_its_columns(pipeline: PipelineProcesses) -> None:
    """The outbox of both services has these columns and no other."""
    query = "SELECT column_name::text FROM information_schema.columns WHERE table_name = 'event_outbox'"
    for name in ("intake", "spellcheck"):
        rows = await read_database(pipeline.databases[name], {"columns": query})
        assert {column for (column,) in rows["columns"]} == set(COLUMNS.split(", "))


@pytest.mark.integration
async def test_the_health_checker_is_on_the_application(
    servers: Servers, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the health endpoints, and whoever else has the application, find it: in both services with a database."""
    settings = _settings("intake", servers, monkeypatch, DATABASE_URL=postgres_database)
    assert isinstance(settings, IntakeSettings)
    app = create_intake(settings)
    async with app.test_app():
        assert (await app.extensions["health_checker"].get_health_summary()) is not None
    more = _settings("spellcheck", servers, monkeypatch, DATABASE_URL=postgres_database)
    assert isinstance(more, SpellcheckSettings)
    other = create_spellcheck(more)
    async with other.router.lifespan_context(other):
        assert other.state.health_checker is not None


async def test_services_publish_through_the_shared_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event goes to `OutboxManager`, in the very session that has the essay; no service writes the table itself."""
    monkeypatch.setenv("HULEEDU_INTERNAL_API_KEY", "secret")
    manager, session = AsyncMock(spec=OutboxManager), AsyncMock(spec=AsyncSession)

    @asynccontextmanager
    async def begin() -> AsyncIterator[AsyncSession]:
        yield session

    sessions = Mock(spec=async_sessionmaker, begin=begin)
    receipt = await EssayIntake(sessions, manager, IntakeSettings()).accept(_submission())
    ((essay,), _) = session.add.call_args
    (published,) = manager.publish_to_outbox.await_args_list
    assert essay.id == receipt.essay_id
    assert published.kwargs["session"] is session
    assert published.kwargs["event_data"].event_id == receipt.event_id
    assert [path.name for path in SOURCES if "EventOutbox(" in path.read_text(encoding="utf-8")] == []


# --- what no module does


@pytest.mark.parametrize("name", SERVICES)
def test_settings_have_the_common_names(name: str) -> None:
    """Whoever reads the settings of one service knows those of all; only who publishes names a producer."""
    names = {"SERVICE_NAME", "REDIS_URL", "KAFKA_BOOTSTRAP_SERVERS", "CIRCUIT_BREAKER_ENABLED"}
    assert names | ({"PRODUCER_CLIENT_ID"} if name != "notify" else set()) <= set(SERVICES[name][1].model_fields)


def test_no_module_has_another_logger() -> None:
    """Loggers come from `create_service_logger`; the standard library's are only given a level or handed to a server."""
    made = [line.strip() for path in SOURCES for line in _lines(path) if "getLogger(" in line]
    assert len(made) == 2, made
    assert all("TID251" in line for line in made), "each says why it is needed"
    services = [path for path in SOURCES if path.parent.name in SERVICES and path.name in {"app.py", "service.py"}]
    assert len(services) == 6
    assert all("create_service_logger(" in path.read_text(encoding="utf-8") for path in services)


def test_no_module_has_a_client_of_its_own() -> None:
    """Services make neither producer nor Redis nor HTTP client: all they have come from the container."""
    own = [path for path in SOURCES if "demo" not in path.parts]
    clients = ("KafkaBus(", "AIOKafka", "RedisClient(", "Redis.from_url", "httpx.", "aiohttp.", "CircuitBreaker(")
    assert [(path.name, one) for path in own for one in clients if one in path.read_text(encoding="utf-8")] == []


def test_doubles_have_a_specification() -> None:
    """Every double of the example's tests that stands for something is made from a class."""
    for path in sorted((ROOT / EXAMPLE / "tests").glob("test_*.py")):
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        for call in (each for each in calls if ast.unparse(each.func) in {"AsyncMock", "Mock", "MagicMock"}):
            words = {keyword.arg for keyword in call.keywords}
            # A bare one is a function, such as `confirm_idempotency`: it has nothing but its being called.
            assert "spec" in words or not words - {"side_effect", "return_value"}, f"{path.name}: {ast.unparse(call)}"


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()
