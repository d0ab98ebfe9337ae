"""The outbox and its relays."""

from dashboards.panels import JOB, Dashboard, Panel, quantile, rate

__all__ = ["OUTBOX"]

OUTBOX = Dashboard(
    uid="huleedu-outbox",
    title="HuleEdu outbox",
    anchor="outbox_relays",
    panels=[
        Panel(
            title="Oldest event that waits",
            help="The one figure: it grows when nothing leaves. Then look at relays, held topics and errors, in this order.",
            queries={"{{service}}": f"max by (service) (outbox_oldest_unpublished_age_seconds{{{JOB}}})"},
            unit="s",
        ),
        Panel(
            title="Events",
            help="Added to the table and acknowledged by the broker.",
            queries={
                "{{service}} added": rate("outbox_events_added_total", "service"),
                "{{service}} published": rate("outbox_events_published_total", "service"),
            },
            unit="ops",
        ),
        Panel(
            title="From addition to acknowledgement",
            help="By the database's clock.",
            queries={
                "{{service}} p50": quantile(0.5, "outbox_acknowledged_after_seconds", "service"),
                "{{service}} p99": quantile(0.99, "outbox_acknowledged_after_seconds", "service"),
            },
            unit="s",
        ),
        Panel(
            title="Parked events",
            help="Given up after their last attempt. List them with their cause: huleedu outbox parked; then redrive them.",
            queries={"{{service}}": f"max by (service) (outbox_parked_events{{{JOB}}})"},
            kind="stat",
        ),
        Panel(
            title="Relays and lanes",
            help="Relays that share the lanes, and how many of the 64 lanes have an owner. Fewer: keys wait.",
            queries={
                "{{service}} relays": f"max by (service) (outbox_relays{{{JOB}}})",
                "{{service}} lanes": f"max by (service) (outbox_lanes_owned{{{JOB}}})",
            },
        ),
        Panel(
            title="Topics out of reach",
            help="The relay holds their events back and tries again; the other topics go on. Look at the broker.",
            queries={"{{service}}": f"max by (service) (outbox_held_topics{{{JOB}}})"},
        ),
        Panel(
            title="Failed attempts",
            help="For reasons of the event itself, and those that were the last.",
            queries={
                "{{service}} failed": rate("outbox_attempts_failed_total", "service"),
                "{{service}} parked": rate("outbox_events_failed_total", "service"),
            },
            unit="ops",
        ),
        Panel(
            title="Errors of the relay",
            help="Survived; see outbox_relay in the log.",
            queries={"{{service}} {{error_type}}": rate("outbox_relay_errors_total", "service, error_type")},
            unit="ops",
        ),
        Panel(
            title="Time of a batch, p95",
            help="From reading it to storing its result.",
            queries={"{{service}}": quantile(0.95, "outbox_relay_processing_seconds", "service")},
            unit="s",
        ),
        Panel(
            title="Events of a batch, p50",
            help="At batch_size all the time: the relay is at its limit, or catching up.",
            queries={"{{service}}": quantile(0.5, "outbox_batch_size", "service")},
        ),
        Panel(
            title="Held back by a writer",
            help="Strict order: a transaction that has written and still runs. huleedu outbox status names it.",
            queries={"{{service}}": f"max by (service) (outbox_held_by_writer_seconds{{{JOB}}})"},
            unit="s",
        ),
        Panel(
            title="Purged and redriven",
            help="Rows deleted after their retention; parked events that were given new attempts.",
            queries={
                "{{service}} purged": rate("outbox_events_purged_total", "service"),
                "{{service}} redriven": rate("outbox_events_redriven_total", "service"),
            },
            unit="ops",
        ),
    ],
)
