"""Standard output, and what is counted when a line does not get there.

Every line of the process ends here, whoever logged it. Knows neither levels nor fields.
"""

import errno
import os
import select
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import RLock
from time import monotonic as _monotonic
from typing import Any

from huleedu_service_libs._metrics import counter

__all__ = [
    "PATIENCE_S",
    "LineLogger",
    "LineLoggerFactory",
    "note_failure",
    "swallowed_failures",
    "tell_losses_with",
    "write_line",
]

PATIENCE_S = 1.0
"""How long lines wait at most for the reader of a pipe that is full; what was waited comes back at a tenth of the pace."""


@dataclass(slots=True)
class _Count:
    swallowed: int = 0
    untold: int = 0
    draw: Callable[[int], str | bytes] | None = None


_COUNT = _Count()

_SWALLOWED = counter("huleedu_log_failures_total", "Log lines that were lost or shortened")


def swallowed_failures() -> int:
    """How many log lines of this process were lost or shortened since it started."""
    return _COUNT.swallowed


def note_failure() -> None:
    """Count one line that was lost or shortened."""
    _COUNT.swallowed += 1
    with suppress(Exception):  # in a multiprocess set-up the counter is a file, on the disk that may be full
        _SWALLOWED.inc()


def write_line(line: str | bytes) -> None:
    """Write one line to the present ``sys.stdout``, without a buffer.

    Goes out as UTF-8 whatever the locale says, because JSON is UTF-8. A stream that is closed,
    broken, full or missing loses the line and is counted. Who reads a pipe and stops reading is waited for a
    second, and a reader who is too slow for a tenth of the time; what does not fit then is lost.

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
            _WRITER.meet(stream, descriptor)
        if descriptor < 0:
            _write_through(stream, data)
        else:
            _WRITER.write(descriptor, data + b"\n")
        if _COUNT.untold:
            _tell_losses()
    except Exception:  # noqa: BLE001  # logging must not stop the service
        _COUNT.untold += 1
        note_failure()


def _tell_losses() -> None:
    lost, _COUNT.untold = _COUNT.untold, 0  # first: what follows is a line too
    if not lost:  # another thread has told them
        return
    if _COUNT.draw is not None:
        write_line(_COUNT.draw(lost))
    if _COUNT.untold:  # not even that arrived
        _COUNT.untold += lost - 1


def tell_losses_with(draw: Callable[[int], str | bytes]) -> None:
    """When a line arrives after others were lost, ``draw`` makes a line that says how many."""
    _COUNT.draw = draw


def _encoded(line: str | bytes) -> bytes:
    return line if isinstance(line, bytes) else line.encode("utf-8", "backslashreplace")


_NO_FILE = -1
_COMES_BACK = 0.1
_UNKNOWN = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


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
        self._write: Callable[[int, bytes], int] = os.write
        self._patience = _Patience()
        self._lock = RLock()  # a signal handler may log while this thread writes
        self._torn = False

    def meet(self, stream: Any, descriptor: int) -> None:
        """From now on lines go to this stream."""
        self._write = self._write_now if _is_pipe(descriptor) else os.write
        self.known = (stream, descriptor)

    def write(self, descriptor: int, data: bytes) -> None:
        """Write a line with its end; raise what the system says."""
        with self._lock:
            if self._torn:
                data = b"\n" + data
            try:
                written = self._write(descriptor, data)
            except BlockingIOError:
                written = 0
            if written < len(data) or self._torn:
                self._write_rest(descriptor, data, written)

    def _write_rest(self, descriptor: int, data: bytes, written: int) -> None:
        with self._patience as until:
            while written < len(data):
                self._torn = self._torn or written > 0  # until the rest is there
                if not _is_ready(descriptor, until - _monotonic()):
                    raise BlockingIOError("nobody reads standard output")
                with suppress(BlockingIOError):
                    written += self._write(descriptor, data[written:])
                    continue
                if _monotonic() > until:  # ready, and yet it takes nothing
                    raise BlockingIOError("standard output takes nothing")
        self._torn = False

    def _write_now(self, descriptor: int, data: bytes) -> int:
        """What fits into the pipe; its reader is not waited for, whoever else has the pipe open."""
        try:
            return os.pwritev(descriptor, [data], -1, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno not in _UNKNOWN:
                raise
        self._write = os.write  # an older system, or it is no pipe any more
        return os.write(descriptor, data)


class _Patience:
    """How long may be waited: a second, and then a tenth of the time, or a slow reader would set the pace of the service."""

    def __init__(self) -> None:
        self._left = PATIENCE_S
        self._at = _monotonic()

    def __enter__(self) -> float:
        """Until when."""
        now = _monotonic()
        self._left = min(PATIENCE_S, self._left + (now - self._at) * _COMES_BACK)
        self._at = now
        return now + self._left

    def __exit__(self, *_: object) -> None:
        now = _monotonic()
        self._left -= now - self._at
        self._at = now


def _is_ready(descriptor: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def _is_pipe(descriptor: int) -> bool:
    return hasattr(os, "RWF_NOWAIT") and descriptor >= 0 and stat.S_ISFIFO(os.fstat(descriptor).st_mode)


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
