"""What a log line costs: one at info with ids, written, and one at debug that is filtered out, beside peers.

``make bench SUBJECT=log`` prints a table and writes ``benchmarks/results/log.json``. Every subject has five fields of
the caller's; ours adds correlation, trace and span id, service, version, environment and call site, and looks for secrets in
every field. Structlog is set up as its page on performance advises, without any of these. All
write to the same file, ``/dev/null``. CPU time, so that a busy machine says as much as an idle one.
"""

import argparse
import asyncio
import io
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import msgspec
import orjson
import structlog
from opentelemetry import trace
from pythonjsonlogger.json import JsonFormatter

from harness import Call, measure, print_table, rows_of, versions_of, write_result
from huleedu_service_libs.logging_utils import configure_service_logging, create_service_logger, log_context

EVENT = "Essay stored"
FIELDS: dict[str, Any] = {
    "essay_id": str(uuid4()),
    "batch_id": str(uuid4()),
    "topic": "huleedu.essay.stored.v1",
    "words": 812,
    "seconds": 0.0312,
}
FAILED = {**FIELDS, "seconds": "KeyError: 'words'"}  # in a colon and a "key" there may be a secret
SPAN = trace.NonRecordingSpan(trace.SpanContext(0xABCDEF0123456789ABCDEF0123456789, 0xABCDEF0123456789, is_remote=True))
FASTEST = "structlog, its best set-up, orjson"


def structlogs_best(dumps: Callable[..., bytes], target: Any) -> Any:
    """As the page on performance of structlog's documentation has it."""
    return structlog.wrap_logger(
        structlog.BytesLogger(target),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    ).bind()


def msgspec_dumps(value: Any, default: Any = None) -> bytes:
    """The signature that structlog expects."""
    return bytes(msgspec.json.encode(value, enc_hook=default))


def usual_structlog() -> Any:
    """The usual chain over the standard library."""
    logger = logging.getLogger("bench.structlog")  # noqa: TID251  # a peer
    _alone(logger, logging.Formatter("%(message)s"))
    return structlog.wrap_logger(
        logger,
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    ).bind()


def json_logger(name: str = "bench.json", more: str = "") -> logging.Logger:
    """python-json-logger with the fields that its documentation starts with."""
    logger = logging.getLogger(name)  # noqa: TID251  # a peer
    _alone(logger, JsonFormatter(f"%(asctime)s %(levelname)s %(name)s %(message)s{more}"))
    return logger


def json_logger_with_ids() -> logging.Logger:
    """The same with what ours has on its lines, but without looking for secrets."""
    logger = json_logger("bench.json.ids", " %(filename)s %(funcName)s %(lineno)d")

    def add_ids(record: logging.LogRecord) -> bool:
        context = trace.get_current_span().get_span_context()
        record.trace_id, record.span_id = format(context.trace_id, "032x"), format(context.span_id, "016x")
        record.__dict__.update(structlog.contextvars.get_contextvars())
        record.service_name, record.service_version, record.environment = "essay-service", "1.0.0", "production"
        return True

    logger.addFilter(add_ids)
    return logger


def _alone(logger: logging.Logger, formatter: logging.Formatter) -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO)


def _call(run: Callable[[], object]) -> Call:
    async def call() -> None:
        for _ in range(10):
            run()

    return call


def info_lines(target: Any) -> dict[str, Call]:
    """One line at info."""
    ours = create_service_logger("essay_service.storage")
    best, other = structlogs_best(orjson.dumps, target), structlogs_best(msgspec_dumps, target)
    usual, peer, same = usual_structlog(), json_logger(), json_logger_with_ids()
    return {
        "ours: ids, call site, redaction": _call(lambda: ours.info(EVENT, **FIELDS)),
        "ours, an error's text among the fields": _call(lambda: ours.info(EVENT, **FAILED)),
        FASTEST: _call(lambda: best.info(EVENT, **FIELDS)),
        "structlog, its best set-up, msgspec": _call(lambda: other.info(EVENT, **FIELDS)),
        "structlog over the standard library": _call(lambda: usual.info(EVENT, **FIELDS)),
        "python-json-logger": _call(lambda: peer.info(EVENT, extra=FIELDS)),
        "python-json-logger, ids and call site": _call(lambda: same.info(EVENT, extra=FIELDS)),
    }


def filtered_calls(target: Any) -> dict[str, Call]:
    """One call at debug, below the threshold."""
    ours, peer = create_service_logger("essay_service.storage"), json_logger()
    best = structlogs_best(orjson.dumps, target)
    return {
        "ours": _call(lambda: ours.debug(EVENT, **FIELDS)),
        "structlog": _call(lambda: best.debug(EVENT, **FIELDS)),
        "standard library": _call(lambda: peer.debug(EVENT, extra=FIELDS)),
    }


async def _main(rounds: int) -> None:
    table, target = sys.stdout, open(os.devnull, "wb")  # noqa: ASYNC230, PTH123, SIM115  # for the whole run
    configure_service_logging("essay-service", "production")
    results = {}
    sys.stdout = io.TextIOWrapper(target)
    with log_context(correlation_id=str(uuid4())), trace.use_span(SPAN):
        for title, subjects in (("info", info_lines(target)), ("debug, filtered", filtered_calls(target))):
            results[title] = await measure(subjects, rounds=rounds, calls=20, clock=time.process_time_ns)
    sys.stdout = table
    print("Ten calls each.")
    print_table("one line at info, as JSON", results["info"], {}, FASTEST)
    print_table("one call at debug, filtered", results["debug, filtered"], {}, "structlog")
    content = {
        "unit": "ns for ten calls",
        "versions": versions_of(["structlog", "orjson", "msgspec", "python-json-logger"]),
        "parts": {title: rows_of(figures) for title, figures in results.items()},
    }
    print(f"\nwritten: {write_result('log', content)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    asyncio.run(_main(parser.parse_args().rounds))
