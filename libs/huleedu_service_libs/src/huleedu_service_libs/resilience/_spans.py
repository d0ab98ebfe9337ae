"""A span for each call of a breaker, as long as somebody records spans.

Making a span costs more than everything else that a breaker does, so without a tracer and
without a tracer provider none is made. Whether a provider has been set is looked up at most once a second.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import ProxyTracerProvider, Tracer

from huleedu_service_libs.observability import get_tracer
from huleedu_service_libs.observability.recording import record_exception_once
from huleedu_service_libs.resilience.machine import StateMachine

__all__ = ["CallSpans"]

LOOK_EVERY_S = 1.0


class CallSpans:
    """Makes the spans of one breaker.

    Args:
        machine: State and counters that go on the span.
        tracer: Makes them; by default the global one.
        is_failure: Whether the breaker counts an exception.

    Attributes:
        on: Whether spans are made.
        look_at: When to ask again whether they should be, by the breaker's clock.
    """

    __slots__ = ("_is_failure", "_machine", "_tracer", "look_at", "on")

    def __init__(
        self, machine: StateMachine, tracer: Tracer | None, is_failure: Callable[[BaseException], bool]
    ) -> None:
        self._machine = machine
        self._tracer = tracer
        self._is_failure = is_failure
        self.on = tracer is not None
        self.look_at = float("inf") if self.on else float("-inf")

    @property
    def tracer(self) -> Tracer:
        """The given tracer, or the global one."""
        return self._tracer or get_tracer("huleedu_service_libs.resilience")

    def look(self, now: float) -> None:
        """Find out whether a tracer provider has been set by now."""
        if isinstance(trace.get_tracer_provider(), ProxyTracerProvider):
            self.look_at = now + LOOK_EVERY_S
        else:
            self._tracer = self.tracer
            self.on, self.look_at = True, float("inf")

    async def run(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run ``func`` in a span ``circuit_breaker.<circuit>.<function>``."""
        machine = self._machine
        with self.tracer.start_as_current_span(
            f"circuit_breaker.{machine.name}.{_name_of(func)}", record_exception=False, set_status_on_exception=False
        ) as span:
            span.set_attribute("circuit.name", machine.name)
            span.set_attribute("circuit.state", machine.state.value)
            span.set_attribute("circuit.failure_count", machine.failure_count)
            span.set_attribute("circuit.success_count", machine.success_count)
            try:
                result = func(*args, **kwargs)
                if hasattr(type(result), "__await__"):
                    result = await result
            except Exception as error:
                if self._is_failure(error):
                    span.set_attribute("circuit.call_result", "failure")
                    record_exception_once(span, error)
                raise
            span.set_attribute("circuit.call_result", "success")
            return result

    def mark_blocked(self, now: float) -> None:
        """Note on the current span that a call was refused."""
        if now >= self.look_at:
            self.look(now)
        if self.on:
            trace.get_current_span().set_attribute("circuit.blocked", True)  # noqa: FBT003  # OpenTelemetry's signature


def _name_of(func: Any) -> str:
    """A name for anything that can be called."""
    name = getattr(func, "__name__", None)
    if isinstance(name, str):
        return name
    return _name_of(func.func) if isinstance(func, partial) else type(func).__name__
