"""The demo's oracle: every broken promise is found and named, and the verdict is the exit code."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from essay_pipeline.demo import __main__ as demo
from essay_pipeline.demo.display import PlainDisplay
from essay_pipeline.demo.driver import Driver, Outcome, Plan
from essay_pipeline.demo.oracle import Evidence, KafkaEvent, Notification, find_faults
from essay_pipeline.demo.processes import PipelineProcesses, Servers
from huleedu_service_libs.testing.devstack import Kind, RedisServer

from .evidence import KAFKA, POSTGRES, good, notified, outcome


def test_a_good_run_has_no_faults() -> None:
    """Evidence in which every promise holds gives no fault."""
    assert find_faults(good()) == []


def _more_events(topic: str, *events: KafkaEvent) -> Callable[[Evidence], Evidence]:
    return lambda evidence: replace(evidence, **cast("Any", {topic: [*getattr(evidence, topic), *events]}))


def _without_events(topic: str, essay_id: str) -> Callable[[Evidence], Evidence]:
    return lambda evidence: replace(
        evidence, **cast("Any", {topic: [each for each in getattr(evidence, topic) if each.essay_id != essay_id]})
    )


def _told(user: str, *notifications: Notification) -> Callable[[Evidence], Evidence]:
    return lambda evidence: replace(evidence, notifications={**evidence.notifications, user: notifications})


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda e: replace(e, planned=4), "3 of 4 essays were accepted"),
        (lambda e: replace(e, replayed={}), "no delivered message was sent again: nothing is known of duplicates"),
        (lambda e: replace(e, stored_essays=e.stored_essays - {"e2"}), "lost: not in intake's database: 1 (e2)"),
        (lambda e: replace(e, results=e.results - {"e2"}), "lost: not in spellcheck's results: 1 (e2)"),
        (_without_events("submitted_events", "e2"), "lost: not in the topic of submitted essays: 1 (e2)"),
        (_without_events("checked_events", "e2"), "lost: not in the topic of checked essays: 1 (e2)"),
        (
            _more_events("submitted_events", KafkaEvent(event_id="s-e2", essay_id="e2")),
            "published twice in the topic of submitted essays: 1 (s-e2)",
        ),
        (
            _more_events("submitted_events", KafkaEvent(event_id="s-e1", essay_id="e1")),
            "published twice in the topic of submitted essays: 1 (s-e1)",
        ),
        (
            _more_events("checked_events", KafkaEvent(event_id="c-new", essay_id="e2")),
            "more than one event in the topic of checked essays: 1 (e2)",
        ),
        (
            _more_events("submitted_events", KafkaEvent(event_id="s-gone", essay_id="gone")),
            "rolled back, yet in the topic of submitted essays: 1 (gone)",
        ),
        (
            _more_events("checked_events", KafkaEvent(event_id="x", essay_id="stranger")),
            "unknown essay in the topic of checked essays: 1 (stranger)",
        ),
        (
            lambda e: replace(e, stored_essays=e.stored_essays | {"gone"}),
            "rolled back, yet in intake's database: 1 (gone)",
        ),
        (lambda e: replace(e, runs={**e.runs, "gone": 1}), "rolled back, yet checked: 1 (gone)"),
        (lambda e: replace(e, runs={**e.runs, "e2": 2}), "checked more than once: 1 (e2)"),
        (lambda e: replace(e, runs={"e1": 1, "e3": 1}), "never checked: 1 (e2)"),
        (lambda e: replace(e, unpublished={"intake": 2}), "2 events still unpublished in the outbox of intake"),
        (_told("bo"), "essay.checked never received: 1 (e2)"),
        (_told("bo", *notified("e2"), *notified("e2")), "essay.checked received more than once: 1 (e2)"),
        (_told("bo", *reversed(notified("e2"))), "out of order: e2 was checked before it was accepted"),
        (_told("bo", *notified("e2"), *notified("e3")), "leaked: bo was told of e3, which belongs to anna"),
        (_told("eve", *notified("e2")), "leaked: eve was told of e2, which belongs to bo"),
        (_told("bo", *notified("e2"), *notified("gone")), "bo was told of an essay that was never accepted: gone"),
        (_told("anna", *notified("e1"), *notified("e3")), "not marked in e1: freind"),
    ],
)
def test_every_broken_promise_is_a_fault(spoil: Callable[[Evidence], Evidence], fault: str) -> None:
    """Lost, doubled, leaked, reordered, resurrected or unmarked: each is named, with the ids."""
    assert fault in find_faults(spoil(good()))


class _NoServices:
    """A pipeline for the judge, which here asks it for logs and servers only."""

    services: dict[str, Any] = {}  # noqa: RUF012  # never changed
    servers = Servers(
        postgres=POSTGRES,
        redis=RedisServer(name="redis", kind=Kind.LOCAL, address="redis://h", label="valkey"),
        kafka=KAFKA,
    )


@pytest.mark.parametrize(("evidence", "code"), [(good(), 0), (replace(good(), runs={}), demo.BROKEN_PROMISE)])
def test_the_exit_code_is_the_verdict(monkeypatch: pytest.MonkeyPatch, evidence: Evidence, code: int) -> None:
    """0 when all promises hold, 1 when one is broken."""

    async def run(_: Driver) -> Outcome:
        return outcome(evidence)

    monkeypatch.setattr(Driver, "run", run)
    plan = Plan(essays=3, users=2, rollbacks=1, replays=1)

    assert demo._judge(cast("PipelineProcesses", _NoServices()), plan, PlainDisplay()) == code
