"""Time-ordered ids (UUID version 7, RFC 9562 §5.7).

Rows that one process adds sort by their ids in the order in which they were
added, also within one millisecond. The standard library has these from 3.14 on.
"""

import os
import threading
import time
from uuid import UUID

__all__ = ["uuid7"]

_lock = threading.Lock()
_last = 0

_COUNTER_BITS = 12  # the field rand_a counts within a millisecond (RFC 9562 §6.2, method 1)


def uuid7() -> UUID:
    """A new id, greater than every earlier one of this process."""
    global _last  # noqa: PLW0603  # the order is a property of the process
    with _lock:
        _last = max((time.time_ns() // 1_000_000) << _COUNTER_BITS, _last + 1)
        stamp = _last
    milliseconds, counter = stamp >> _COUNTER_BITS, stamp & 0xFFF
    random = int.from_bytes(os.urandom(8)) >> 2
    return UUID(int=(milliseconds << 80) | (0x7 << 76) | (counter << 64) | (0b10 << 62) | random)
