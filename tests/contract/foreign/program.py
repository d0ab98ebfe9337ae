"""A small service on somebody else's contracts package. `test_foreign_contracts` starts it in an interpreter of its own.

Usage: ``program.py DATABASE_URL REDIS_URL``. Prints one JSON object of what it has seen.
"""

import asyncio
import importlib
import json
import pkgutil
import sys
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
from fastapi import FastAPI
from pydantic import BaseModel
from quart import Quart
from sqlalchemy import select
from sqlalchemy.ext.asyncio import create_async_engine

import common_core
import huleedu_service_libs
from common_core.domain_enums import ContentType
from common_core.error_enums import ErrorCode, IdentityErrorCode
from common_core.events.envelope import EventEnvelope
from common_core.models.error_models import ErrorDetail
from common_core.status_enums import CircuitBreakerState
from huleedu_service_libs.config import SecureServiceSettings
from huleedu_service_libs.error_handling import HuleEduError, raise_processing_error, raise_resource_not_found
from huleedu_service_libs.error_handling import fastapi as fastapi_errors
from huleedu_service_libs.error_handling import quart as quart_errors
from huleedu_service_libs.error_handling.identity_factories import raise_invalid_credentials_error
from huleedu_service_libs.http_client import ContentServiceClient, ContentServiceConfig
from huleedu_service_libs.idempotency_v2 import IdempotencyConfig, idempotent_consumer
from huleedu_service_libs.outbox import EventOutbox, EventRelayWorker, OutboxSettings, PostgreSQLOutboxRepository
from huleedu_service_libs.outbox.manager import OutboxManager
from huleedu_service_libs.outbox.models import Base
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.resilience import CircuitBreaker, CircuitBreakerError

ID = UUID(int=7)
TEXT = "räksmörgås"


class Essay(BaseModel):
    """An event's data."""

    essay_id: str
    text: str
    kind: ContentType


def load_everything() -> int:
    """Import every module of the library: none may miss a name."""
    found = [one.name for one in pkgutil.walk_packages(huleedu_service_libs.__path__, "huleedu_service_libs.")]
    for name in found:
        if not name.endswith("__main__"):
            importlib.import_module(name)
    return len(found)


class Bus:
    """Keeps what the relay publishes."""

    def __init__(self) -> None:
        self.sent: list[EventEnvelope[Any]] = []
        self.arrived = asyncio.Event()

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""

    async def publish(
        self, topic: str, envelope: EventEnvelope[Any], key: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        """As a `KafkaBus` is called."""
        self.sent.append(envelope)
        self.arrived.set()


async def through_the_outbox(database_url: str, redis: RedisClient) -> dict[str, Any]:
    """Store an event, look at its row, relay it, and decode the envelope."""
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    repository = PostgreSQLOutboxRepository(engine, "svc")
    envelope: EventEnvelope[Any] = EventEnvelope(
        event_type="essay.stored.v1",
        source_service="svc",
        correlation_id=ID,
        data=Essay(essay_id="e-1", text=TEXT, kind=ContentType.ORIGINAL_ESSAY),
        metadata={"partition_key": "e-1"},
    )
    await OutboxManager(outbox_repository=repository, redis_client=redis, service_name="svc").publish_to_outbox(
        aggregate_type="essay",
        aggregate_id="e-1",
        event_type="essay.stored.v1",
        event_data=envelope,
        topic="essays",
    )
    async with engine.connect() as connection:
        row = (await connection.execute(select(EventOutbox.event_data))).scalar_one()
    bus = Bus()
    worker = EventRelayWorker(
        outbox_repository=repository,
        kafka_bus=bus,
        settings=OutboxSettings(poll_interval_seconds=0.1),
        service_name="svc",
    )
    await worker.start()
    await asyncio.wait_for(bus.arrived.wait(), 30)
    await worker.stop()
    await engine.dispose()
    (sent,) = bus.sent
    return {
        "row": {name: row[name] for name in ("event_id", "correlation_id", "data", "topic")},
        "class": isinstance(sent, EventEnvelope),
        "same": sent.event_id == envelope.event_id,
        "data": sent.data,
    }


async def consumed(redis: RedisClient, prefix: str) -> list[Any]:
    """Handle one event twice; it is done once."""
    seen: list[Any] = []

    @idempotent_consumer(redis_client=redis, config=IdempotencyConfig(service_name=prefix))
    async def handle(msg: Any, *, confirm_idempotency: Any) -> str:
        event = EventEnvelope[Essay].model_validate_json(msg.value)
        seen.append(Essay.model_validate(event.data).text)
        await confirm_idempotency()
        return "done"

    envelope: EventEnvelope[Any] = EventEnvelope(
        event_type="e.v1", source_service="svc", data=Essay(essay_id="e-1", text=TEXT, kind=ContentType.CORRECTED_TEXT)
    )
    body = json.dumps(envelope.model_dump(mode="json")).encode()
    message = SimpleNamespace(value=body, headers=[], topic="t", partition=0, offset=0, key=None)
    return [await handle(message), await handle(message), seen]


async def answered() -> dict[str, Any]:
    """Errors of two families, raised in views of both frameworks."""
    quart, fastapi = Quart("svc"), FastAPI(title="svc")
    quart_errors.register_error_handlers(quart)
    fastapi_errors.register_error_handlers(fastapi)

    async def missing() -> str:
        raise_resource_not_found(
            service="svc", operation="op", resource_type="Essay", resource_id="1", correlation_id=ID
        )

    async def refused() -> str:
        raise_invalid_credentials_error(service="svc", operation="op", email="a@b.se", correlation_id=ID)

    found, apps = {}, (("quart", quart), ("fastapi", fastapi))
    for name, app in apps:
        asgi: Any = app
        app.get("/missing")(missing)
        app.get("/refused")(refused)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=asgi), base_url="http://t") as http:
            for path in ("missing", "refused"):
                answer = await http.get(f"/{path}")
                error = answer.json()["error"]
                found[f"{name} {path}"] = [answer.status_code, error["code"], "stack_trace" in answer.text]
    return found


def raised() -> dict[str, Any]:
    """An error by a factory: the classes of this package, and its text."""
    try:
        raise_processing_error(service="svc", operation="op", message="broke", correlation_id=ID, a=1)
    except HuleEduError as error:
        detail = error.error_detail
        more = error.add_detail("b", 2)
        return {
            "classes": [type(detail) is ErrorDetail, type(detail.error_code) is ErrorCode],
            "text": str(error),
            "details": more.error_detail.details,
            "mapped": IdentityErrorCode.TOKEN_INVALID.value,
        }


async def broken() -> list[Any]:
    """A breaker whose state is this package's enum."""
    breaker = CircuitBreaker(failure_threshold=1, name="b")

    async def fail() -> None:
        raise ConnectionError

    last = ""
    for _ in range(2):
        try:
            await breaker.call(fail)
        except (ConnectionError, CircuitBreakerError) as error:
            last = str(error)
    return [breaker.state is CircuitBreakerState.OPEN, last]


async def stored() -> str:
    """A content stored under a kind of this package's."""

    class Http:
        service_name = "svc"

        async def post(self, *_args: Any, **context: Any) -> dict[str, Any]:
            return {"storage_id": context["content_type"]}

    http: Any = Http()
    contents = ContentServiceClient(http, ContentServiceConfig(base_url="http://c"))
    return await contents.store_content(TEXT, ContentType.RAW_UPLOAD_BLOB, ID)


async def main(database_url: str, redis_url: str, prefix: str) -> None:
    """All of it."""
    redis = RedisClient(client_id="foreign", redis_url=redis_url)
    await redis.start()
    try:
        found = {
            "package": common_core.__file__,
            "modules": load_everything(),
            "outbox": await through_the_outbox(database_url, redis),
            "consumed": await consumed(redis, prefix),
            "answered": await answered(),
            "raised": raised(),
            "broken": await broken(),
            "stored": await stored(),
            "settings": str(SecureServiceSettings()),
        }
    finally:
        await redis.stop()
    sys.stdout.write(f"\n{json.dumps(found)}\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
