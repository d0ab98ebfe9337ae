"""Where in the code a line was logged: the first frame that belongs to no logging code.

For the lines only. What is to be known of a piece of code is looked up once.
"""

import sys
from pathlib import PurePath
from types import CodeType, FrameType
from typing import NamedTuple

from huleedu_service_libs._log_pipeline.rendering import members

__all__ = ["NOWHERE", "Place", "Places"]

_LOGGING = ("huleedu_service_libs.logging_utils", "huleedu_service_libs._log_pipeline", "structlog", "logging")
_NEVER_LESS = 4  # frames of logging code: this one, the line's, that of what runs it, the method's; then the caller
_KNOWN = 4_096  # pieces of code; programs that make code as they go must not fill the memory


class Place(NamedTuple):
    """One call.

    Attributes:
        filename: Without its folder.
        func_name: Function or method.
        lineno: In the file.
        ending: The three, encoded, as the end of a line.
    """

    filename: str
    func_name: str
    lineno: int
    ending: bytes = b""


NOWHERE = Place("?", "?", 0, members({"filename": "?", "func_name": "?", "lineno": 0}) + b"}")
"""Where the interpreter itself calls, or nobody can tell."""


class _Code(NamedTuple):
    code: CodeType
    places: dict[int, Place] | None  # by instruction; none in logging code


class Places:
    """Finds the caller."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        # By identity: the hash of a piece of code takes a microsecond. It is kept, so that no other gets its identity.
        self._known: dict[int, _Code] = {}

    def __call__(self) -> Place:
        """The caller of whatever logging code is running."""
        try:
            frame: FrameType | None = sys._getframe(_NEVER_LESS)  # noqa: SLF001  # `inspect` has the same, at fifty times the cost
        except ValueError:  # nobody called: `atexit` does so, and the end of a thread
            return NOWHERE
        while frame is not None:
            code = frame.f_code
            entry = self._known.get(id(code))
            places = self._learn(frame) if entry is None else entry[1]
            if places is not None:
                return places.get(frame.f_lasti) or _learn_place(places, frame)
            frame = frame.f_back
        return NOWHERE

    def _learn(self, frame: FrameType) -> dict[int, Place] | None:
        if len(self._known) >= _KNOWN:
            self._known.clear()
        code = frame.f_code
        module = str(frame.f_globals.get("__name__") or "?")
        is_logging = any(module == each or module.startswith(f"{each}.") for each in _LOGGING)
        places: dict[int, Place] | None = None if is_logging else {}
        self._known[id(code)] = _Code(code, places)
        return places


def _learn_place(places: dict[int, Place], frame: FrameType) -> Place:
    filename, func_name, lineno = PurePath(frame.f_code.co_filename).name, frame.f_code.co_name, frame.f_lineno or 0
    ending = members({"filename": filename, "func_name": func_name, "lineno": lineno}) + b"}"
    place = places[frame.f_lasti] = Place(filename, func_name, lineno, ending)
    return place
