"""The names of the crash points, and what a hit of each needs."""

__all__ = ["AT_SIGTERM", "CONSUMER_POINTS", "FROZEN", "PRODUCER_POINTS", "RELAY_POINTS", "hits_of"]

INSERT_BEFORE_COMMIT = "producer: outbox insert before commit"

CLAIMED = "relay: after claim, before send"
MID_SEND = "relay: mid-send"
SENT_BEFORE_ACK = "relay: after send, before ack"
ACKED_BEFORE_MARK = "relay: after ack, before mark"
MID_MARK = "relay: mid-mark"
MARKED = "relay: after mark"
RELAY_DRAIN = "relay: during drain"
RELAY_FROZEN = "relay: frozen with its batch, session lost"

EVENT_CLAIMED = "consumer: after claim, before handler"
HANDLED_BEFORE_COMMIT = "consumer: after handler, before commit"
COMMITTED_BEFORE_CONFIRM = "consumer: after commit, before confirm"
CONFIRMED_BEFORE_OFFSET = "consumer: after confirm, before offset"
MID_OFFSET = "consumer: mid-offset-commit"
REBALANCE = "consumer: at rebalance"
CONSUMER_DRAIN = "consumer: during drain"
CONSUMER_FROZEN = "consumer: frozen in its handler, session lost"

PRODUCER_POINTS = (INSERT_BEFORE_COMMIT,)
RELAY_POINTS = (CLAIMED, MID_SEND, SENT_BEFORE_ACK, ACKED_BEFORE_MARK, MID_MARK, MARKED, RELAY_DRAIN, RELAY_FROZEN)
CONSUMER_POINTS = (
    EVENT_CLAIMED,
    HANDLED_BEFORE_COMMIT,
    COMMITTED_BEFORE_CONFIRM,
    CONFIRMED_BEFORE_OFFSET,
    MID_OFFSET,
    REBALANCE,
    CONSUMER_DRAIN,
    CONSUMER_FROZEN,
)

AT_SIGTERM = frozenset({RELAY_DRAIN, CONSUMER_DRAIN})
"""Points on the way out: the process is asked to end."""
_HITS = {
    RELAY_DRAIN: (1, 1),
    CONSUMER_DRAIN: (1, 1),
    REBALANCE: (2, 2),  # joining calls for the first revocation, of nothing
    MID_OFFSET: (1, 8),
}
_HITS_OF_BATCHES, _HITS_OF_EVENTS = (1, 8), (5, 60)  # a life in which something is done
FROZEN = {
    RELAY_FROZEN: (CLAIMED, ACKED_BEFORE_MARK),
    CONSUMER_FROZEN: (EVENT_CLAIMED, HANDLED_BEFORE_COMMIT),
}
"""Points at which the process is stopped instead of killed, and where: its host hangs, and wakes when others have taken over."""


def hits_of(point: str) -> tuple[int, int]:
    """At the earliest and at the latest hit of a life a point strikes."""
    return _HITS.get(point, _HITS_OF_EVENTS if point.startswith("consumer") else _HITS_OF_BATCHES)
