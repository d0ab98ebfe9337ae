"""Ask a server whether it serves, without a client library.

The recipes wait with these. They say more than an open port: PostgreSQL
listens before it serves, Docker's proxy before the container does, and a Kafka
node that lists itself is one in whose cluster topics can be made.
"""

import socket
import struct
from contextlib import suppress

__all__ = [
    "brokers_known_to",
    "port_answers",
    "postgres_answers",
    "postgres_speaks",
    "redis_answers",
    "redis_replies",
    "redis_speaks",
]

_ANSWER_LIMIT_S = 2.0
_METADATA = 3
_VERSION = 1
_NO_TOPICS = 0
_POSTGRES_PROTOCOL = 3 << 16


def postgres_answers(host: str, port: int, user: str) -> bool:
    """Return whether PostgreSQL takes a start-up message, in which case it asks for authentication."""
    return _postgres_says(host, port, user) == b"R"


def postgres_speaks(host: str, port: int) -> bool:
    """Return whether a PostgreSQL answers, be it that it lets nobody in without a password, TLS or another name."""
    return _postgres_says(host, port, "postgres") in {b"R", b"E"}


def redis_answers(host: str, port: int) -> bool:
    """Return whether a Redis answers ``PING``."""
    return _redis_says(host, port).startswith(b"+PONG")


def redis_speaks(host: str, port: int) -> bool:
    """Return whether a Redis answers, be it that it asks for a password first."""
    return _redis_says(host, port).startswith((b"+PONG", b"-NOAUTH"))


def redis_replies(host: str, port: int, *commands: str) -> str:
    """Send commands to a Redis, each in one line.

    Args:
        host: Where it listens.
        port: Where it listens.
        commands: Such as ``CLUSTER INFO``; without spaces in their arguments.

    Returns:
        The replies as they came, one after the other; empty when nobody answers.
    """
    with suppress(OSError), socket.create_connection((host, port), timeout=_ANSWER_LIMIT_S) as connection:
        connection.sendall("".join(f"{command}\r\n" for command in commands).encode())
        connection.shutdown(socket.SHUT_WR)  # Sentinels know no QUIT
        with connection.makefile("rb") as stream:
            return stream.read().decode(errors="replace")
    return ""


def port_answers(host: str, port: int) -> bool:
    """Return whether somebody listens there."""
    with suppress(OSError), socket.create_connection((host, port), timeout=_ANSWER_LIMIT_S):
        return True
    return False


def brokers_known_to(host: str, port: int) -> set[int]:
    """Send a Metadata request (version 1) to a broker.

    Args:
        host: Where it listens.
        port: Where it listens.

    Returns:
        Ports of the brokers that it knows; empty when it does not answer.
    """
    with suppress(OSError, struct.error), socket.create_connection((host, port), timeout=_ANSWER_LIMIT_S) as connection:
        client = b"devstack"
        body = struct.pack(">hhih", _METADATA, _VERSION, 1, len(client)) + client + struct.pack(">i", _NO_TOPICS)
        connection.sendall(struct.pack(">i", len(body)) + body)
        with connection.makefile("rb") as stream:
            (size,) = struct.unpack(">i", stream.read(4))
            return _ports(stream.read(size))
    return set()


def _postgres_says(host: str, port: int, user: str) -> bytes:
    with suppress(OSError), socket.create_connection((host, port), timeout=_ANSWER_LIMIT_S) as connection:
        body = struct.pack(">i", _POSTGRES_PROTOCOL) + f"user\0{user}\0\0".encode()
        connection.sendall(struct.pack(">i", len(body) + 4) + body)
        return connection.recv(1)
    return b""


def _redis_says(host: str, port: int) -> bytes:
    with suppress(OSError), socket.create_connection((host, port), timeout=_ANSWER_LIMIT_S) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(16)
    return b""


def _ports(answer: bytes) -> set[int]:
    """Read ``correlation_id``, then for each broker ``node_id``, ``host``, ``port`` and ``rack``."""
    (count,) = struct.unpack_from(">i", answer, 4)
    offset = 8
    ports = set()
    for _ in range(count):
        (host_length,) = struct.unpack_from(">h", answer, offset + 4)
        offset += 6 + host_length
        port, rack_length = struct.unpack_from(">ih", answer, offset)
        ports.add(port)
        offset += 6 + max(rack_length, 0)
    return ports
