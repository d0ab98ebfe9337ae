"""States of breakers, pipeline stages, operations and queues."""

from enum import Enum

__all__ = ["CircuitBreakerState", "OperationStatus", "ProcessingStage", "ProcessingStatus", "QueueStatus"]


class CircuitBreakerState(str, Enum):
    """State of a circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class OperationStatus(str, Enum):
    """How an operation ended."""

    SUCCESS = "success"
    FAILED = "failed"
    ERROR = "error"
    NOT_FOUND = "not_found"


class ProcessingStatus(str, Enum):
    """How far processing has come."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"


class QueueStatus(str, Enum):
    """Where a queued request stands."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    FAILED = "failed"


class ProcessingStage(str, Enum):
    """Stage of a pipeline step."""

    PENDING = "pending"
    INITIALIZED = "initialized"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @classmethod
    def terminal(cls) -> set["ProcessingStage"]:
        """Stages that nothing follows."""
        return {cls.COMPLETED, cls.FAILED, cls.CANCELLED}

    @classmethod
    def active(cls) -> set["ProcessingStage"]:
        """Stages in which a result exists or is being made."""
        return {cls.COMPLETED, cls.INITIALIZED, cls.PROCESSING}
