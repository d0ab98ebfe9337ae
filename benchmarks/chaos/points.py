"""The names of the crash points, and what a hit of each needs."""

__all__ = ["AT_SIGTERM", "ONCE", "PRODUCER_POINTS", "RELAY_POINTS"]

INSERT_BEFORE_COMMIT = "producer: outbox insert before commit"

CLAIMED = "relay: after claim, before send"
MID_SEND = "relay: mid-send"
SENT_BEFORE_ACK = "relay: after send, before ack"
ACKED_BEFORE_MARK = "relay: after ack, before mark"
MID_MARK = "relay: mid-mark"
MARKED = "relay: after mark"
RELAY_DRAIN = "relay: during drain"
SESSION_LOST = "relay: frozen with its batch, session lost"

PRODUCER_POINTS = (INSERT_BEFORE_COMMIT,)
RELAY_POINTS = (CLAIMED, MID_SEND, SENT_BEFORE_ACK, ACKED_BEFORE_MARK, MID_MARK, MARKED, RELAY_DRAIN, SESSION_LOST)
AT_SIGTERM = frozenset({RELAY_DRAIN})
"""Points on the way out: the process is asked to end."""
ONCE = AT_SIGTERM
"""Points that are reached once in a process's life."""
