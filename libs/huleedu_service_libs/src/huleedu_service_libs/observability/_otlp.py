"""The exporter that `_sdk` sends spans with: where to, over TLS or not, and how often it complains."""

import logging
import os
import ssl
import time
from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk.trace.export import SpanExporter

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.observability.settings import TracingSettings

__all__ = ["exporter_of"]

_EXPORTER_LOGGER = "opentelemetry.exporter.otlp.proto.grpc.exporter"
_TELL_EVERY_S = 60.0

_DEFAULT_ENDPOINT = "http://localhost:4317"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_ABOUT_TLS = tuple(
    f"OTEL_EXPORTER_OTLP_{signal}{name}" for signal in ("TRACES_", "") for name in ("INSECURE", "CERTIFICATE")
)


class _Seldom(logging.Filter):
    """Lets one line a minute through: the exporter tells of a collector that is away at every attempt."""

    def __init__(self) -> None:
        super().__init__()
        self._next = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002  # all lines of that logger are alike
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _TELL_EVERY_S
        return True


def exporter_of(settings: TracingSettings) -> SpanExporter:
    """An exporter to an OTLP gRPC collector. Connects when it has something to send.

    Raises:
        FileNotFoundError: There is no certificate file of that name.
        ValueError: It holds no certificate.
    """
    with requires_extra("tracing", module=__name__):
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  # a test's provider needs no gRPC

    logger = logging.getLogger(_EXPORTER_LOGGER)  # noqa: TID251  # OpenTelemetry's own
    if not any(isinstance(each, _Seldom) for each in logger.filters):
        logger.addFilter(_Seldom())
    options: dict[str, Any] = {"timeout": settings.export_timeout_s}
    endpoint = settings.endpoint or _endpoint_of(os.environ, settings)
    if endpoint is not None:
        options["endpoint"] = endpoint
    if settings.insecure is not None:
        options["insecure"] = settings.insecure
    if settings.headers is not None:
        options["headers"] = {name.lower(): value for name, value in settings.headers.items()}  # as gRPC wants them
    if settings.certificate_file is not None:
        options["credentials"] = _credentials(settings.certificate_file)
    exporter: SpanExporter = OTLPSpanExporter(**options)
    return exporter


def _endpoint_of(environment: Mapping[str, str], settings: TracingSettings) -> str | None:
    """What the exporter would read otherwise than people mean it: an empty variable, and an address without scheme.

    That it would take for TLS; ``collector:4317`` is what stands in many a compose file, for a collector without.
    """
    given = next((environment[name].strip() for name in _ENDPOINTS if name in environment), None)
    if given is None or "://" in given:
        return None
    if not given:
        return _DEFAULT_ENDPOINT
    asked = settings.insecure is False or settings.certificate_file or any(environment.get(name) for name in _ABOUT_TLS)
    return None if asked else f"http://{given}"


def _credentials(certificate_file: str) -> Any:
    with requires_extra("tracing", module=__name__):
        from grpc import ssl_channel_credentials  # noqa: PLC0415  # as above

    with open(certificate_file, "rb") as file:  # noqa: PTH123  # pathlib reads it no better
        authority = file.read()
    try:  # gRPC would tell of it line after line, when spans are sent
        found = bool(authority.strip()) and ssl.create_default_context(cadata=authority.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError):
        found = False
    if not found:
        raise ValueError(
            f"certificate_file {certificate_file!r} holds no PEM certificate: "
            "give that of the authority that signed the collector's"
        )
    return ssl_channel_credentials(authority)
