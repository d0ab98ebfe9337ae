"""Which line the process draws: the configured one, or one that is safe before anything is configured.

Asks structlog at each call, so that ``structlog.configure`` and ``capture_logs`` count for
our loggers too. Structlog's own default is never used: it draws tracebacks with
their local variables, which takes seconds and shows secrets.
"""

import os
import sys
from dataclasses import dataclass
from typing import Any

import structlog
from structlog.typing import Processor

from huleedu_service_libs._log_pipeline.console import for_people
from huleedu_service_libs._log_pipeline.line import Line
from huleedu_service_libs._log_pipeline.rendering import as_json
from huleedu_service_libs._log_pipeline.sink import tell_losses_with

__all__ = ["chosen_environment", "current_line", "is_for_machines", "make_line", "safe_line", "use"]

_UNKNOWN_SERVICE = "unknown_service"  # as resources of OpenTelemetry have it
DEFAULT_VERSION = "1.0.0"  # as spans have it


def chosen_environment(environment: object = None) -> str:
    """``environment``, else the variable ``ENVIRONMENT``, else ``development``."""
    return str(getattr(environment, "value", environment) or os.environ.get("ENVIRONMENT") or "development")


def is_for_machines(environment: str) -> bool:
    """Whether lines are JSON there."""
    return environment.lower() == "production"


def make_line(service_name: str | None, environment: str, *, json_lines: bool) -> Line:
    """What draws the lines of this process."""
    constant = {
        "service_name": service_name or _UNKNOWN_SERVICE,
        "service_version": os.environ.get("SERVICE_VERSION") or DEFAULT_VERSION,
        "environment": environment,
    }
    return Line(constant, as_json if json_lines else for_people())


@dataclass(slots=True)
class _Chosen:
    processors: list[Processor] | None = None
    line: Line | None = None
    default: Line | None = None
    default_for: tuple[object, ...] = ()


_CHOSEN = _Chosen()
# What structlog has before anybody has configured it; empty when somebody was earlier than we.
_STRUCTLOGS_OWN = [] if structlog.is_configured() else list(structlog.get_config()["processors"])


def use(line: Line, processors: list[Processor]) -> None:
    """These are what `configure_service_logging` has made and given structlog."""
    _CHOSEN.line, _CHOSEN.processors = line, processors


def safe_line() -> Line:
    """What draws lines whatever somebody else has made of structlog's configuration."""
    return _CHOSEN.line or _default()


def _processors() -> list[Processor]:
    processors: list[Processor] = structlog.get_config()["processors"]
    return processors


# `get_config` makes a dictionary of all there is, at ten times the cost of a look; not every version may have this.
_STRUCTLOGS: Any = getattr(structlog._config, "_CONFIG", None)  # noqa: SLF001
_CAN_LOOK = getattr(_STRUCTLOGS, "default_processors", None) is _processors()


def current_line() -> Line | None:
    """What draws an event now; ``None`` when somebody else has configured structlog, who is to do it."""
    configured: list[Processor] = _STRUCTLOGS.default_processors if _CAN_LOOK else _processors()
    line: Processor | None
    if configured is _CHOSEN.processors:
        # `capture_logs` puts its own into the list and takes it out again.
        line = configured[0] if configured else None
    else:
        line = _default() if configured == _STRUCTLOGS_OWN else None
    return line if isinstance(line, Line) else None


def _default() -> Line:
    """As `configure_service_logging` would do it with nothing but the environment's variables."""
    environment, service = chosen_environment(), os.environ.get("SERVICE_NAME")
    wanted = (environment, service, sys.stdout)
    if _CHOSEN.default is None or _CHOSEN.default_for != wanted:
        _CHOSEN.default = make_line(service, environment, json_lines=is_for_machines(environment))
        _CHOSEN.default_for = wanted
    return _CHOSEN.default


def _losses(lost: int) -> str | bytes:
    return safe_line().draw_own("warning", "log_lines_lost", lost=lost)


tell_losses_with(_losses)
