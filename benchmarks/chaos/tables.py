"""The database of a run, and the topics: what the roles write and the oracle reads."""

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from sqlalchemy.ext.asyncio import create_async_engine

from huleedu_service_libs.inbox.models import Base as InboxBase
from huleedu_service_libs.outbox.models import Base as OutboxBase

__all__ = ["EFFECTS", "ORDERS", "create_tables", "create_topic", "waiting", "written"]

PARTITIONS = 4

_CREATE_ORDERS = (
    "CREATE TABLE orders (key text, number int, at timestamptz NOT NULL DEFAULT clock_timestamp(),"
    " PRIMARY KEY (key, number))"
)
# No unique constraint: a handler that runs twice must show.
_CREATE_EFFECTS = (
    "CREATE TABLE effects (place bigserial PRIMARY KEY, consumer text NOT NULL, key text NOT NULL, number int NOT NULL,"
    " process int NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp())"
)
_CREATE_INDEX = "CREATE INDEX ON effects (key, number)"  # what is without effect is asked for all the time
ORDERS = "SELECT key, number, extract(epoch FROM at) AS at FROM orders"
EFFECTS = "SELECT key, number, place, process, extract(epoch FROM at) AS at FROM effects"
_WAITING = "SELECT count(*) FROM event_outbox WHERE published_at IS NULL"
_WITHOUT_EFFECT = (
    "SELECT count(*) FROM orders WHERE NOT EXISTS"
    " (SELECT FROM effects WHERE effects.key = orders.key AND effects.number = orders.number)"
)


async def create_tables(address: str) -> None:
    """Create outbox and inbox, the business table and the table of effects."""
    engine = create_async_engine(address.replace("postgresql://", "postgresql+asyncpg://", 1))
    async with engine.begin() as connection:
        for base in (OutboxBase, InboxBase):
            await connection.run_sync(base.metadata.create_all)
        for statement in (_CREATE_ORDERS, _CREATE_EFFECTS, _CREATE_INDEX):
            await connection.exec_driver_sql(statement)
    await engine.dispose()


async def create_topic(bootstrap_servers: str, topic: str, replicas: int) -> None:
    """Create the topic; its records carry the broker's time."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics(
            [NewTopic(topic, PARTITIONS, replicas, topic_configs={"message.timestamp.type": "LogAppendTime"})]
        )
    finally:
        await admin.close()


async def written(address: str) -> int:
    """How many events were committed."""
    connection = await asyncpg.connect(address)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM orders"))
    finally:
        await connection.close()


async def waiting(address: str, *, effects: bool) -> int:
    """How many events have not left the outbox, or have no effect yet."""
    connection = await asyncpg.connect(address)
    try:
        left = int(await connection.fetchval(_WAITING))
        return left or (int(await connection.fetchval(_WITHOUT_EFFECT)) if effects else 0)
    finally:
        await connection.close()
