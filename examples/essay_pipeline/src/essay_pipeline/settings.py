"""What the settings of all three services have in common.

Each service subclasses `PipelineSettings` with a prefix of its own, so that
``INTAKE_PORT`` and ``NOTIFY_PORT`` can stand in one environment.
"""

from typing import Self

from pydantic import Field, model_validator

from huleedu_service_libs.config import SecureServiceSettings

__all__ = ["IDEMPOTENCY_PREFIX", "PipelineSettings"]

IDEMPOTENCY_PREFIX = "huleedu:idempotency:v2"
"""First part of the keys by which consumers recognise duplicates."""


class PipelineSettings(SecureServiceSettings):
    """Where a service listens and where its servers are.

    Attributes:
        SERVICE_NAME: In logs, events, metrics, idempotency keys.
        HOST: Address to listen on.
        PORT: Port to listen on.
        REDIS_URL: Redis.
        KAFKA_BOOTSTRAP_SERVERS: Kafka.
        KAFKA_IDEMPOTENT_PRODUCER: False only for brokers that cannot serve idempotent producers.
        CIRCUIT_BREAKER_ENABLED: A breaker and a fallback queue around the Kafka producer.
        KAFKA_NAMESPACE: Put before topics, consumer groups and Redis keys, so that several pipelines
            can share one Kafka and one Redis; empty in production.
        LOG_LEVEL: Least level that is logged.
        LOG_JSON: One JSON object a line, in every environment.
        STOP_SECONDS: How long a graceful stop may take before the process ends anyway.
        DRAIN_NOTICE_SECONDS: How long requests are taken after readiness has failed. Behind a load balancer: as long
            as it needs to notice.
    """

    SERVICE_NAME: str = "essay-pipeline"
    HOST: str = "127.0.0.1"
    PORT: int = Field(default=8000, ge=0, le=65535)
    REDIS_URL: str = "redis://127.0.0.1:6379/0"
    KAFKA_BOOTSTRAP_SERVERS: str = "127.0.0.1:9092"
    KAFKA_IDEMPOTENT_PRODUCER: bool = True
    CIRCUIT_BREAKER_ENABLED: bool = True
    KAFKA_NAMESPACE: str = ""
    LOG_LEVEL: str = "INFO"
    LOG_JSON: bool = True
    STOP_SECONDS: float = Field(default=20.0, gt=0)
    DRAIN_NOTICE_SECONDS: float = Field(default=0.5, ge=0)

    def topic(self, name: str) -> str:
        """The topic ``name`` of this pipeline."""
        return self.KAFKA_NAMESPACE + name

    def group(self, name: str) -> str:
        """The consumer group ``name`` of this pipeline."""
        return self.KAFKA_NAMESPACE + name

    def redis_key(self, name: str) -> str:
        """The Redis key, or prefix of keys, ``name`` of this pipeline."""
        return self.KAFKA_NAMESPACE + name

    @model_validator(mode="after")
    def _secret_is_set(self) -> Self:
        # Tokens signed with an empty secret could be forged by anybody.
        if not self.INTERNAL_API_KEY.get_secret_value():
            raise ValueError("HULEEDU_INTERNAL_API_KEY is empty: set it to a secret that all services share")
        return self
