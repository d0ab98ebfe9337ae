"""The contract's path to one enum."""

from .vocabulary import Environment

__all__ = ["Environment"]
