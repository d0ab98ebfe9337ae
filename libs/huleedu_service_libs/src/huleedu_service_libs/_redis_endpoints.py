"""Makes connection pools for what a URL names: a server, or the primary that Sentinels know at that moment.

``_redis_connections`` builds its clients on them. A connection is patient while it is being made, when nothing can
have run yet: it tries again, with jitter. Once made it repeats nothing. Of a cluster it
reaches any node; which one has a key is the business of ``_redis_cluster``.
"""

from dataclasses import replace
from typing import Any, TypeVar

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redis_address import RedisAddress, Topology
from huleedu_service_libs._redis_patience import Patience
from huleedu_service_libs._redis_sentinels import Sentinels
from huleedu_service_libs.redis_access import RedisAccess

with requires_extra("redis", module=__name__):
    from redis.asyncio import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
    from redis.asyncio.connection import parse_url
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import ReadOnlyError, ResponseError
    from redis.maint_notifications import MaintNotificationsConfig

__all__ = ["Endpoint"]

_Made = TypeVar("_Made", bound=ConnectionPool)
_SENTINEL_PARAMETERS = ("sentinel_username", "sentinel_password")


class _Patient(Connection):
    """Tries again while it is being made."""

    def __init__(self, *, patience: Patience, **settings: Any) -> None:
        super().__init__(**settings)
        self._patience = patience

    async def _connect(self) -> None:
        await self._patience.insist(super()._connect)


class _PatientSsl(_Patient, SSLConnection):
    """The same over TLS."""


class _PatientUnix(UnixDomainSocketConnection):
    """The same over a socket file."""

    def __init__(self, *, patience: Patience, **settings: Any) -> None:
        super().__init__(**settings)
        self._patience = patience

    async def _connect(self) -> None:
        await self._patience.insist(super()._connect)


class _ToPrimary(Connection):
    """Asks the Sentinels before each attempt, and makes sure that it has reached a primary."""

    def __init__(self, *, patience: Patience, sentinels: "Sentinels", **settings: Any) -> None:
        super().__init__(**settings)
        self._patience = patience
        self._sentinels = sentinels

    async def _connect(self) -> None:
        await self._patience.insist(self._connect_to_primary)

    async def _connect_to_primary(self) -> None:
        self.host, self.port = await self._sentinels.primary()
        await super()._connect()  # type: ignore[no-untyped-call]  # the driver has no hint there

    async def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: FBT001, FBT002  # the driver's
        await super().on_connect_check_health(check_health=check_health)
        try:
            await self.send_command("ROLE", check_health=False)
            role = (await self.read_response())[0]
        except ResponseError:
            return  # a user that may not ask; a replica refuses writes by itself
        if role not in {"master", b"master"}:
            raise RedisConnectionError(f"{self.host}:{self.port} is a {role} now; a fail-over is under way")

    async def read_response(self, *args: Any, **settings: Any) -> Any:
        try:
            return await super().read_response(*args, **settings)
        except ReadOnlyError:
            await self.disconnect()  # it was demoted: the next command asks the Sentinels anew
            raise


class _ToPrimarySsl(_ToPrimary, SSLConnection):
    """The same over TLS."""


class _ToAny(Connection):
    """Reaches any node of a cluster; each attempt goes to another."""

    def __init__(self, *, patience: Patience, hosts: tuple[tuple[str, int], ...], **settings: Any) -> None:
        super().__init__(**settings)
        self._patience = patience
        self._hosts = list(hosts)

    async def _connect(self) -> None:
        patience = replace(self._patience, attempts=max(self._patience.attempts, len(self._hosts)))
        await patience.insist(self._connect_to_next)

    async def _connect_to_next(self) -> None:
        self.host, self.port = self._hosts[0]
        self._hosts.append(self._hosts.pop(0))
        await super()._connect()  # type: ignore[no-untyped-call]  # the driver has no hint there


class _ToAnySsl(_ToAny, SSLConnection):
    """The same over TLS."""


class Endpoint:
    """Makes pools that lead to one server at a time.

    Args:
        address: A single server, or Sentinels.
        access: Credentials and TLS.
        patience: While connecting.
        connect_timeout_s: Seconds for a question to a Sentinel.

    Raises:
        ValueError: TLS is set up for a URL without it, or a parameter of the URL is none of the driver's.
    """

    def __init__(
        self, address: RedisAddress, access: RedisAccess, patience: Patience, *, connect_timeout_s: float
    ) -> None:
        if access.tls is not None and not address.tls:
            raise ValueError(
                f"TLS is configured, but not asked for by {address.shown!r}: write rediss instead of redis"
            )
        settings: dict[str, Any] = dict(parse_url(address.url))
        if address.topology is not Topology.SINGLE:
            settings.pop("host")  # stands for many
        for name in _SENTINEL_PARAMETERS:
            settings.pop(name, None)
        secured = _tls_settings(access)
        self._settings = {**settings, **secured, **_login(access.username, access.password)}
        self._settings["patience"] = patience
        # A feature of hosted Redis. While it is on, the driver's pools lend connections that the server has closed
        self._settings["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
        if address.topology is Topology.SENTINEL:
            self._settings["connection_class"] = _ToPrimarySsl if address.tls else _ToPrimary
            self._settings["sentinels"] = Sentinels(
                address,
                {
                    **{name: value for name, value in settings.items() if name.startswith("ssl_")},
                    **secured,
                    **_login(
                        access.sentinel_username or address.sentinel_username,
                        access.sentinel_password or address.sentinel_password,
                    ),
                    "socket_connect_timeout": connect_timeout_s,
                    "socket_timeout": connect_timeout_s,
                },
            )
        elif address.topology is Topology.CLUSTER:
            self._settings["connection_class"] = _ToAnySsl if address.tls else _ToAny
            self._settings["hosts"] = address.hosts
        else:
            self._settings["connection_class"] = _patient(settings.get("connection_class", Connection))

    def pool(self, kind: type[_Made], **settings: Any) -> _Made:
        """A pool of that kind; nothing connects yet. What the URL says wins over ``settings``."""
        return kind(**{**settings, **self._settings})

    def cluster_settings(self) -> dict[str, Any]:
        """Credentials, TLS and whatever else the URL says, in the form in which the driver's cluster client takes it.

        Raises:
            ValueError: That client cannot do it.
        """
        ours = {"patience", "hosts", "connection_class", "maint_notifications_config", "host", "port", "db"}
        settings = {name: value for name, value in self._settings.items() if name not in ours}
        if settings.pop("ssl_password", None) is not None:
            raise ValueError("key_password cannot be used with a cluster: the driver takes a key in clear text only")
        return {**settings, "ssl": issubclass(self._settings["connection_class"], SSLConnection)}


def _patient(kind: Any) -> type[Any]:
    if kind is SSLConnection:
        return _PatientSsl
    return _PatientUnix if kind is UnixDomainSocketConnection else _Patient


def _login(username: str | None, password: str | None) -> dict[str, str]:
    given = {"username": username, "password": password}
    return {name: value for name, value in given.items() if value is not None}


def _tls_settings(access: RedisAccess) -> dict[str, Any]:
    tls = access.tls
    if tls is None:
        return {}
    files = {"ssl_ca_certs": tls.ca_file, "ssl_certfile": tls.certificate_file, "ssl_keyfile": tls.key_file}
    given = {name: str(file) for name, file in files.items() if file is not None}
    return {**given, "ssl_password": tls.key_password, "ssl_check_hostname": tls.check_hostname}
