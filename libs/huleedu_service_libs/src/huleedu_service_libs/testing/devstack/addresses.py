"""Addresses of servers that somebody else runs, from the environment.

``choice`` takes them from here, looked at: a mistake in a variable is told
at once and names the variable, not later by a driver that does not know it.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from urllib.parse import SplitResult, urlsplit

from huleedu_service_libs.testing.devstack.answers import brokers_known_to, port_answers, postgres_speaks, redis_speaks
from huleedu_service_libs.testing.devstack.errors import AddressError
from huleedu_service_libs.testing.devstack.server import Kind
from huleedu_service_libs.testing.devstack.servers import KafkaServer, PostgresServer, RedisServer

__all__ = ["ADDRESS_VARIABLES", "named_kafka", "named_postgres", "named_redis"]

ADDRESS_VARIABLES: Mapping[str, str] = {
    "postgres": "HULEEDU_TEST_POSTGRES_URL",
    "redis": "HULEEDU_TEST_REDIS_URL",
    "kafka": "HULEEDU_TEST_KAFKA_BOOTSTRAP",
}
"""The environment variable that names a server, by service."""

_TITLES = {"postgres": "PostgreSQL", "redis": "Redis", "kafka": "Kafka"}
_FORMS = {
    "postgres": "postgresql://user:password@host:port/database",
    "redis": "redis://host:port/0",
    "kafka": "host:port, or several with commas in between",
}
_LABEL = "from the environment"
_PATIENCE_S = 3.0
_POLL_S = 0.2
_POSTGRES_SCHEMES = {"postgresql", "postgres", "postgresql+asyncpg"}


def named_postgres(environ: Mapping[str, str]) -> PostgresServer | None:
    """Return the PostgreSQL that the environment names; None when it names none.

    Args:
        environ: Variables.

    Raises:
        AddressError: The address is malformed, or nothing answers there.
    """
    address = environ.get(ADDRESS_VARIABLES["postgres"])
    if not address:
        return None
    parts = _split("postgres", address, _POSTGRES_SCHEMES)
    answers: Callable[[], bool] | None = None
    if parts.hostname:  # else a socket or several hosts, named in the query
        answers = partial(postgres_speaks, parts.hostname, _port("postgres", address, parts, 5432))
        _wait("postgres", address, answers)
    plain = f"postgresql://{address.partition('://')[2]}"
    return PostgresServer(name="postgres", kind=Kind.ADDRESS, address=plain, label=_LABEL, answers=answers)


def named_redis(environ: Mapping[str, str]) -> RedisServer | None:
    """Return the Redis that the environment names; None when it names none.

    Args:
        environ: Variables.

    Raises:
        AddressError: The address is malformed, or nothing answers there.
    """
    address = environ.get(ADDRESS_VARIABLES["redis"])
    if not address:
        return None
    parts = _split("redis", address, {"redis", "rediss", "unix"})
    answers: Callable[[], bool] | None = None
    if parts.scheme != "unix":
        # What TLS protects is not looked into.
        speaks = port_answers if parts.scheme == "rediss" else redis_speaks
        answers = partial(speaks, parts.hostname or "localhost", _port("redis", address, parts, 6379))
        _wait("redis", address, answers)
    return RedisServer(name="redis", kind=Kind.ADDRESS, address=address, label=_LABEL, answers=answers)


def named_kafka(environ: Mapping[str, str]) -> KafkaServer | None:
    """Return the Kafka that the environment names; None when it names none.

    Args:
        environ: Variables.

    Raises:
        AddressError: The address is malformed, or no broker answers there.
    """
    address = environ.get(ADDRESS_VARIABLES["kafka"])
    if not address:
        return None
    nodes: list[tuple[str, int]] = []
    for node in address.split(","):
        host, _, port = node.strip().rpartition(":")
        if "/" in node or not host or not port.isdecimal():
            raise _malformed("kafka", address)
        nodes.append((host.strip("[]"), int(port)))

    def answers() -> bool:
        return any(brokers_known_to(host, port) for host, port in nodes)

    _wait("kafka", address, answers)
    return KafkaServer(name="kafka", kind=Kind.ADDRESS, address=address, label=_LABEL, answers=answers)


def _split(service: str, address: str, schemes: set[str]) -> SplitResult:
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise _malformed(service, address) from error
    if parts.scheme not in schemes or not (parts.netloc or parts.query or parts.path.strip("/")):
        raise _malformed(service, address)
    return parts


def _port(service: str, address: str, parts: SplitResult, default: int) -> int:
    try:
        return parts.port or default
    except ValueError as error:
        raise _malformed(service, address) from error


def _malformed(service: str, address: str) -> AddressError:
    return AddressError(
        service,
        f"{_TITLES[service]}: {ADDRESS_VARIABLES[service]} must be {_FORMS[service]}, not {_masked(address)}",
    )


def _wait(service: str, address: str, answers: Callable[[], bool]) -> None:
    """Wait a moment for an answer: the server may just be starting.

    Raises:
        AddressError: None came.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while not answers():
        if time.monotonic() > deadline:
            raise AddressError(
                service,
                f"{_TITLES[service]}: {ADDRESS_VARIABLES[service]} names {_masked(address)}, where nothing answers: "
                "start it there, or unset the variable",
            )
        time.sleep(_POLL_S)


def _masked(address: str) -> str:
    """The address without what stands before its last ``@`` and after its ``?``: either may hold a password."""
    scheme, separator, rest = address.rpartition("://")
    rest = rest.partition("?")[0]
    place = rest.rpartition("@")[2]
    return f"{scheme}{separator}{'***@' if place != rest else ''}{place}"
