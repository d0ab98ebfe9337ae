"""Where in the code a line was logged: the first frame that belongs to no logging code.

For the lines only. What is to be known of a piece of code is looked up once.
"""

import sys
from pathlib import PurePath
from types import CodeType, FrameType

__all__ = ["Places"]

_LOGGING = ("huleedu_service_libs.logging_utils", "huleedu_service_libs._log_pipeline", "structlog", "logging")
_NEVER_LESS = 4  # frames of logging code above the caller: this one, the line's, two of what runs it, the method's
_KNOWN = 4_096  # pieces of code; programs that make code as they go must not fill the memory


class Places:
    """Finds the caller."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        # By identity: the hash of a piece of code takes a microsecond. It is kept, so that no other gets its identity.
        self._known: dict[int, tuple[CodeType, tuple[str, str] | None]] = {}

    def __call__(self) -> tuple[str, str, int]:
        """File name, function and line number of the caller of whatever logging code is running."""
        frame: FrameType | None = sys._getframe(_NEVER_LESS)  # noqa: SLF001  # `inspect` has the same, at fifty times the cost
        while frame is not None:
            entry = self._known.get(id(frame.f_code))
            known = self._learn(frame) if entry is None else entry[1]
            if known is not None:
                return (*known, frame.f_lineno)
            frame = frame.f_back
        return ("?", "?", 0)

    def _learn(self, frame: FrameType) -> tuple[str, str] | None:
        if len(self._known) >= _KNOWN:
            self._known.clear()
        code = frame.f_code
        module = str(frame.f_globals.get("__name__") or "?")
        is_logging = any(module == each or module.startswith(f"{each}.") for each in _LOGGING)
        known = None if is_logging else (PurePath(code.co_filename).name, code.co_name)
        self._known[id(code)] = (code, known)
        return known
