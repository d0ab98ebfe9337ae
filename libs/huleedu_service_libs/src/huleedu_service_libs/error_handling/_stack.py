"""The text of the running stack, cheaply.

`error_detail_factory` puts it into an error's detail. How much is taken is a
property of the process: a service that raises errors in hot paths turns it off.
"""

import linecache
import sys
import traceback
from dataclasses import dataclass
from types import FrameType

__all__ = ["StackCapture", "configure_stack_capture", "stack_text"]

_OWN = __name__.rpartition(".")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class StackCapture:
    """How much of the stack an error carries.

    Attributes:
        enabled: Whether any; ``False`` wins over ``capture_stack=True``.
        frames: At most so many, the innermost ones.

    Raises:
        ValueError: ``frames`` is not positive.
    """

    enabled: bool = True
    frames: int = 25

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"StackCapture.frames must be at least 1, not {self.frames}; enabled=False takes none")


_chosen = StackCapture()


def configure_stack_capture(choice: StackCapture) -> None:
    """From now on errors of this process carry as much of the stack as ``choice`` says."""
    global _chosen  # noqa: PLW0603  # like logging, a decision for the process
    _chosen = choice


def stack_text() -> str | None:
    """The active exception's traceback, or the stack of whoever called this package; ``None`` when turned off."""
    if not _chosen.enabled:
        return None
    active = sys.exc_info()[1]
    if active is not None:
        return "".join(traceback.format_exception(active, limit=-_chosen.frames))
    return _format(_caller(), _chosen.frames)


def _caller() -> FrameType | None:
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # the only way that does not build the whole stack
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith(_OWN):
        frame = frame.f_back
    return frame


def _format(frame: FrameType | None, limit: int) -> str:
    # As traceback.format_stack, which costs three times as much because it also looks for columns.
    entries: list[str] = []
    while frame is not None and len(entries) < limit:
        code, line = frame.f_code, frame.f_lineno
        text = linecache.getline(code.co_filename, line, frame.f_globals).strip()
        source = f"    {text}\n" if text else ""
        entries.append(f'  File "{code.co_filename}", line {line}, in {code.co_name}\n{source}')
        frame = frame.f_back
    return "".join(reversed(entries))
