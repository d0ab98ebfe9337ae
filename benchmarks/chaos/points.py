"""The names of the crash points, and what a hit of each needs."""

__all__ = [
    "AT_SIGTERM",
    "CONSUMER",
    "CONSUMER_POINTS",
    "FROZEN",
    "ONCE_IN_A_LIFE",
    "PRODUCER_POINTS",
    "REDIS_POINTS",
    "RELAY_POINTS",
    "SESSION_TIMEOUT_S",
    "STATIC_POINTS",
    "hits_of",
    "rest_of",
]

CONSUMER = "consumer"
SESSION_TIMEOUT_S = 3.0  # the broker takes a killed member for dead after this

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

STATIC_POINTS = (EVENT_CLAIMED, COMMITTED_BEFORE_CONFIRM, CONSUMER_DRAIN)
REDIS_POINTS = (EVENT_CLAIMED, HANDLED_BEFORE_COMMIT, COMMITTED_BEFORE_CONFIRM, CONFIRMED_BEFORE_OFFSET)
"""Those of consumers that remember in Redis alone."""

AT_SIGTERM = frozenset({RELAY_DRAIN, CONSUMER_DRAIN})
"""Points on the way out: the process is asked to end."""
ONCE_IN_A_LIFE = AT_SIGTERM | {REBALANCE}
"""Points that are provoked from outside when the others have recovered; what is passed over then does not come again."""
_HITS = {
    RELAY_DRAIN: (1, 1),
    CONSUMER_DRAIN: (1, 1),
    REBALANCE: (2, 2),  # joining calls for the first revocation, of nothing
    MID_OFFSET: (1, 8),
}
_HITS_OF_BATCHES, _HITS_OF_EVENTS = (1, 8), (5, 40)  # a life in which something is done
FROZEN = {
    RELAY_FROZEN: (CLAIMED, ACKED_BEFORE_MARK),
    CONSUMER_FROZEN: (EVENT_CLAIMED, HANDLED_BEFORE_COMMIT),
}
"""Points at which the process is stopped instead of killed, and where: its host hangs, and wakes when others have taken over."""


def hits_of(point: str) -> tuple[int, int]:
    """At the earliest and at the latest hit of a life a point strikes."""
    return _HITS.get(point, _HITS_OF_EVENTS if point.startswith("consumer") else _HITS_OF_BATCHES)


_RESTS_S = {CONSUMER: 2.0}  # whoever joins has waited for the dead; now the backlog is worked off
_REST_OF_STATIC_S = 1.0


def rest_of(point: str, role: str | None, *, static: bool) -> float:
    """Seconds of work that a process does before its point counts, so that the group gets over the death before."""
    if point in ONCE_IN_A_LIFE:
        return 0.0
    return _REST_OF_STATIC_S if static else _RESTS_S.get(role or "", 0.0)
