"""Parts of the Kafka client and what is built on it. The names below are fetched when they are first used."""

from typing import TYPE_CHECKING

from huleedu_service_libs._lazy import lazy_exports

if TYPE_CHECKING:
    from huleedu_service_libs.kafka.fallback_handler import FallbackMessageHandler
    from huleedu_service_libs.kafka.journal import FileJournal
    from huleedu_service_libs.kafka.resilient_kafka_bus import ResilientKafkaPublisher
    from huleedu_service_libs.kafka.spill import FileSpill

__all__ = ["FallbackMessageHandler", "FileJournal", "FileSpill", "ResilientKafkaPublisher"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "FallbackMessageHandler": "huleedu_service_libs.kafka.fallback_handler",
        "FileJournal": "huleedu_service_libs.kafka.journal",
        "FileSpill": "huleedu_service_libs.kafka.spill",
        "ResilientKafkaPublisher": "huleedu_service_libs.kafka.resilient_kafka_bus",
    },
)
