"""What can be said of a message before it is sent: topic name, types, size.

`KafkaBus` asks for each event, ``batching`` for each message of a batch. It
knows no broker: limits of a topic and whether it exists show only when sending.
"""

import re
from typing import Any

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.kafka.errors import (
    InvalidMessageError,
    InvalidTopicError,
    KafkaPublishError,
    MessageTooLargeError,
)
from huleedu_service_libs.protocols import OutgoingMessage

with requires_extra("kafka", module=__name__):
    from aiokafka.record.default_records import DefaultRecordBatchBuilder

__all__ = ["find_fault"]

# Kafka's own rule: org.apache.kafka.common.internals.Topic
_LEGAL_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")


def find_fault(message: OutgoingMessage, limit: int) -> KafkaPublishError | None:
    """Why ``message`` can never be sent, or ``None``.

    Args:
        message: As it goes over the wire.
        limit: Largest size, bytes.
    """
    topic: Any = message.topic
    if not _is_legal_topic(topic):
        return InvalidTopicError(str(topic))
    try:
        size = DefaultRecordBatchBuilder.estimate_size_in_bytes(
            message.key, message.value, list(message.headers) if message.headers else []
        )
    except (TypeError, ValueError, AttributeError) as error:
        return InvalidMessageError(topic, f"key and value must be bytes, headers pairs of str and bytes ({error})")
    return MessageTooLargeError(topic, size=size, limit=limit) if size > limit else None


def _is_legal_topic(topic: Any) -> bool:
    return isinstance(topic, str) and topic not in {".", ".."} and _LEGAL_TOPIC.fullmatch(topic) is not None
