"""Standard output, and what is counted when a line does not get there.

Every line of the process ends here, whoever logged it. Knows neither levels nor fields.
"""

import os
import sys
from dataclasses import dataclass
from threading import RLock
from typing import Any

from huleedu_service_libs._metrics import counter

__all__ = ["LineLogger", "LineLoggerFactory", "note_failure", "swallowed_failures", "write_line"]


@dataclass(slots=True)
class _Count:
    swallowed: int = 0


_COUNT = _Count()

_SWALLOWED = counter("huleedu_log_failures_total", "Log lines that were lost or shortened")


def swallowed_failures() -> int:
    """How many log lines of this process were lost or shortened since it started."""
    return _COUNT.swallowed


def note_failure() -> None:
    """Count one line that was lost or shortened."""
    _COUNT.swallowed += 1
    _SWALLOWED.inc()


def write_line(line: str | bytes) -> None:
    """Write one line to the present ``sys.stdout``, without a buffer.

    Goes out as UTF-8 whatever the locale says, because JSON is UTF-8. A stream that is closed,
    broken, full or missing loses the line and is counted.

    Args:
        line: Without its end.
    """
    data = line if type(line) is bytes else _encoded(line)
    try:
        stream = sys.stdout
        if getattr(stream, "closed", False):  # its descriptor may belong to somebody else by now
            raise ValueError("standard output is closed")  # noqa: TRY301  # counted like the others
        known, descriptor = _WRITER.known  # one read: another thread may replace it
        if known is not stream:
            descriptor = _descriptor(stream)
            _WRITER.known = (stream, descriptor)
        if descriptor < 0:
            _write_through(stream, data)
        else:
            _WRITER.write(descriptor, data + b"\n")
    except Exception:  # noqa: BLE001  # logging must not stop the service
        note_failure()


def _encoded(line: str | bytes) -> bytes:
    return line if isinstance(line, bytes) else line.encode("utf-8", "backslashreplace")


_NO_FILE = -1


class _Writer:
    """Whole lines from several threads, also where the system takes a line in parts.

    Attributes:
        known: The stream that was written to last, and its descriptor.
    """

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Forget who is writing; a forked process has no other threads."""
        self.known: tuple[Any, int] = (None, _NO_FILE)
        self._lock = RLock()  # a signal handler may log while this thread writes
        self._torn = False

    def write(self, descriptor: int, data: bytes) -> None:
        """Write a line with its end; raise what the system says."""
        with self._lock:
            if self._torn:
                data = b"\n" + data
            written = os.write(descriptor, data)
            if written < len(data) or self._torn:
                self._write_rest(descriptor, data[written:])

    def _write_rest(self, descriptor: int, rest: bytes) -> None:
        while rest:
            self._torn = True  # until the rest is there
            rest = rest[os.write(descriptor, rest) :]
        self._torn = False


_WRITER = _Writer()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_WRITER.renew)


def _descriptor(stream: Any) -> int:
    try:
        return int(stream.fileno())
    except (AttributeError, OSError):  # a test's stream, a notebook's
        return _NO_FILE


def _write_through(stream: Any, data: bytes) -> None:
    raw = getattr(stream, "buffer", None)
    if raw is None:
        stream.write(data.decode() + "\n")
    else:
        raw.write(data + b"\n")
    stream.flush()


class LineLogger:
    """What structlog hands the rendered line to; every level does the same."""

    def msg(self, line: str | bytes) -> None:
        """Write the line."""
        write_line(line)

    log = debug = info = warn = warning = error = err = critical = fatal = failure = exception = msg


class LineLoggerFactory:
    """Makes `LineLogger`; takes and ignores the logger's name."""

    def __call__(self, *_args: Any) -> LineLogger:
        """One logger; it has no state."""
        return LineLogger()
