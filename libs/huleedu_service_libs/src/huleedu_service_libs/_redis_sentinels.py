"""Where the primary is that Sentinels watch.

``_redis_endpoints`` asks before each attempt to connect. Knows nothing of pools.
"""

from typing import Any

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redaction import error_text
from huleedu_service_libs._redis_address import RedisAddress

with requires_extra("redis", module=__name__):
    from redis.asyncio import Connection, SSLConnection
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import RedisError

__all__ = ["PrimaryUnknownError", "Sentinels"]


class PrimaryUnknownError(RedisConnectionError):
    """No Sentinel could say where the primary is.

    Attributes:
        service: What it is called.
        told: What each Sentinel said.
        answered: Whether one could be asked.
    """

    def __init__(self, service: str, told: tuple[str, ...], *, answered: bool) -> None:
        super().__init__(service, told)
        self.service = service
        self.told = told
        self.answered = answered

    def __str__(self) -> str:
        return f"No Sentinel names a primary for the service {self.service!r} ({'; '.join(self.told)}). " + (
            "Is a fail-over under way, or the service called otherwise?"
            if self.answered
            else "None could be asked: see that their addresses, credentials and certificates are right"
        )


class Sentinels:
    """Where the primary is; asked over a connection that lives for one question.

    Args:
        address: Names them and the service.
        settings: The driver's, for connections to them.
    """

    def __init__(self, address: RedisAddress, settings: dict[str, Any]) -> None:
        self._hosts = list(address.hosts)
        self._service = address.service
        self._make: type[Connection] = SSLConnection if address.tls else Connection
        self._settings = settings

    def __repr__(self) -> str:
        return f"Sentinels({self._service!r}, {self._hosts})"

    async def primary(self) -> tuple[str, int]:
        """Host and port. Who answered is asked first the next time.

        Raises:
            PrimaryUnknownError: None knows it.
        """
        told: list[str] = []
        answered = False
        for host, port in tuple(self._hosts):
            try:
                answer = await self._ask(host, port)
            except (RedisError, OSError) as error:
                told.append(f"{host}:{port}: {error_text(error)}")
                continue
            answered = True
            if answer:
                self._hosts.sort(key=lambda each: each != (host, port))  # sorted at once
                return str(answer[0]), int(answer[1])
            told.append(f"{host}:{port} does not know it")
        raise PrimaryUnknownError(self._service, tuple(told), answered=answered)

    async def _ask(self, host: str, port: int) -> Any:
        connection = self._make(host=host, port=port, decode_responses=True, **self._settings)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # the same
            await connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
            return await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)
