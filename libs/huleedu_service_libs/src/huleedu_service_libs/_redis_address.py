"""Reads the URL of a Redis: one server, a primary that Sentinels know, or a cluster.

``_redis_endpoints`` makes connections of it. Knows no driver. Whatever it says of a URL is without its secrets.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import parse_qs, urlsplit

from huleedu_service_libs._redaction import mask_url_credentials

__all__ = ["RedisAddress", "Topology", "read_address"]

_SENTINEL_PORT = 26_379
_REDIS_PORT = 6_379


class Topology(StrEnum):
    """How many servers there are behind a URL, and how they work together."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """A URL, read.

    Attributes:
        topology: One server, Sentinels or a cluster.
        url: Of a single server, in the driver's form: credentials, database and parameters are those of the
            whole; with Sentinels or a cluster its host means nothing.
        shown: The URL as given, without secrets: for logs and errors.
        tls: Whether connections are encrypted.
        hosts: The Sentinels, or the nodes of the cluster to begin with; empty for a single server.
        service: What the Sentinels call the primary.
        sentinel_username: From the URL's parameters.
        sentinel_password: From the URL's parameters.
    """

    topology: Topology
    url: str = field(repr=False)
    shown: str
    tls: bool
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)

    def of_node(self, place: tuple[str, int]) -> str:
        """The URL of one node of a cluster: credentials and parameters are those of the whole."""
        base, _, rest = self.url.partition("://")
        authority, _, tail = rest.partition("/")
        user, at, _ = authority.rpartition("@")
        host = f"[{place[0]}]" if ":" in place[0] else place[0]
        return f"{base}://{user}{at}{host}:{place[1]}/{tail}"


_FORMS = {
    Topology.SENTINEL: "redis+sentinel://[user:password@]host:port,host:port/service[/db]",
    Topology.CLUSTER: "redis+cluster://[user:password@]host:port,host:port",
}


def read_address(url: str) -> RedisAddress:
    """Read a URL.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``, or ``redis+sentinel://``, ``redis+cluster://`` and the same
            with ``rediss``, which name several hosts.

    Raises:
        ValueError: It cannot be read; the text shows it without its secrets.
    """
    scheme, separator, rest = url.partition("://")
    base, _, kind = scheme.partition("+")
    if not separator or base not in {"redis", "rediss", "unix"} or (kind and base == "unix"):
        raise _unreadable(url, "it must begin with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://")
    if not kind:
        return _single(url, base)
    try:
        topology = Topology(kind)
    except ValueError:
        raise _unreadable(url, f"there is no {kind!r}: choose sentinel or cluster") from None
    return _several(url, base, topology, rest)


def _single(url: str, base: str) -> RedisAddress:
    try:
        _ = urlsplit(url).port
    except ValueError:
        # The driver's text would show what it took for the port: the password, if that holds a "/" or ":"
        problem = "its port is no number; percent-encode the password, if that holds any of / : @ ? #"
        raise _unreadable(url, problem) from None
    shown = mask_url_credentials(url)
    return RedisAddress(topology=Topology.SINGLE, url=url, shown=shown, tls=base == "rediss")


def _several(url: str, base: str, topology: Topology, rest: str) -> RedisAddress:
    before, mark, query = rest.partition("?")
    authority, _, path = before.partition("/")
    user, at, names = authority.rpartition("@")
    default_port = _SENTINEL_PORT if topology is Topology.SENTINEL else _REDIS_PORT
    hosts = tuple(_host(url, topology, name, default_port) for name in names.split(","))
    service, _, database = path.partition("/") if topology is Topology.SENTINEL else ("", "", path)
    if topology is Topology.SENTINEL and not service:
        raise _unreadable(url, f"it does not name the service: {_FORMS[topology]}")
    if topology is Topology.CLUSTER and database not in {"", "0"}:
        raise _unreadable(url, f"a cluster has the database 0 only, not {database!r}")
    parameters = parse_qs(query)
    return RedisAddress(
        topology=topology,
        url=f"{base}://{user}{at}of-many/{database}{mark}{query}",
        shown=mask_url_credentials(url),
        tls=base == "rediss",
        hosts=hosts,
        service=service,
        sentinel_username=parameters.get("sentinel_username", [None])[0],
        sentinel_password=parameters.get("sentinel_password", [None])[0],
    )


def _host(url: str, topology: Topology, name: str, default_port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{name}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host:
        raise _unreadable(url, f"it must name its hosts like {_FORMS[topology]}")
    return host, port or default_port


def _unreadable(url: str, problem: str) -> ValueError:
    return ValueError(f"Redis URL {mask_url_credentials(url)!r} cannot be used: {problem}")
