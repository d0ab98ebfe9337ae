"""Somebody else's contracts package: the names that the contract binds, another layout, and nothing beyond them."""

from .vocabulary import CircuitBreakerState, Environment
from .wire import EventEnvelope

__all__ = ["CircuitBreakerState", "Environment", "EventEnvelope"]
