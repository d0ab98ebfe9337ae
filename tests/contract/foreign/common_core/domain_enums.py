"""The contract's path to one enum."""

from .vocabulary import ContentType

__all__ = ["ContentType"]
