"""Label values of the services" metrics."""

from enum import Enum

__all__ = ["CacheOperation", "MetricName", "OperationType"]


class OperationType(str, Enum):
    """What an operation does."""

    UPLOAD = "upload"
    DOWNLOAD = "download"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    PUBLISH = "publish"
    CONSUME = "consume"


class MetricName(str, Enum):
    """Names of shared metrics."""

    PIPELINE_EXECUTION_TIME = "pipeline_execution_time"
    ESSAY_PROCESSING_RATE = "essay_processing_rate"
    KAFKA_CONSUMER_LAG = "kafka_consumer_lag"
    CONTENT_SERVICE_LATENCY = "content_service_latency"
    LLM_API_CALL_DURATION = "llm_api_call_duration"


class CacheOperation(str, Enum):
    """What is done to a cache."""

    GET = "get"
    SET = "set"
    DELETE = "delete"
    CLEAR = "clear"
