"""Circuit breakers and what waits for Kafka."""

from dashboards.panels import JOB, Dashboard, Panel, rate

__all__ = ["BREAKERS"]

_BREAKER = {0: ("closed", "green"), 1: ("open", "red"), 2: ("half-open", "yellow")}

BREAKERS = Dashboard(
    uid="huleedu-breakers",
    title="HuleEdu circuit breakers",
    anchor="circuit_breaker_state",
    panels=[
        Panel(
            title="State",
            help="Open: calls are refused while what is behind it recovers. The console shows why, and can reset it.",
            queries={
                "{{service}} {{circuit_name}}": f"max by (service, circuit_name) (circuit_breaker_state{{{JOB}}})"
            },
            kind="state-timeline",
            states=_BREAKER,
        ),
        Panel(
            title="Calls by result",
            help="blocked: refused without being tried.",
            queries={
                "{{circuit_name}} {{result}}": rate("circuit_breaker_calls_total", "service, circuit_name, result")
            },
            unit="ops",
        ),
        Panel(
            title="Changes of state",
            help="Many: it flaps; give it a longer open time, or look for a dependency that fails for a part of its calls.",
            queries={
                "{{circuit_name}} to {{to_state}}": "sum by (circuit_name, to_state) "
                f"(increase(circuit_breaker_state_changes_total{{{JOB}}}[5m]))"
            },
        ),
        Panel(
            title="Messages that wait for Kafka",
            help="What became of messages of resilient publishers. dropped and unsent are lost: give the publisher a journal.",
            queries={"{{client_id}} {{fate}}": rate("huleedu_kafka_fallback_messages_total", "client_id, fate")},
            unit="ops",
        ),
        Panel(
            title="Producers replaced",
            help="After an error that leaves a gap in sequence numbers.",
            queries={
                "{{client_id}} {{reason}}": rate("huleedu_kafka_client_producer_rebuilds_total", "client_id, reason")
            },
            unit="ops",
        ),
        Panel(
            title="Reports that a metric did not take",
            help="A collector of the service does not fit: see the log.",
            queries={"{{circuit_name}}": rate("huleedu_resilience_metric_errors_total", "circuit_name")},
            unit="ops",
        ),
    ],
)
