"""Consumers, idempotency and the inbox."""

from dashboards.panels import JOB, Dashboard, Panel, quantile, rate

__all__ = ["CONSUMERS"]

CONSUMERS = Dashboard(
    uid="huleedu-consumers",
    title="HuleEdu consumers",
    anchor="huleedu_consumer_in_flight",
    panels=[
        Panel(
            title="Lag",
            help="Records that are not finished, read or not. It grows while handlers are too slow, or one record is in the way.",
            queries={"{{group}} {{topic}}": f"sum by (group, topic) (huleedu_consumer_lag_records{{{JOB}}})"},
        ),
        Panel(
            title="Stuck partitions",
            help="One record holds up each of them: /healthz/details names record, attempts and last error.",
            queries={"{{group}}": f"sum by (group) (huleedu_consumer_stuck_partitions{{{JOB}}})"},
        ),
        Panel(
            title="Records by outcome",
            help="dead_letter: read them in the dead-letter topic, mend the cause, redrive.",
            queries={"{{group}} {{outcome}}": rate("huleedu_consumer_records_total", "group, outcome")},
            unit="ops",
        ),
        Panel(
            title="Runs that failed",
            help="outage and store_down are not the event's fault and are tried for ever.",
            queries={
                "{{group}} {{event_type}} {{kind}}": rate("huleedu_consumer_failures_total", "group, event_type, kind")
            },
            unit="ops",
        ),
        Panel(
            title="Time of handlers, p99",
            help="By event type.",
            queries={
                "{{group}} {{event_type}}": quantile(0.99, "huleedu_consumer_handler_seconds", "group, event_type")
            },
            unit="s",
        ),
        Panel(
            title="In hand",
            help="Handlers running and records taken from Kafka. Paused: back-pressure, the handlers do not keep up.",
            queries={
                "{{group}} running": f"sum by (group) (huleedu_consumer_in_flight{{{JOB}}})",
                "{{group}} buffered": f"sum by (group) (huleedu_consumer_buffered_records{{{JOB}}})",
                "{{group}} paused": f"sum by (group) (huleedu_consumer_paused_partitions{{{JOB}}})",
            },
        ),
        Panel(
            title="Between consumer and Kafka",
            help="Errors that were survived.",
            queries={"{{group}} {{operation}}": rate("huleedu_consumer_swallowed_errors_total", "group, operation")},
            unit="ops",
        ),
        Panel(
            title="What idempotency made of deliveries",
            help="Duplicates are normal after a rebalance.",
            queries={"{{service}} {{outcome}}": rate("idempotency_events_total", "service, outcome")},
            unit="ops",
        ),
        Panel(
            title="Processed without protection",
            help="Redis was away and the handler is open: a duplicate has a second effect. Use store_down or the inbox where that matters.",
            queries={"{{service}} {{reason}}": rate("idempotency_fail_open_total", "service, reason")},
            unit="ops",
        ),
        Panel(
            title="The memory of processed events",
            help="Conditions of Redis that endanger it; the log says what to set.",
            queries={"{{service}} {{kind}}": f"max by (service, kind) (idempotency_store_condition{{{JOB}}})"},
        ),
        Panel(
            title="What has happened to it",
            help="Restarts, losses, evictions: events from before may run again when they are redelivered.",
            queries={
                "{{service}} {{kind}}": f"sum by (service, kind) (increase(idempotency_store_incidents_total{{{JOB}}}[1h]))"
            },
        ),
        Panel(
            title="Inbox",
            help="What the inbox made of deliveries.",
            queries={"{{consumer}} {{outcome}}": rate("inbox_events_total", "consumer, outcome")},
            unit="ops",
        ),
    ],
)
