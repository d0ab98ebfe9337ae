"""Messages, and a handler whose effect is a row."""

import json
from collections import Counter
from types import SimpleNamespace
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession


def event(name: str, *, key: str = "k", data: Any = None, headers: bool = True) -> Any:
    """A record of the event ``name``; the same name is the same event."""
    event_id = str(uuid5(NAMESPACE_OID, name))
    body = {"event_id": event_id, "event_type": "test.v1", "data": {"name": name} if data is None else data}
    sent = [("event_id", event_id.encode()), ("event_type", b"test.v1")] if headers else []
    return SimpleNamespace(
        value=json.dumps(body).encode(), headers=sent, topic="t", partition=0, offset=1, key=key.encode(), name=name
    )


async def add_effect(msg: Any, session: AsyncSession) -> str:
    """Do what a handler does."""
    await session.execute(text("INSERT INTO effects VALUES (:event)"), {"event": msg.name})
    return f"done {msg.name}"


async def effects(engine: AsyncEngine) -> Counter[str]:
    """How often each event has had its effect."""
    async with engine.connect() as connection:
        return Counter((await connection.execute(text("SELECT event FROM effects"))).scalars())


async def rows(engine: AsyncEngine) -> int:
    """Rows of the inbox."""
    async with engine.connect() as connection:
        return int(await connection.scalar(text("SELECT count(*) FROM event_inbox")) or 0)
