"""The last words of a run: what was verified and how long it took."""

import math
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from essay_pipeline.demo.driver import Outcome
from huleedu_service_libs.testing.devstack import KafkaServer, Kind, Server

__all__ = ["counted", "percentile", "summary_lines"]

_TITLES = {"postgres": "PostgreSQL", "redis": "Redis", "kafka": "Kafka"}

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


def summary_lines(outcome: Outcome, faults: Sequence[str], servers: Sequence[Server]) -> list[str]:
    """What to print: the verdict, the figures, and what it ran on."""
    return [*_verdict(outcome, faults, servers), "", *_figures(outcome), "", *_ground(servers)]


def counted(number: int, noun: str) -> str:
    """``1 essay``, ``2 essays``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _ground(servers: Sequence[Server]) -> list[str]:
    """What it ran on, and what was not tried because a server is a lesser one, and why."""
    ran = "; ".join(_named(server) for server in servers)
    skipped = [
        f"idempotent Kafka producers, since {server.label} serves none ({server.note})"
        for server in servers
        if isinstance(server, KafkaServer) and not server.supports_idempotent_producer
    ]
    return [f"ran on {ran}", f"skipped: {'; '.join(skipped) or 'nothing'}"]


def _named(server: Server) -> str:
    place = f"{server.where}, " if server.kind is Kind.ADDRESS else ""
    return f"{_TITLES.get(server.name, server.name)}: {place}{server.label}"


def _verdict(outcome: Outcome, faults: Sequence[str], servers: Sequence[Server]) -> list[str]:
    if faults:
        return ["FAILED: what was read back breaks a promise", *(f"  - {fault}" for fault in faults)]
    evidence, counts = outcome.evidence, outcome.counts
    slips = sum(len(essay.slips) for essay in evidence.submitted.values())
    messages = sum(map(len, evidence.notifications.values()))
    records = len(evidence.submitted_events) + len(evidence.checked_events)
    broker = "; ".join(_named(server) for server in servers if isinstance(server, KafkaServer))
    rolled_back = counted(len(evidence.rolled_back), "transaction")
    again = counted(counts.replayed, "delivered message")
    users = counted(len(evidence.notifications), "user")
    return [
        f"VERIFIED on {broker}; read back from Kafka, PostgreSQL and the WebSocket clients:",
        f"  {counted(len(evidence.submitted), 'essay')} accepted, each checked exactly once",
        f"  {rolled_back} rolled back: nothing left in PostgreSQL, in Kafka or in a browser",
        f"  {again} sent again ({counted(records, 'record')} in Kafka): none had a second effect",
        f"  {counted(messages, 'notification')} to {users}: each to its own user, accepted before checked",
        f"  {counted(slips, 'planted misspelling')}, all marked",
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
