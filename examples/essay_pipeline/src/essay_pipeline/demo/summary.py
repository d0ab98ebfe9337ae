"""The last words of a run: what was verified and how long it took."""

import math
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from essay_pipeline.demo.driver import Outcome

__all__ = ["percentile", "summary_lines"]

_STAGES = (
    ("stored_at", "stored; commit and relay"),
    ("relayed_at", "in Kafka; fetched by spellcheck"),
    ("checking_at", "checked against the dictionary"),
    ("checked_at", "result written"),
    ("result_stored_at", "commit and relay of the result"),
    ("result_relayed_at", "in Kafka; fetched by notify"),
    ("notified_at", "Redis, WebSocket, browser"),
    ("browser_at", ""),
)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of ``values`` that at least ``share`` (0 to 1) of them do not exceed; NaN for none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def summary_lines(outcome: Outcome, faults: Sequence[str]) -> list[str]:
    """What to print: the verdict, then the figures."""
    return [*_verdict(outcome, faults), "", *_figures(outcome)]


def _verdict(outcome: Outcome, faults: Sequence[str]) -> list[str]:
    if faults:
        return ["FAILED: what was read back breaks a promise", *(f"  - {fault}" for fault in faults)]
    evidence, counts = outcome.evidence, outcome.counts
    slips = sum(len(essay.slips) for essay in evidence.submitted.values())
    messages = sum(map(len, evidence.notifications.values()))
    records = len(evidence.submitted_events) + len(evidence.checked_events)
    return [
        "VERIFIED, read back from Kafka, PostgreSQL and the WebSocket clients:",
        f"  {len(evidence.submitted)} essays accepted, each checked exactly once",
        f"  {len(evidence.rolled_back)} transactions rolled back: nothing of them in PostgreSQL, in Kafka or in a browser",
        f"  {counts.replayed} delivered messages sent again ({records} records in Kafka): none had a second effect",
        f"  {messages} notifications to {len(evidence.notifications)} users: each to its own user, accepted before checked",
        f"  {slips} planted misspellings, all marked",
    ]


def _figures(outcome: Outcome) -> list[str]:
    whole = _durations(outcome.stages, "stored_at", "browser_at")
    rate = outcome.counts.checked / outcome.seconds if outcome.seconds > 0 else 0.0
    headline = (
        f"throughput {rate:.1f} essays/s; from commit to browser p50 {percentile(whole, 0.5):.0f} ms, "
        f"p99 {percentile(whole, 0.99):.0f} ms"
    )
    lines = [
        headline,
        "  of which, in ms (Kafka's own times are whole milliseconds):        p50     p99",
    ]
    for (begin, name), (end, _) in pairwise(_STAGES):
        taken = _durations(outcome.stages, begin, end)
        lines.append(f"    {name:<58} {percentile(taken, 0.5):9.1f} {percentile(taken, 0.99):7.1f}")
    return lines


def _durations(stages: Sequence[dict[str, datetime]], begin: str, end: str) -> list[float]:
    """Milliseconds; what the cut to whole milliseconds would make negative counts as nothing."""
    return [max(0.0, (each[end] - each[begin]).total_seconds() * 1e3) for each in stages]
