"""The rules for a service on this library, in full, and for each what shows that the example follows it.

``tests/`` stands for the tests of the example, ``libs/`` for those of the library: where a rule is about what a part
of it does, the test of that part. Every test that is named is one that pytest runs.
"""

import ast
import subprocess
import sys

import pytest

from .example import COLUMNS, EXAMPLE, ROOT

RULES: dict[str, tuple[str, ...]] = {
    # Redis
    "`start()` before use, `stop()` on shutdown": (
        "tests/test_rules_containers.py::test_clients_live_between_start_and_stop",
        "tests/test_services_lifecycle.py::test_sigterm_stops_gracefully",
    ),
    "`set_if_not_exists()` for idempotency keys": (
        "tests/test_rules_running.py::test_an_event_is_claimed_under_its_key",
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
        "tests/test_rules_running.py::test_event_ids_come_from_content",
        "tests/test_services_parts.py::test_events_are_json_with_fixed_times",
    ),
    "every consumer wrapped with `@idempotent_consumer`": (
        "tests/test_rules_containers.py::test_every_consumer_is_idempotent",
        "tests/test_services_flow.py::test_duplicates_have_no_second_effect",
    ),
    "producer errors handled without crashing": (
        "tests/test_rules_intake.py::test_a_broker_that_is_away_does_not_crash_a_service",
    ),
    "deterministic event ids from message content": ("tests/test_rules_running.py::test_event_ids_come_from_content",),
    # Database
    "`setup_database_monitoring()` in every PostgreSQL service": (
        "tests/test_services_intake.py::test_database_health_and_figures",
    ),
    "the `DatabaseHealthChecker` stored on the app for the health endpoints": (
        "tests/test_rules_intake.py::test_the_health_checker_is_on_the_application",
        "tests/test_services_intake.py::test_database_health_and_figures",
    ),
    "`@query_performance_tracker` on critical queries": (
        "tests/test_rules_running.py::test_critical_queries_are_timed",
    ),
    # Outbox
    "the shared `OutboxManager`": ("tests/test_rules_intake.py::test_services_publish_through_the_shared_manager",),
    f"the `EventOutbox` columns `{COLUMNS}`": ("tests/test_rules_running.py::test_the_outbox_has_its_columns",),
    "`EventRelayWorker` started in the application's lifecycle": (
        "tests/test_services_intake.py::test_health_and_metrics",
        "tests/test_services_lifecycle.py::test_sigterm_stops_gracefully",
    ),
    "one session for business logic and outbox": (
        "tests/test_services_intake.py::test_a_rolled_back_essay_leaves_nothing",
    ),
    # DI
    "DI with Dishka, scope APP": ("tests/test_rules_containers.py::test_everything_lives_as_long_as_the_service",),
    "a Redis provider that yields between `start()` and `stop()`": (
        "tests/test_rules_containers.py::test_clients_live_between_start_and_stop",
    ),
    "a Kafka provider that yields `ResilientKafkaPublisher(bus, breaker)` when `settings.CIRCUIT_BREAKER_ENABLED`, else the bus": (
        "tests/test_rules_containers.py::test_the_publisher_is_what_the_settings_say",
    ),
    "pattern A, an `OutboxManager` provided directly from repository, Redis client and settings": (
        "tests/test_rules_containers.py::test_everything_lives_as_long_as_the_service",
        "libs/outbox/test_di.py::test_a_container_has_the_whole_outbox",
    ),
    "pattern B, `make_async_container(CoreProvider(), ServiceProvider(), OutboxProvider())`": (
        "tests/test_rules_containers.py::test_everything_lives_as_long_as_the_service",
    ),
    "Settings names: `SERVICE_NAME`, `REDIS_URL`, `PRODUCER_CLIENT_ID`, `KAFKA_BOOTSTRAP_SERVERS`, `CIRCUIT_BREAKER_ENABLED`": (
        "tests/test_rules_sources.py::test_settings_have_the_common_names",
    ),
    # Observability
    "`setup_standard_service_metrics_middleware(app, service_name)`": (
        "tests/test_rules_running.py::test_collectors_have_the_common_labels",
        "tests/test_services_traces.py::test_metrics_of_the_services_have_templates",
    ),
    "`create_service_logger(name)` for structured JSON": (
        "tests/test_rules_sources.py::test_no_module_has_another_logger",
        "tests/test_services_flow.py::test_correlation_and_trace_reach_every_log",
    ),
    "labels `method`, `endpoint`, `status`": ("tests/test_rules_running.py::test_collectors_have_the_common_labels",),
    "breaker metrics through `StandardCircuitBreakerMetrics`": (
        "tests/test_rules_running.py::test_breakers_have_their_metrics",
    ),
    "`setup_tracing_middleware` from the module of the service's framework": (
        "tests/test_services_traces.py::test_one_request_is_one_trace",
    ),
    # Resilience
    "breakers with configurable thresholds, one registry, typed wrappers": (
        "tests/test_rules_containers.py::test_the_publisher_is_what_the_settings_say",
        "libs/test_di.py::test_the_publisher_is_guarded_when_the_settings_say_so",
    ),
    "HTTP clients, Kafka producers and external APIs wrapped through DI": (
        "tests/test_rules_sources.py::test_no_module_has_a_client_of_its_own",
        "tests/test_rules_containers.py::test_the_publisher_is_what_the_settings_say",
    ),
    # Errors
    "`ErrorContext` with the `error_handling` factories": (
        "tests/test_rules_sources.py::test_errors_have_their_context",
        "tests/test_services_intake.py::test_faulty_essays_are_refused",
        "tests/test_services_intake.py::test_wrong_tokens_are_refused",
    ),
    "correlation ids propagate by themselves": (
        "tests/test_services_flow.py::test_correlation_and_trace_reach_every_log",
        "tests/test_services_parts.py::test_failures_of_intake_have_a_body",
    ),
    # Tests
    "`AsyncMock(spec=Protocol)`, mocks at protocol level": (
        "tests/test_rules_sources.py::test_doubles_have_a_specification",
    ),
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
        "tests/test_rules_containers.py::test_clients_live_between_start_and_stop",
        "tests/test_services_lifecycle.py::test_sigterm_stops_gracefully",
    ),
    "async resources cleaned up": (
        "tests/test_rules_containers.py::test_clients_live_between_start_and_stop",
        "tests/test_services_flow.py::test_a_closed_page_is_forgotten",
        "tests/test_demo.py::test_nothing_is_left_after_the_web_demo",
    ),
}
"""Each rule, in the words in which it was given, and its evidence."""


def _path_of(evidence: str) -> str:
    path = evidence.partition("::")[0]
    if path.startswith("libs/"):
        return "libs/huleedu_service_libs/tests/" + path.removeprefix("libs/")
    return EXAMPLE + path


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
