"""What the health of all three services has in common."""

from essay_pipeline.settings import PipelineSettings
from huleedu_service_libs.health import DrainConfig, HealthConfig, Probe, ServiceHealth, kafka_probe, redis_probe

__all__ = ["make_health", "shared_probes"]


def make_health(settings: PipelineSettings) -> ServiceHealth:
    """A service's health, which drains within the time that the service has to stop."""
    drain = DrainConfig(notice_s=settings.DRAIN_NOTICE_SECONDS, limit_s=settings.STOP_SECONDS / 2)
    return ServiceHealth(settings.SERVICE_NAME, config=HealthConfig(drain=drain))


def shared_probes(settings: PipelineSettings) -> tuple[Probe, ...]:
    """The servers that every service uses; one that is down degrades them all, and takes none out."""
    return redis_probe(settings.REDIS_URL), kafka_probe(settings.KAFKA_BOOTSTRAP_SERVERS)
