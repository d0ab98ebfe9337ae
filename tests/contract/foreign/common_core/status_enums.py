"""The contract's path to one enum."""

from .vocabulary import CircuitBreakerState

__all__ = ["CircuitBreakerState"]
