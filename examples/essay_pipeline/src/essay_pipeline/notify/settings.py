"""Settings of *notify*; environment variables with the prefix ``NOTIFY_``."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from essay_pipeline.settings import PipelineSettings

__all__ = ["NotifySettings"]


class NotifySettings(PipelineSettings):
    """What *notify* needs beyond `PipelineSettings`.

    Attributes:
        CONSUMER_GROUP: The consumer group.
        INTAKE_URL: Where the page sends essays to.
        MAX_CONNECTIONS: WebSockets at the same time; they share one connection to Redis.
        SEND_SECONDS: A client that does not take a message within this time is disconnected.
    """

    model_config = SettingsConfigDict(env_prefix="NOTIFY_", extra="ignore")

    SERVICE_NAME: str = "notify-service"
    PORT: int = Field(default=8003, ge=0, le=65535)
    CONSUMER_GROUP: str = "notify-service"
    INTAKE_URL: str = "http://127.0.0.1:8001"
    MAX_CONNECTIONS: int = Field(default=500, gt=0)
    SEND_SECONDS: float = Field(default=5.0, gt=0)
