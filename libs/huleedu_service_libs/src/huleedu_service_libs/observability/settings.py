"""How spans are sampled and where they go. Pure; `provider` and the part of it that knows the SDK use it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from huleedu_service_libs._checks import positive

__all__ = ["TracingSettings"]


@dataclass(frozen=True, kw_only=True)
class TracingSettings:
    """How spans are sampled and where they go. What is ``None`` is read from OpenTelemetry's own variables.

    Attributes:
        endpoint: Of the OTLP gRPC collector. By default ``OTEL_EXPORTER_OTLP_ENDPOINT``, then ``http://localhost:4317``.
            ``https://`` means TLS; an address without scheme in the variables means none, unless they ask for it.
        sample_ratio: Of the traces that begin here, 0 to 1; what came in sampled stays sampled. By default
            ``OTEL_TRACES_SAMPLER`` and its argument, then all.
        insecure: Without TLS. By default what the endpoint's scheme says.
        certificate_file: Of the authority that signed the collector's certificate, PEM.
        headers: Sent to the collector, such as an API key. By default ``OTEL_EXPORTER_OTLP_HEADERS``.
        export_timeout_s: For one attempt to export.
        queue_size: Spans that wait for export at most; what comes beyond is dropped and counted.
        batch_size: Spans in one export at most.
        flush_timeout_s: How long `shutdown_tracing` may take to send what waits.

    Raises:
        ValueError: A figure is out of its range, the endpoint has no scheme, or ``insecure`` contradicts what asks for TLS.
    """

    endpoint: str | None = None
    sample_ratio: float | None = None
    insecure: bool | None = None
    certificate_file: str | None = None
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    export_timeout_s: float = 10.0
    queue_size: int = 2048
    batch_size: int = 512
    flush_timeout_s: float = 5.0

    def __post_init__(self) -> None:
        if self.sample_ratio is not None and not 0 <= self.sample_ratio <= 1:
            raise ValueError(f"sample_ratio must be between 0 and 1, is {self.sample_ratio}")
        if self.endpoint is not None and urlsplit(self.endpoint).scheme not in {"http", "https"}:
            raise ValueError(f"endpoint must begin with http:// or https://, is {self.endpoint!r}")
        if self.insecure and (self.certificate_file is not None or str(self.endpoint).startswith("https:")):
            raise ValueError(
                "insecure=True contradicts certificate_file and an endpoint of https://: leave one of them out"
            )
        if not 0 < self.batch_size <= self.queue_size:
            raise ValueError(f"batch_size must be 1 to queue_size ({self.queue_size}), is {self.batch_size}")
        positive(export_timeout_s=self.export_timeout_s, flush_timeout_s=self.flush_timeout_s)
