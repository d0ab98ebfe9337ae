"""Settings of *intake*; environment variables with the prefix ``INTAKE_``."""

from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from essay_pipeline.contracts import MOST_BODY_BYTES
from essay_pipeline.settings import PipelineSettings

__all__ = ["IntakeSettings"]


class IntakeSettings(PipelineSettings):
    """What *intake* needs beyond `PipelineSettings`.

    Attributes:
        PRODUCER_CLIENT_ID: Name of the producer in Kafka's logs.
        DATABASE_URL: ``postgresql+asyncpg://...``.
        ALLOWED_ORIGIN: The origin whose pages may call; empty for none.
        DEMO_ROLLBACK_ENABLED: Honour the header ``X-Demo-Rollback``; never in production.
        MAX_BODY_BYTES: Larger requests are refused.
    """

    model_config = SettingsConfigDict(env_prefix="INTAKE_", extra="ignore")

    SERVICE_NAME: str = "intake-service"
    PORT: int = Field(default=8001, ge=0, le=65535)
    PRODUCER_CLIENT_ID: str = "intake-producer"
    DATABASE_URL: str = "postgresql+asyncpg://127.0.0.1:5432/intake"
    ALLOWED_ORIGIN: str = ""
    DEMO_ROLLBACK_ENABLED: bool = False
    MAX_BODY_BYTES: int = MOST_BODY_BYTES

    @model_validator(mode="after")
    def _no_rollbacks_in_production(self) -> Self:
        if self.DEMO_ROLLBACK_ENABLED and self.requires_security():
            raise ValueError(
                f"DEMO_ROLLBACK_ENABLED must not be set in {self.ENVIRONMENT.value}: clients could undo writes"
            )
        return self
