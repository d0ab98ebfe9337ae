"""What the consumers of *spellcheck* and *notify* have in common; each registers its own handlers.

Handlers run once for each event (`IdempotentStep`). A handler that fails is tried again; while a database, Redis or
Kafka is away it is tried for ever, since the event is not to blame; what cannot be processed at all goes to
the dead-letter topic.
"""

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from essay_pipeline.settings import IDEMPOTENCY_PREFIX, PipelineSettings
from huleedu_service_libs.idempotency_v2 import IdempotencyConfig, IdempotentStep
from huleedu_service_libs.kafka.consumer import ConsumerConfig, EventConsumer, RetryPolicy
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.protocols import AtomicRedisClientProtocol

__all__ = ["make_consumer"]

_OUTAGES = (OSError, OperationalError, InterfaceError, PoolTimeoutError, RedisConnectionError, RedisTimeoutError)
_RETRY = RetryPolicy(attempts=8, first_delay_s=0.2, longest_delay_s=10.0, outages=_OUTAGES)


def make_consumer(
    settings: PipelineSettings, group: str, topics: tuple[str, ...], redis: AtomicRedisClientProtocol, bus: KafkaBus
) -> EventConsumer:
    """A consumer without handlers; register them with ``on``, and start it.

    Args:
        settings: Of the service.
        group: The consumer group.
        topics: What to read, by the names that all pipelines share.
        redis: Remembers what was processed.
        bus: Takes dead letters.
    """
    once = IdempotencyConfig(
        settings.SERVICE_NAME, key_prefix=settings.redis_key(IDEMPOTENCY_PREFIX), in_progress="wait"
    )
    config = ConsumerConfig(
        group_id=settings.group(group),
        client_id=settings.SERVICE_NAME,
        topics=tuple(settings.topic(name) for name in topics),
        retry=_RETRY,
        drain_timeout_s=8.0,
        # Whoever has partition n of one topic has it of both: one process sees everything about an essay.
        assignment="range",
    )
    return EventConsumer(
        config,
        bootstrap_servers=settings.KAFKA_BOOTSTRAP_SERVERS,
        publisher=bus,
        steps=[IdempotentStep(redis, once)],
    )
