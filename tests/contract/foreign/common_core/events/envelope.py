"""The contract's path to the envelope."""

from ..wire import EventEnvelope, T_EventData

__all__ = ["EventEnvelope", "T_EventData"]
