"""Logs of a service: one JSON object a line in production, readable lines elsewhere.

Every module creates its logger when it is imported, long before the service
configures logging, so a logger decides nothing until it is called. Lines carry
service, environment, call site, the current trace and the structlog context
variables; records of the standard library are rendered alike. Only this module
and its pipeline know structlog.
"""

import logging
import os
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import ContextVar
from typing import Any

import structlog
from structlog.typing import Processor

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs._log_pipeline.line import Line
from huleedu_service_libs._log_pipeline.logger import ServiceBoundLogger, ServiceLogger, set_threshold
from huleedu_service_libs._log_pipeline.pipeline import chosen_environment, is_for_machines, make_line, use
from huleedu_service_libs._log_pipeline.sink import LineLoggerFactory, swallowed_failures
from huleedu_service_libs._log_pipeline.standard import RootHandler, redact_last_resort, take_over
from huleedu_service_libs._scopes import restore

__all__ = [
    "bind_log_context",
    "configure_service_logging",
    "create_service_logger",
    "current_log_context",
    "event_log_context",
    "log_context",
    "log_event_processing",
    "log_variable",
    "swallowed_failures",
]

_LEVELS = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARNING": logging.WARNING,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
    "CRITICAL": logging.CRITICAL,
    "FATAL": logging.CRITICAL,
}


redact_last_resort()


def create_service_logger(name: str | None = None) -> Any:
    """A structlog logger that may be made before logging is configured.

    Args:
        name: Bound as ``logger_name``; nothing is bound without one.
    """
    return ServiceLogger({} if name is None else {"logger_name": name})


def configure_service_logging(
    service_name: str,
    environment: str | None = None,
    log_level: str = "INFO",
    *,
    json_lines: bool | None = None,
) -> None:
    """Decide how this process logs, for loggers that exist already too. May be called again.

    Sets the environment variables ``SERVICE_NAME`` and ``ENVIRONMENT`` where they are unset.

    ``SERVICE_VERSION`` (by default 1.0.0, as on spans) stands on every line as ``service_version``.
    Before the first call loggers write what this would with nothing but those variables, at every level.

    Args:
        service_name: Stands on every line as ``service_name``.
        environment: ``production`` gives JSON lines, any other name console lines; by default the
            variable ``ENVIRONMENT``, then ``development``.
        log_level: DEBUG, INFO, WARNING, ERROR or CRITICAL, in any case. Holds for the standard
            library's root logger as well.
        json_lines: JSON lines or console lines, whatever the environment.

    Raises:
        ValueError: Unknown level; nothing was changed then.
    """
    level = _level(log_level)
    chosen = chosen_environment(environment)
    os.environ.setdefault("SERVICE_NAME", service_name)
    os.environ.setdefault("ENVIRONMENT", chosen)
    line = make_line(service_name, chosen, json_lines=is_for_machines(chosen) if json_lines is None else json_lines)
    processors: list[Processor] = [line]
    set_threshold(level)
    structlog.configure(
        processors=processors,
        wrapper_class=ServiceBoundLogger,
        logger_factory=LineLoggerFactory(),
        context_class=dict,
        cache_logger_on_first_use=False,  # a cached logger would keep the configuration it was first called under
    )
    use(line, processors)
    _install_root_handler(level, line)


def _level(name: str) -> int:
    level = _LEVELS.get(str(getattr(name, "value", name)).strip().upper())  # settings may have an enum
    if level is None:
        raise ValueError(f"Unknown log level {name!r}; allowed are DEBUG, INFO, WARNING, ERROR, CRITICAL")
    return level


def _install_root_handler(level: int, line: Line) -> None:
    root = logging.root
    for earlier in [each for each in root.handlers if isinstance(each, RootHandler)]:
        root.removeHandler(earlier)
    take_over()
    logging.captureWarnings(capture=True)
    root.addHandler(RootHandler(line))
    root.setLevel(level)


def current_log_context() -> dict[str, Any]:
    """What `log_context`, a request or an event has put on the lines logged here; a copy."""
    return dict(structlog.contextvars.get_contextvars())


def bind_log_context(**values: Any) -> None:
    """Put ``values`` on every later line of this task."""
    structlog.contextvars.bind_contextvars(**values)


def log_context(**values: Any) -> AbstractContextManager[None]:
    """Put ``values`` on every line logged inside the block, then restore what was there."""
    return _Bound(values)


def log_variable(name: str) -> ContextVar[Any]:
    """The context variable behind the field ``name`` of `log_context`: setting it costs a fifth of a block.

    For what binds the same field for every request.
    """
    token = structlog.contextvars.bind_contextvars(**{name: ...})[name]  # Ellipsis: structlog's sign for an unbound one
    variable = token.var
    variable.reset(token)
    return variable


class _Bound:
    """By tokens: structlog's own way looks through every context variable there is, at each request."""

    __slots__ = ("_tokens", "_values")

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __enter__(self) -> None:
        self._tokens = structlog.contextvars.bind_contextvars(**self._values)

    def __exit__(self, *_: object) -> None:
        with suppress(ValueError):  # as in `restore`: another task closes a generator
            structlog.contextvars.reset_contextvars(**self._tokens)


def event_log_context(event_id: str | None, **identity: str | None) -> AbstractContextManager[None]:
    """Put an event's identity on every line logged inside the block, unless that is done already.

    Consumer and idempotency both do it, one inside the other.

    Args:
        event_id: The event; ``None`` is always another one.
        **identity: What else is known; ``None`` is left out.
    """
    if event_id is not None and _event.get() == event_id:
        return nullcontext()
    return _BoundEvent(
        {name: value for name, value in (("event_id", event_id), *identity.items()) if value is not None}
    )


class _BoundEvent(_Bound):
    """Remembers which event it is."""

    __slots__ = ("_event_token",)

    def __enter__(self) -> None:
        super().__enter__()
        self._event_token = _event.set(self._values.get("event_id"))

    def __exit__(self, *_: object) -> None:
        restore(_event, self._event_token)
        super().__exit__()


_event: ContextVar[str | None] = ContextVar("huleedu_logged_event", default=None)


def log_event_processing(logger: Any, message: str, envelope: EventEnvelope[Any], **additional_context: Any) -> None:
    """Log at info that an event is being processed, and put its identity on all later lines.

    Binds ``correlation_id``, ``event_id``, ``event_type`` and ``source_service`` (text) as
    context variables over what stands there; other context variables stay.

    Args:
        logger: From `create_service_logger`.
        message: What is happening.
        envelope: The event.
        **additional_context: Fields of this line only.
    """
    structlog.contextvars.bind_contextvars(
        correlation_id=str(envelope.correlation_id),
        event_id=str(envelope.event_id),
        event_type=str(envelope.event_type),
        source_service=str(envelope.source_service),
    )
    logger.info(message, **{"event_data_type": type(envelope.data).__name__, **additional_context})
