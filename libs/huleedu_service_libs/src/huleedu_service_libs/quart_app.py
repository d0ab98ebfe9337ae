"""The Quart application class of the services, with the attributes that they all set.

Knows nothing of what is put into them; the service does that at start-up.
"""

import asyncio
from typing import Any

from huleedu_service_libs._extras import requires_extra

with requires_extra("quart", module=__name__):
    from quart import Quart
with requires_extra("di", module=__name__):
    from dishka import AsyncContainer
with requires_extra("outbox", module=__name__):
    from sqlalchemy.ext.asyncio import AsyncEngine
from opentelemetry.trace import Tracer

__all__ = ["HuleEduApp"]


class HuleEduApp(Quart):
    """A Quart application with typed places for what a service holds.

    Attributes:
        database_engine: Set by the service; absent until then.
        container: Set by the service; absent until then.
        extensions: Metrics, health checker and the like, by name.
        tracer: The service's tracer.
        consumer_task: The task that consumes Kafka.
        kafka_consumer: The consumer it runs.
        event_publisher: What publishes events.
        relay_worker: The outbox relay.
        consumer_monitor_task: The task that watches the consumer.
        relay_task: The task that started the relay.
    """

    database_engine: AsyncEngine
    container: AsyncContainer
    extensions: dict[str, Any]
    tracer: Tracer | None
    consumer_task: asyncio.Task[Any] | None
    kafka_consumer: Any | None
    event_publisher: Any | None
    relay_worker: Any | None
    consumer_monitor_task: asyncio.Task[Any] | None
    relay_task: asyncio.Task[Any] | None
    _consumer_shutdown_requested: bool

    def __init__(self, import_name: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(import_name, *args, **kwargs)
        self.extensions = {}
        self.tracer = None
        self.consumer_task = None
        self.kafka_consumer = None
        self.event_publisher = None
        self.relay_worker = None
        self.consumer_monitor_task = None
        self.relay_task = None
        self._consumer_shutdown_requested = False
