"""A tracer that is looked up again only when there is another provider, for a look-up costs as much as a span.

Who makes a span for each statement or command keeps one. Knows no span.
"""

from opentelemetry import trace
from opentelemetry.trace import Tracer

__all__ = ["KeptTracer"]


class KeptTracer:
    """The tracer of one part of the library.

    Args:
        name: Of the part.
    """

    __slots__ = ("_name", "_provider", "_tracer")

    def __init__(self, name: str) -> None:
        self._name = name
        self._provider: object = None
        self._tracer: Tracer | None = None

    def get(self) -> Tracer:
        """That of the provider which is global at this moment."""
        provider = trace.get_tracer_provider()
        if self._tracer is None or provider is not self._provider:
            self._provider, self._tracer = provider, trace.get_tracer(self._name)
        return self._tracer
