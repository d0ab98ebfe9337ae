"""What is said of an engine in labels, logs and spans, without its secrets; and the engine below all its wrappers."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["Server", "pool_label", "root_engine", "server_of"]


@dataclass(frozen=True, kw_only=True)
class Server:
    """Where an engine's database is, in OpenTelemetry's words.

    Attributes:
        system: Value of ``db.system.name``.
        address: Host; empty when there is none.
        port: Port, or None.
        database: Value of ``db.namespace``.
    """

    system: str
    address: str
    port: int | None
    database: str


def root_engine(engine: AsyncEngine | Engine) -> Engine:
    """The synchronous engine that owns the pool, below ``AsyncEngine`` and ``execution_options()``.

    Raises:
        TypeError: It is no engine.
    """
    root: Any = getattr(engine, "sync_engine", engine)
    while isinstance(root, Engine) and isinstance(below := getattr(root, "_proxied", None), Engine):
        root = below
    if not isinstance(root, Engine):
        raise TypeError(f"{type(root).__name__} is no SQLAlchemy engine: give an AsyncEngine or an Engine")
    return root


def server_of(engine: AsyncEngine | Engine) -> Server:
    """Where the database is."""
    url = root_engine(engine).url
    backend = url.get_backend_name()
    return Server(
        system={"mssql": "microsoft.sql_server", "oracle": "oracle.db"}.get(backend, backend),
        address=url.host or "",
        port=url.port or (5432 if backend == "postgresql" and url.host else None),
        database=url.database or "",
    )


def pool_label(engine: AsyncEngine | Engine) -> str:
    """A pool's name: ``pool_logging_name`` when the engine was given one, else ``host:port/database``."""
    named: Any = getattr(root_engine(engine).pool, "_orig_logging_name", None)
    if isinstance(named, str) and named:
        return named
    server = server_of(engine)
    host = f"{server.address}:{server.port}" if server.port else server.address
    return f"{host}/{server.database}"
