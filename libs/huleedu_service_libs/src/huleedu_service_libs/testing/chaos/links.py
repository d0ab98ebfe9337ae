"""Parts of the proxy: one connection with its two ends, and the replies that are to be lost on it."""

import asyncio
from dataclasses import dataclass, field
from urllib.parse import urlsplit

__all__ = ["Link", "Loss", "host_and_port"]


@dataclass(slots=True, kw_only=True)
class Loss:
    """Replies that are to be lost: the rules of `FaultProxy.lose_replies`, and how far they are used up."""

    to: bytes | None
    skip: int
    after_bytes: int
    times: int
    hang: bool


@dataclass(slots=True, eq=False)
class Link:
    """One connection of a client and the one to the server that belongs to it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    loss: Loss | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def cut(self) -> None:
        """Reset both ends."""
        for writer in (self.client, self.server):
            writer.transport.abort()


def host_and_port(target: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or of a URL.

    Raises:
        ValueError: One of them is missing.
    """
    parts = urlsplit(target if "//" in target else f"//{target}")
    if parts.hostname is None or parts.port is None:
        raise ValueError(f"{target!r} names no host and port: give host:port or a URL with both")
    return parts.hostname, parts.port
