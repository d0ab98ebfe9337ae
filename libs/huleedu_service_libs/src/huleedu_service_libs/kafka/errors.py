"""What can go wrong when publishing, as far as this library finds it out itself.

::

    KafkaPublishError
    ├── UnsendableMessageError     found before sending: breakers don't count it, nothing repeats it
    │   ├── EnvelopeEncodingError      the envelope has no JSON form
    │   ├── InvalidTopicError          the name is not a legal topic name
    │   ├── InvalidMessageError        key, value or headers have types that Kafka does not take
    │   └── MessageTooLargeError       larger than the client may send
    ├── KafkaBusStoppedError       also RuntimeError
    ├── MessageHeldBackError       an earlier message of the partition or key failed
    ├── KafkaUnreachableError      also aiokafka's KafkaConnectionError (in driver_errors)
    └── PublishTimeoutError        also aiokafka's KafkaTimeoutError and TimeoutError (in driver_errors)

Errors of the broker stay what aiokafka makes of them. This module knows no
driver, so that whoever only encodes events needs none; ``driver_errors`` has the rest.
"""

from pathlib import Path

from huleedu_service_libs.resilience.errors import NotReachedError

__all__ = [
    "EnvelopeEncodingError",
    "InvalidMessageError",
    "InvalidTopicError",
    "JournalDamagedError",
    "JournalInUseError",
    "KafkaBusStoppedError",
    "KafkaPublishError",
    "MessageHeldBackError",
    "MessageTooLargeError",
    "UnsendableMessageError",
]


class KafkaPublishError(Exception):
    """Root of the errors that this library detects itself."""


class UnsendableMessageError(KafkaPublishError, NotReachedError):
    """A message that can never be sent as it is; the broker was not asked."""

    retriable = False


class EnvelopeEncodingError(UnsendableMessageError):
    """An envelope has no JSON form.

    Attributes:
        event_type: Type of the event.
        reason: What the encoder said.
    """

    def __init__(self, event_type: str, reason: str) -> None:
        super().__init__(event_type, reason)
        self.event_type = event_type
        self.reason = reason

    def __str__(self) -> str:
        return f"Event of type {self.event_type!r} cannot be encoded as JSON: {self.reason}"


class InvalidTopicError(UnsendableMessageError):
    """A topic name that no broker accepts.

    Attributes:
        topic: The name.
    """

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.topic = topic

    def __str__(self) -> str:
        return (
            f"{self.topic[:260]!r} is not a legal topic name: 1 to 249 characters of a-z, A-Z, 0-9, '.', '_' and '-', "
            "and neither '.' nor '..'"
        )


class InvalidMessageError(UnsendableMessageError):
    """Key, value or headers of a message have types that Kafka does not take.

    Attributes:
        topic: Where it was to go.
        reason: What is wrong.
    """

    def __init__(self, topic: str, reason: str) -> None:
        super().__init__(topic, reason)
        self.topic = topic
        self.reason = reason

    def __str__(self) -> str:
        return f"Message for topic {self.topic!r} is malformed: {self.reason}"


class MessageTooLargeError(UnsendableMessageError):
    """A message is larger than the client may send.

    Attributes:
        topic: Where it was to go.
        size: Its size on the wire, bytes.
        limit: What is allowed, bytes.
    """

    def __init__(self, topic: str, *, size: int, limit: int) -> None:
        super().__init__(topic, size, limit)
        self.topic = topic
        self.size = size
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"Message for topic {self.topic!r} has {self.size} bytes, more than max_request_size={self.limit}. "
            "Store the content elsewhere and send a reference to it, or raise the limit here and on the topic "
            "(max.message.bytes)"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return _too_large, (self.topic, self.size, self.limit)


def _too_large(topic: str, size: int, limit: int) -> MessageTooLargeError:
    """Rebuilds the error for pickle and copy, which pass arguments by position."""
    return MessageTooLargeError(topic, size=size, limit=limit)


class KafkaBusStoppedError(KafkaPublishError, RuntimeError):
    """The bus is not running.

    Attributes:
        client_id: The bus.
        topic: Where the message was to go.
    """

    retriable = True

    def __init__(self, client_id: str, topic: str) -> None:
        super().__init__(client_id, topic)
        self.client_id = client_id
        self.topic = topic

    def __str__(self) -> str:
        return (
            f"Kafka bus {self.client_id!r} is not running, so nothing can be published to {self.topic!r}: "
            "call start() first, and publish nothing after stop()"
        )


class MessageHeldBackError(KafkaPublishError):
    """A message was not sent, because an earlier one of its partition or key failed.

    Attributes:
        topic: Where it was to go.
        waits_for: What happened to the earlier message.
    """

    retriable = True

    def __init__(self, topic: str, waits_for: str) -> None:
        super().__init__(topic, waits_for)
        self.topic = topic
        self.waits_for = waits_for

    def __str__(self) -> str:
        return f"Message for topic {self.topic!r} held back to keep the order: {self.waits_for}"


class JournalInUseError(RuntimeError):
    """Another process, or another publisher, writes the journal.

    Attributes:
        path: The journal.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"Journal {str(self.path)!r} is in use by another process: give each publisher a file of its own"


class JournalDamagedError(ValueError):
    """A line of the journal cannot be read.

    Attributes:
        path: The journal.
        line: Which line.
        why: What is wrong with it.
    """

    def __init__(self, path: Path, line: int, why: str) -> None:
        super().__init__(path, line, why)
        self.path = path
        self.line = line
        self.why = why

    def __str__(self) -> str:
        return (
            f"Journal {str(self.path)!r} cannot be read at line {self.line} ({self.why}): mend or remove that line, "
            "or move the file away to start without its messages"
        )
