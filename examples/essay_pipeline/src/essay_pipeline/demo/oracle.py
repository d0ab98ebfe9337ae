"""What must hold after a run, judged from what was read back. Pure.

`readback` and `driver` gather the evidence, `__main__` prints the verdict. An
oracle that cannot fail proves nothing: the tests feed this one lost, doubled,
leaked, reordered and resurrected essays.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from essay_pipeline.contracts import ACCEPTED_NOTIFICATION, CHECKED_NOTIFICATION

__all__ = ["Evidence", "KafkaEvent", "Notification", "Submitted", "find_faults"]

_MOST_NAMED = 3  # ids that one fault names


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """One essay that *intake* accepted.

    Attributes:
        user_id: Whose it is.
        slips: Index and text of every misspelling that was put into it.
    """

    user_id: str
    slips: frozenset[tuple[int, str]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaEvent:
    """One record that was read back."""

    event_id: str
    essay_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One message that a WebSocket client received.

    Attributes:
        event: ``essay.accepted`` or ``essay.checked``.
        essay_id: What it is about.
        misspellings: Index and text of what was marked.
    """

    event: str
    essay_id: str
    misspellings: frozenset[tuple[int, str]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that a run left behind.

    Attributes:
        planned: Essays that were to be accepted.
        submitted: Accepted essays by id.
        rolled_back: Ids of essays whose transaction was rolled back.
        submitted_events: All records of the first topic.
        checked_events: All records of the second topic.
        replayed: How often each event id was sent again on purpose.
        stored_essays: Ids in the database of *intake*.
        runs: Runs of the check by essay, from the database of *spellcheck*.
        results: Ids with a result there.
        unpublished: Outbox rows that were not published, by service.
        notifications: What each user received, in order.
    """

    planned: int
    submitted: Mapping[str, Submitted]
    rolled_back: frozenset[str] = frozenset()
    submitted_events: Sequence[KafkaEvent] = ()
    checked_events: Sequence[KafkaEvent] = ()
    replayed: Mapping[str, int] = field(default_factory=dict)
    stored_essays: frozenset[str] = frozenset()
    runs: Mapping[str, int] = field(default_factory=dict)
    results: frozenset[str] = frozenset()
    unpublished: Mapping[str, int] = field(default_factory=dict)
    notifications: Mapping[str, Sequence[Notification]] = field(default_factory=dict)


def find_faults(evidence: Evidence) -> list[str]:
    """Every way in which the evidence breaks a promise; empty when all hold."""
    return [
        *_sent(evidence),
        *_replayed(evidence),
        *_same_essays("intake's database", evidence.stored_essays, evidence),
        *_same_essays("spellcheck's results", evidence.results, evidence),
        *_events("the topic of submitted essays", evidence.submitted_events, evidence),
        *_events("the topic of checked essays", evidence.checked_events, evidence),
        *_runs(evidence),
        *_outboxes(evidence),
        *_notifications(evidence),
    ]


def _sent(evidence: Evidence) -> Iterator[str]:
    accepted = len(evidence.submitted)
    if accepted != evidence.planned:
        yield f"{accepted} of {evidence.planned} essays were accepted"


def _replayed(evidence: Evidence) -> Iterator[str]:
    if not sum(evidence.replayed.values()):
        yield "no delivered message was sent again: nothing is known of duplicates"


def _same_essays(place: str, found: frozenset[str], evidence: Evidence) -> Iterator[str]:
    expected = evidence.submitted.keys()
    yield from _fault(f"lost: not in {place}", expected - found)
    yield from _fault(f"rolled back, yet in {place}", found & evidence.rolled_back)
    yield from _fault(f"unknown essay in {place}", found - expected - evidence.rolled_back)


def _events(place: str, events: Sequence[KafkaEvent], evidence: Evidence) -> Iterator[str]:
    yield from _same_essays(place, frozenset(event.essay_id for event in events), evidence)
    ids: dict[str, set[str]] = {}
    for event in events:
        ids.setdefault(event.essay_id, set()).add(event.event_id)
    yield from _fault(f"more than one event in {place}", {essay for essay, found in ids.items() if len(found) > 1})
    copies = Counter(event.event_id for event in events)
    doubled = {event for event, count in copies.items() if count > 1 + evidence.replayed.get(event, 0)}
    yield from _fault(f"published twice in {place}", doubled)


def _runs(evidence: Evidence) -> Iterator[str]:
    expected = evidence.submitted.keys()
    yield from _fault("never checked", expected - evidence.runs.keys())
    yield from _fault("checked more than once", {essay for essay, count in evidence.runs.items() if count > 1})
    yield from _fault("rolled back, yet checked", evidence.runs.keys() & evidence.rolled_back)


def _outboxes(evidence: Evidence) -> Iterator[str]:
    for service, count in evidence.unpublished.items():
        if count:
            yield f"{count} events still unpublished in the outbox of {service}"


def _notifications(evidence: Evidence) -> Iterator[str]:
    told: Counter[tuple[str, str]] = Counter()
    for user_id, received in evidence.notifications.items():
        yield from _of_one_user(user_id, received, evidence)
        told.update((each.event, each.essay_id) for each in received)
    for event in (ACCEPTED_NOTIFICATION, CHECKED_NOTIFICATION):
        yield from _fault(f"{event} never received", {e for e in evidence.submitted if not told[event, e]})
        yield from _fault(f"{event} received more than once", {e for e in evidence.submitted if told[event, e] > 1})


def _of_one_user(user_id: str, received: Sequence[Notification], evidence: Evidence) -> Iterator[str]:
    accepted: set[str] = set()
    for each in received:
        essay = evidence.submitted.get(each.essay_id)
        if essay is None:
            yield f"{user_id} was told of an essay that was never accepted: {each.essay_id}"
        elif essay.user_id != user_id:
            yield f"leaked: {user_id} was told of {each.essay_id}, which belongs to {essay.user_id}"
        elif each.event == ACCEPTED_NOTIFICATION:
            accepted.add(each.essay_id)
        elif each.essay_id not in accepted:
            yield f"out of order: {each.essay_id} was checked before it was accepted"
        elif not essay.slips <= each.misspellings:
            missed = sorted(word for _, word in essay.slips - each.misspellings)
            yield f"not marked in {each.essay_id}: {', '.join(missed)}"


def _fault(problem: str, ids: set[str] | frozenset[str]) -> Iterator[str]:
    if ids:
        named = ", ".join(sorted(ids)[:_MOST_NAMED])
        yield f"{problem}: {len(ids)} ({named}{', ...' if len(ids) > _MOST_NAMED else ''})"
