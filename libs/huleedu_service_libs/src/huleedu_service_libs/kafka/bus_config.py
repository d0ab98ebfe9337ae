"""Settings of `KafkaBus`; plain data that checks itself."""

from dataclasses import dataclass
from typing import Literal

from huleedu_service_libs._checks import not_negative, positive, values_of

__all__ = ["Compression", "KafkaBusConfig"]

Compression = Literal["gzip", "snappy", "lz4", "zstd"]

_MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaBusConfig:
    """How patient, how large, how batched.

    Attributes:
        request_timeout_s: Seconds that one request to a broker may take, and that an unknown topic
            is looked for.
        publish_timeout_s: Seconds until a message that was not acknowledged is given up; what was
            sent may still arrive.
        start_timeout_s: Seconds in which `start` finds a broker or fails; also for a rebuilt producer. Longer than one
            request that times out.
        stop_timeout_s: Seconds in which `stop` sends what is buffered; then it is dropped and logged.
        max_request_size: Largest message, bytes with key and headers. Topics have a limit of their
            own (``max.message.bytes``). Called as Kafka calls it, like the next one.
        batch_size: Bytes, not events, that one record batch of a partition may reach: Kafka's ``batch.size``.
        max_buffered_bytes: Bytes of messages that `publish` has on their way; who comes then waits for
            room, in turn, within ``publish_timeout_s``. As ``buffer.memory`` of the Java client, whose default it has.
        linger_ms: Milliseconds that a message waits for company. Batches do not need it.
        compression: Codec of record batches; all but ``gzip`` need aiokafka's extra of that name.
        enable_idempotence: Whether the broker recognises repeated requests. Switch it off only for a
            broker that cannot (``InitProducerId`` fails there): a retry may then write a message twice.

    Raises:
        ValueError: A value makes no sense; the text names it.
    """

    request_timeout_s: float = 10.0
    publish_timeout_s: float = 30.0
    start_timeout_s: float = 15.0
    stop_timeout_s: float = 10.0
    max_request_size: int = _MEBIBYTE
    batch_size: int = _MEBIBYTE // 4
    max_buffered_bytes: int = 32 * _MEBIBYTE
    linger_ms: int = 0
    compression: Compression | None = None
    enable_idempotence: bool = True

    def __post_init__(self) -> None:
        positive(
            **values_of(
                self,
                "request_timeout_s",
                "publish_timeout_s",
                "start_timeout_s",
                "stop_timeout_s",
                "max_request_size",
                "batch_size",
            )
        )
        not_negative(linger_ms=self.linger_ms)
        if self.batch_size > self.max_request_size:
            raise ValueError(
                f"batch_size ({self.batch_size}) must not exceed max_request_size ({self.max_request_size})"
            )
        if self.max_request_size > self.max_buffered_bytes:
            raise ValueError(
                f"max_buffered_bytes ({self.max_buffered_bytes}) must hold at least one message "
                f"(max_request_size={self.max_request_size})"
            )
        if self.publish_timeout_s < self.request_timeout_s:
            raise ValueError(
                f"publish_timeout_s ({self.publish_timeout_s:g}) must leave room for one request "
                f"(request_timeout_s={self.request_timeout_s:g})"
            )
