"""Settings of *spellcheck*; environment variables with the prefix ``SPELLCHECK_``."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from essay_pipeline.settings import PipelineSettings

__all__ = ["SpellcheckSettings"]


class SpellcheckSettings(PipelineSettings):
    """What *spellcheck* needs beyond `PipelineSettings`.

    Attributes:
        PRODUCER_CLIENT_ID: Name of the producer in Kafka's logs.
        CONSUMER_GROUP: The consumer group.
        DATABASE_URL: ``postgresql+asyncpg://...``.
    """

    model_config = SettingsConfigDict(env_prefix="SPELLCHECK_", extra="ignore")

    SERVICE_NAME: str = "spellcheck-service"
    PORT: int = Field(default=8002, ge=0, le=65535)
    PRODUCER_CLIENT_ID: str = "spellcheck-producer"
    CONSUMER_GROUP: str = "spellcheck-service"
    DATABASE_URL: str = "postgresql+asyncpg://127.0.0.1:5432/spellcheck"
