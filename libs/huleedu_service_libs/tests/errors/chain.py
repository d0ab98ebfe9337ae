"""Three services for `test_chain`, each run as a process: ``python chain.py ROLE``; settings from the environment.

*first* (Quart) asks *second* (FastAPI), which publishes a message and fails; *third* consumes the message and
fails too. Nobody passes a correlation id by hand.
"""

import asyncio
import os
import sys
from typing import Any

import httpx
import uvicorn
from aiokafka import AIOKafkaConsumer
from fastapi import FastAPI
from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs.error_handling import (
    ErrorContext,
    HuleEduError,
    continue_from,
    error_context,
    error_from_response,
    log_failure_once,
    raise_resource_not_found,
)
from huleedu_service_libs.error_handling.fastapi import register_error_handlers as register_fastapi
from huleedu_service_libs.error_handling.quart import register_error_handlers as register_quart
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.logging_utils import configure_service_logging, create_service_logger

logger = create_service_logger("chain")


async def first() -> None:
    """Pass the second's error on."""
    app = Quart(__name__)
    app.config["SERVICE_NAME"] = "first"
    register_quart(app)

    @app.post("/ask")
    async def ask() -> Any:
        async with httpx.AsyncClient() as http:
            response = await http.post(os.environ["SECOND_URL"], headers=ErrorContext.current().http_headers())
        raise error_from_response(response.status_code, response.content, response.headers)

    config = Config()
    config.bind = [f"fd://{os.environ['LISTEN_FD']}"]
    await serve(app, config)


async def second() -> None:
    """Publish, then fail."""
    app = FastAPI(title="second")
    register_fastapi(app)

    async with KafkaBus(client_id="second", bootstrap_servers=os.environ["BOOTSTRAP"]) as bus:

        @app.post("/essays")
        async def essays() -> None:
            context = ErrorContext.current()
            envelope: EventEnvelope[Any] = EventEnvelope(event_type="t", source_service="second", data={})
            await bus.publish(os.environ["TOPIC"], envelope, headers=context.kafka_headers())
            raise_resource_not_found(resource_type="Essay", resource_id="7", **context.arguments())

        await uvicorn.Server(uvicorn.Config(app, fd=int(os.environ["LISTEN_FD"]), log_config=None)).serve()


async def third() -> None:
    """Fail over the first message, and say so in the log."""
    consumer = AIOKafkaConsumer(
        os.environ["TOPIC"], bootstrap_servers=os.environ["BOOTSTRAP"], auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        record = await consumer.getone()
        with continue_from(record.headers):
            try:
                with error_context("third", "handle", topic=record.topic, offset=record.offset):
                    raise ZeroDivisionError
            except HuleEduError as error:
                log_failure_once(logger, "handler_failed", error)
    finally:
        await consumer.stop()


if __name__ == "__main__":
    role = sys.argv[1]
    configure_service_logging(role, "production")
    asyncio.run({"first": first, "second": second, "third": third}[role]())
