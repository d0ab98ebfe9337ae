"""Ids: time-ordered ones of our own, and correlation ids that others send.

`uuid7` is UUID version 7 (RFC 9562 §5.7): rows that one process adds sort by
their ids in the order in which they were added, also within one millisecond.
The standard library has these from 3.14 on.
"""

import os
import random
import re
import threading
import time
from uuid import NAMESPACE_OID, UUID, uuid5

__all__ = ["acceptable_correlation_id", "correlation_uuid", "random_id", "uuid7"]

# What others send goes into logs and headers: anything else than this is not taken.
_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

_lock = threading.Lock()
_last = 0

# A generator of our own: whoever seeds Python's common one, such as a test, shall not make ids repeat.
_random = random.Random()  # noqa: S311  # ids are no secrets
_draw = _random.getrandbits
os.register_at_fork(after_in_child=_random.seed)

_VERSION_4 = (0x4 << 76) | (0b10 << 62)  # RFC 9562 §5.4: version and variant
_FREE_BITS = ~((0xF << 76) | (0b11 << 62))

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


def random_id() -> str:
    """The text of a new random UUID (version 4), at a fifth of what ``str(uuid4())`` costs. Unique, but no secret."""
    digits = f"{_draw(128) & _FREE_BITS | _VERSION_4:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def acceptable_correlation_id(given: object) -> str | None:
    """The text of ``given`` when it can stand safely in logs and headers, else ``None``.

    Acceptable are letters, digits, dots, dashes and underscores, 128 at most.
    """
    text = str(given) if isinstance(given, str | UUID) else ""
    return text if _ACCEPTABLE_ID.fullmatch(text) else None


def correlation_uuid(given: str) -> UUID:
    """The UUID that ``given`` is, or else always the same one for the same text (version 5)."""
    try:
        return UUID(given)
    except ValueError:
        return uuid5(NAMESPACE_OID, given)
