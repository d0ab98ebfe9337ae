"""Which topics a consumer reads and writes beside its own, and making those that are missing. `EventConsumer` uses it."""

from collections.abc import Mapping

from huleedu_service_libs._redaction import error_fields
from huleedu_service_libs.kafka.consumer.config import ConsumerConfig
from huleedu_service_libs.kafka.consumer.driver import create_missing_topics
from huleedu_service_libs.kafka.consumer.metrics import ConsumerMetrics
from huleedu_service_libs.kafka.consumer.registry import Registry
from huleedu_service_libs.logging_utils import create_service_logger

__all__ = ["TopicNames", "make_topics"]

logger = create_service_logger("huleedu_service_libs.consumer")


class TopicNames:
    """The names.

    Args:
        config: Of the consumer.
        registry: Its handlers: the longest list of delays says how many retry topics there are.
        letters: Whether it can publish; without, there are no retry topics.

    Attributes:
        retry: The retry topics.
        read: What to subscribe to.
    """

    def __init__(self, config: ConsumerConfig, registry: Registry, *, letters: bool) -> None:
        self._config = config
        tiers = max((len(each.retry.delayed_s) for each in registry), default=0) if letters else 0
        self._origins = {config.retry_topic_of(t, n): t for t in config.topics for n in range(1, tiers + 1)}
        self.retry = list(self._origins)
        self.read = [*config.topics, *self.retry]

    def to_make(self) -> dict[str, str]:
        """Dead-letter and retry topics, each with the topic whose shape it gets."""
        config = self._config
        return {config.dead_letter_topic_of(topic): topic for topic in config.topics} | self._origins


async def make_topics(
    config: ConsumerConfig, bootstrap_servers: str, wanted: Mapping[str, str], metrics: ConsumerMetrics
) -> None:
    """Make those of ``wanted`` that are missing; a broker that refuses is told, and no reason not to start."""
    try:
        made = await create_missing_topics(bootstrap_servers, wanted, config.client_options)
    except Exception as error:  # noqa: BLE001  # the broker may make them by itself, or somebody has
        metrics.swallowed("create_topics")
        logger.warning("consumer_topics_not_created", group=config.group_id, **error_fields(error))
    else:
        if made:
            logger.info("consumer_topics_created", group=config.group_id, topics=made)
