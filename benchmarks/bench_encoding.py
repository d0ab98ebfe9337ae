"""What it costs to write an event's bytes and to read them, beside what services write themselves.

Run by ``make bench SUBJECT=encoding``. CPU time; one event of 680 bytes and one of 64 KiB. Each decoder ends with the same
thing, a validated envelope and validated data. The ceiling is JSON alone, without any check.
"""

import asyncio
import json
from collections.abc import Callable
from time import process_time_ns
from typing import Any

import orjson
from pydantic import BaseModel

from common_core import EventEnvelope
from harness import Call, measure, print_table, rows_of, versions_of, write_result
from huleedu_service_libs.kafka.consumer.registry import data_of, envelope_of
from huleedu_service_libs.kafka.encoding import encode_envelope

ROUNDS, CALLS = 101, 200
OURS = "ours"


class Essay(BaseModel):
    """Data of an event."""

    essay_id: str
    student_id: str
    text: str
    scores: list[int]


def _event(words: int) -> EventEnvelope[Any]:
    data = Essay(essay_id="essay-1", student_id="s" * 36, text="word " * words, scores=[1, 2, 3])
    return EventEnvelope(event_type="essay.submitted.v1", source_service="bench", data=data)


def _call(function: Callable[[], Any]) -> Call:
    async def run() -> Any:
        return function()

    return run


def encoders(event: EventEnvelope[Any]) -> dict[str, Call]:
    """From the envelope to bytes."""
    plain = event.model_dump(mode="json")
    return {
        OURS: _call(lambda: encode_envelope(event)),
        "json.dumps of model_dump": _call(lambda: json.dumps(event.model_dump(mode="json")).encode()),
        "pydantic: model_dump_json": _call(lambda: event.model_dump_json().encode()),
        "ceiling: orjson, of what is plain already": _call(lambda: orjson.dumps(plain)),
    }


def decoders(raw: bytes) -> dict[str, Call]:
    """From bytes to an envelope with typed data."""

    def by_json() -> Any:
        envelope: EventEnvelope[Any] = EventEnvelope.model_validate(json.loads(raw))
        return Essay.model_validate(envelope.data)

    def by_pydantic() -> Any:
        envelope: EventEnvelope[Any] = EventEnvelope.model_validate_json(raw)
        return Essay.model_validate(envelope.data)

    return {
        OURS: _call(lambda: data_of(envelope_of(raw), Essay)),
        "json.loads, model_validate": _call(by_json),
        "pydantic: model_validate_json": _call(by_pydantic),
        "ceiling: orjson alone": _call(lambda: orjson.loads(raw)),
    }


async def main() -> None:
    """Measure, print, write."""
    parts: dict[str, Any] = {}
    for size, words in (("680 bytes", 60), ("64 KiB", 13_000)):
        event = _event(words)
        for verb, subjects in (("encode", encoders(event)), ("decode", decoders(encode_envelope(event)))):
            figures = await measure(subjects, rounds=ROUNDS, calls=CALLS, clock=process_time_ns)
            print_table(f"{verb} {size}", figures, {}, OURS)
            parts[f"{verb} {size}"] = rows_of(figures)
    content = {"unit": "ns of CPU an event (median of interleaved rounds)", "parts": parts}
    print(f"\n{write_result('encoding', {**content, 'versions': versions_of(['pydantic', 'orjson'])})}")


if __name__ == "__main__":
    asyncio.run(main())
