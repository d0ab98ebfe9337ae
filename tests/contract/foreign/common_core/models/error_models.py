"""The contract's path to the error's model."""

from ..wire import ErrorCodeType, ErrorDetail

__all__ = ["ErrorCodeType", "ErrorDetail"]
