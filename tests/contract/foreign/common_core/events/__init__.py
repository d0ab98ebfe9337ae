"""Events."""

from ..wire import EventEnvelope

__all__ = ["EventEnvelope"]
