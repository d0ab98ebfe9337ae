"""How an envelope becomes the bytes of a Kafka message.

`KafkaBus.publish` uses it. The outbox stores events as JSON and makes its bytes
from that (``outbox.wire``), with the same `_json.dumps`. Knows no driver.
"""

from typing import Any

from pydantic_core import PydanticSerializationError

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs._json import dumps
from huleedu_service_libs.kafka.errors import EnvelopeEncodingError

__all__ = ["encode_envelope"]


def encode_envelope(envelope: EventEnvelope[Any]) -> bytes:
    """The JSON of ``envelope.model_dump(mode="json")``, UTF-8, compact, non-ASCII text kept.

    ``NaN`` and infinities become ``null``, as pydantic has it: JSON has no such numbers, and a
    consumer that is not Python could not read them.

    Args:
        envelope: The event.

    Raises:
        EnvelopeEncodingError: ``data`` or ``metadata`` hold something without a JSON form.
    """
    try:
        return dumps(envelope.model_dump(mode="json"))
    except (PydanticSerializationError, TypeError, ValueError, RecursionError) as error:
        raise EnvelopeEncodingError(str(envelope.event_type), str(error)) from error
