"""Spans of messages that are sent and processed, in the trace of whoever caused them.

Kafka's producers and consumers use it. Names and attributes follow OpenTelemetry's messaging
conventions 1.44 (https://opentelemetry.io/docs/specs/semconv/messaging/, not yet stable). A message's span is a child of the
context that the message carries and links to it too, so that one request can be followed through outbox and consumers.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.environment_variables import OTEL_PYTHON_TRACER_PROVIDER
from opentelemetry.trace import Link, ProxyTracerProvider, Span, SpanContext, SpanKind, Status, StatusCode, Tracer

from huleedu_service_libs._redaction import error_text
from huleedu_service_libs._scopes import restore
from huleedu_service_libs.observability.current import CORRELATION_ID
from huleedu_service_libs.observability.recording import record_exception_once
from huleedu_service_libs.observability.tracing import extract_trace_context, inject_trace_context

__all__ = [
    "CONVERSATION",
    "is_processing",
    "now_ns",
    "process_span",
    "record_sends",
    "send_span",
    "spans_are_recorded",
]

CONVERSATION = "messaging.message.conversation_id"
"""The attribute for the correlation id."""

_PLACE = otel_context.create_key("huleedu-processed-message")
_TRACE_HEADERS = ("traceparent", "tracestate")
_SAMPLED = 1
_PROVIDER_BY_ENVIRONMENT = OTEL_PYTHON_TRACER_PROVIDER in os.environ


class _Message(Protocol):
    @property
    def topic(self) -> str: ...
    @property
    def value(self) -> bytes: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class _Outcome(Protocol):
    @property
    def error(self) -> Exception | None: ...
    @property
    def attempted(self) -> bool: ...


def spans_are_recorded() -> bool:
    """Whether the process has a tracer provider; without one no span need be made.

    Asked for each message, hence the look at the module's variable first: OpenTelemetry itself reads the
    environment at each call for as long as nobody has set a provider.
    """
    if trace._TRACER_PROVIDER is None and not _PROVIDER_BY_ENVIRONMENT:  # noqa: SLF001  # as above
        return False
    return not isinstance(trace.get_tracer_provider(), ProxyTracerProvider)


def now_ns() -> int:
    """The time of spans: nanoseconds since the epoch."""
    return time.time_ns()


@contextmanager
def process_span(
    tracer: Tracer, topic: str, carrier: Mapping[str, Any], attributes: Mapping[str, str | int]
) -> Iterator[Span]:
    """Run the block in a span of kind consumer, child of the span that the message carries, and linked to it.

    Without an SDK nothing is recorded, and the message's own trace is current in the block.

    Args:
        tracer: Where the span is made.
        topic: Where the message came from; part of the name.
        carrier: W3C trace context of the message; without one a new trace begins.
        attributes: Of the span. ``messaging.message.conversation_id`` is the correlation id of spans inside, too.

    Raises:
        Exception: Whatever the block raises, after it was recorded, unless an inner span has done so.
    """
    context = extract_trace_context(dict(carrier)) if carrier else Context()
    shown = {"messaging.system": "kafka", "messaging.operation.name": "process", "messaging.operation.type": "process"}
    span = tracer.start_span(
        f"process {topic}",
        context=context,
        kind=SpanKind.CONSUMER,
        attributes={**shown, "messaging.destination.name": topic, **attributes},
        links=_links(context),
    )
    correlation = attributes.get(CONVERSATION)
    known = CORRELATION_ID.set(str(correlation) if correlation else CORRELATION_ID.get())
    token = otel_context.attach(otel_context.set_value(_PLACE, _place(topic, attributes)))
    try:
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield span
            except Exception as error:
                record_exception_once(span, error)
                span.set_attribute("error.type", type(error).__name__)
                raise
    finally:
        otel_context.detach(token)
        restore(CORRELATION_ID, known)


def is_processing(topic: str, attributes: Mapping[str, str | int]) -> bool:
    """Whether a `process_span` of that very message is current: a consumer inside a consumer makes no second one."""
    return otel_context.get_value(_PLACE) == _place(topic, attributes)


@contextmanager
def send_span(topic: str, carrier: Mapping[str, Any], attributes: Mapping[str, str | int]) -> Iterator[dict[str, str]]:
    """Run the block, which sends one message, in a span of kind producer; gives headers to add to the message.

    The span is a child of the context that the message carries already, which stays as it is, so that a message is the
    same at each attempt. A message that carries none gets that of the span.

    Args:
        topic: Where to; part of the name.
        carrier: What the message carries: its headers or its envelope's metadata.
        attributes: Of the span.

    Raises:
        Exception: Whatever the block raises, after it was recorded.
    """
    added: dict[str, str] = {}
    carries = "traceparent" in carrier
    if not spans_are_recorded():
        if not carries:
            inject_trace_context(added)
        yield added
        return
    context = extract_trace_context(dict(carrier)) if carries else otel_context.get_current()
    span = _tracer().start_span(
        f"send {topic}",
        context=context,
        kind=SpanKind.PRODUCER,
        attributes={**_sending(topic), **attributes},
        links=_links(context) if carries else (),
    )
    with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        if not carries:
            inject_trace_context(added)
        try:
            yield added
        except Exception as error:
            record_exception_once(span, error)
            span.set_attribute("error.type", type(error).__name__)
            raise


def record_sends(
    messages: Sequence[_Message], outcomes: Sequence[_Outcome], *, client_id: str, started_ns: int
) -> None:
    """Record, after a batch, a span for each message that was sent and whose own trace is sampled.

    Each in the trace of the request that caused it, from the beginning of the batch to now, linked to the span that is
    current, such as the relay's for the whole batch. Messages without a
    context, or with one that is not sampled, cost a look at their headers.
    """
    ended, tracer, together = now_ns(), _tracer(), _links(otel_context.get_current())
    for message, outcome in zip(messages, outcomes, strict=True):
        carrier = _sampled_carrier(message.headers) if outcome.attempted else None
        if carrier is None:
            continue
        context = extract_trace_context(carrier)
        span = tracer.start_span(
            f"send {message.topic}",
            context=context,
            kind=SpanKind.PRODUCER,
            attributes={**_sending(message.topic), **_described(message, client_id, len(messages))},
            links=[*_links(context), *together],
            start_time=started_ns,
        )
        if outcome.error is not None:
            span.set_attribute("error.type", type(outcome.error).__name__)
            span.set_status(Status(StatusCode.ERROR, error_text(outcome.error)))
        span.end(ended)


def _tracer() -> Tracer:
    return trace.get_tracer("huleedu_service_libs.kafka")


def _sending(topic: str) -> dict[str, str]:
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": topic,
    }


def _described(message: _Message, client_id: str, batch: int) -> dict[str, str | int]:
    found: dict[str, str | int] = {
        "messaging.client.id": client_id,
        "messaging.batch.message_count": batch,
        "messaging.message.body.size": len(message.value),
    }
    if message.key:
        found["messaging.kafka.message.key"] = message.key.decode("utf-8", "replace")
    for name, value in message.headers:
        if name == "event_id":
            found["messaging.message.id"] = value.decode("utf-8", "replace")
        elif name == "trace_id":  # the standard headers' name for the correlation id
            found[CONVERSATION] = value.decode("utf-8", "replace")
    return found


def _sampled_carrier(headers: Sequence[tuple[str, bytes]]) -> dict[str, str] | None:
    for name, value in headers:
        if name == "traceparent":
            try:
                sampled = int(value[-2:], 16) & _SAMPLED
            except ValueError:
                return None
            found = {each: text.decode("latin-1") for each, text in headers if each in _TRACE_HEADERS}
            return found if sampled else None
    return None


def _links(context: Context) -> Sequence[Link]:
    origin: SpanContext = trace.get_current_span(context).get_span_context()
    return [Link(origin)] if origin.is_valid else ()


def _place(topic: str, attributes: Mapping[str, str | int]) -> tuple[str, str, str]:
    partition = attributes.get("messaging.destination.partition.id", "")
    return topic, str(partition), str(attributes.get("messaging.kafka.offset", ""))
