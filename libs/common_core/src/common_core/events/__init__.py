"""Events: the envelope that all of them share."""

from common_core.events.envelope import EventEnvelope

__all__ = ["EventEnvelope"]
