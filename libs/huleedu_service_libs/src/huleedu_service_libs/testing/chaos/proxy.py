"""A TCP proxy whose network can be cut, slowed, silenced, or made to lose replies.

Tests put it between a client and any server: Redis, PostgreSQL, and Kafka with
`kafka_proxies.kafka_proxies`. It lives in the test's own event loop and speaks no protocol:
it knows bytes, directions and connections.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit

from huleedu_service_libs import _clock
from huleedu_service_libs._lifecycle import StartStop
from huleedu_service_libs._tasks import begin, end
from huleedu_service_libs.testing.chaos.links import Link, Loss, host_and_port
from huleedu_service_libs.testing.chaos.weather import Weather

__all__ = ["FaultProxy"]

_CHUNK = 64 * 1024
_LOOPBACK = "127.0.0.1"
_STOP_LIMIT_S = 5.0


class FaultProxy(StartStop):
    """Listens on a free loopback port and passes everything on to ``target`` until told otherwise.

    Faults hold for connections that exist and for new ones, until `heal`. All methods are for the event
    loop that has started it.

    Args:
        target: ``host:port`` of the server, or its URL.
        rewrite: Byte strings in replies and what stands in for them, of the same length each.
        sleep: Waits.

    Attributes:
        connections: Connections accepted so far.

    Raises:
        ValueError: The target has no port, or a rewrite would change the length.
    """

    def __init__(
        self, target: str, *, rewrite: Mapping[bytes, bytes] | None = None, sleep: _clock.Sleep = _clock.sleep
    ) -> None:
        self._target = host_and_port(target)
        self._url = target
        self._server: asyncio.Server | None = None
        self._links: set[Link] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._port = 0
        self._refusing = False
        self._weather = Weather(sleep)
        self.connections = 0
        self.rewrite(rewrite or {})

    @property
    def address(self) -> str:
        """``host:port`` for clients.

        Raises:
            RuntimeError: It is not started.
        """
        if not self._port:
            raise RuntimeError("The proxy has no address yet: await start(), or use it with `async with`")
        return f"{_LOOPBACK}:{self._port}"

    @property
    def url(self) -> str:
        """The target's URL with the proxy's address in it; credentials and path stay."""
        parts = urlsplit(self._url)
        if not parts.netloc:
            return self.address
        user, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}{at}{self.address}"))

    @property
    def open_connections(self) -> int:
        """Connections that pass through at the moment."""
        return len(self._links)

    @property
    def lost_replies(self) -> int:
        """Replies lost so far through `lose_replies`."""
        return self._weather.lost_replies

    async def start(self) -> None:
        """Listen. A second call does nothing; after a stop the port stays the same."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, _LOOPBACK, self._port)
            self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End all connections and listen no more. Idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        tasks = [*self._starting, *(task for link in self._links for task in link.tasks)]
        self.cut()
        await end(*tasks, limit_s=_STOP_LIMIT_S)

    # --- faults

    def cut(self) -> int:
        """Reset every connection, on both sides; how many there were. New ones are welcome."""
        links, count = list(self._links), len(self._links)
        for link in links:
            link.cut()
        return count

    def refuse(self) -> None:
        """Reset every connection, and each new one as soon as it is made."""
        self._refusing = True
        self.cut()

    def silence(self) -> None:
        """Let no byte through and tell nobody: the black hole of a firewall.

        Connections stay open and can be made. What is held up arrives after `heal`, as TCP would do it.
        """
        self._weather.flows.clear()

    def delay(self, seconds: float) -> None:
        """Hold up each piece of data for so long, in both directions."""
        self._weather.delay = seconds

    def throttle(self, bytes_per_second: float) -> None:
        """Let no more than this through each connection and direction."""
        if bytes_per_second <= 0:
            raise ValueError(f"bytes_per_second must be positive, not {bytes_per_second:g}: use silence() for nothing")
        self._weather.rate = bytes_per_second

    def lose_replies(
        self, *, to: bytes | None = None, skip: int = 0, after_bytes: int = 0, times: int = 1, hang: bool = False
    ) -> None:
        r"""Lose replies on their way back: the server has done the work, the client never learns it.

        Whatever the server sends on the connection after the chosen request, beyond ``after_bytes``, is
        lost, and the connection is reset. A client that pipelines loses the replies to its other requests, too.

        Args:
            to: Only the reply to a request that contains these bytes, as in ``b"\r\nSET\r\n"``; ``None`` for any.
            skip: So many such requests are answered before.
            after_bytes: So many bytes of the reply arrive.
            times: So many replies are lost, one a connection.
            hang: Leave the connection open in silence; the client waits for as long as it likes.
        """
        self._weather.loss = Loss(to=to, skip=skip, after_bytes=after_bytes, times=times, hang=hang)

    def heal(self) -> None:
        """End all faults. Connections that were reset, or hang for a lost reply, stay as they are."""
        self._refusing = False
        self._weather.clear()

    def rewrite(self, pairs: Mapping[bytes, bytes]) -> None:
        """Replace byte strings in what the server sends from now on.

        Raises:
            ValueError: A replacement has another length, which would break the framing of any protocol.
        """
        for old, new in pairs.items():
            if len(old) != len(new) or not old:
                raise ValueError(f"rewrite {old!r} -> {new!r}: both must have the same length, and one at least")
        self._weather.rewrite = dict(pairs)

    # --- passing on

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # asyncio calls this in a task of its own
        self._starting.add(task)
        try:
            await self._connect(reader, writer)
        except asyncio.CancelledError:  # stop(); a task of the stream server that ends cancelled is reported by it
            writer.transport.abort()
        finally:
            self._starting.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await self._weather.flows.wait()  # no limit: as the weather
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
        except OSError:  # the client is told as by the server itself: the connection ends
            writer.transport.abort()
            return
        link = Link(writer, server_writer)
        if self._refusing:
            link.cut()
            return
        self._links.add(link)
        link.tasks = [
            begin(self._pump(link, reader, server_writer, replies=False), name="proxy-requests"),
            begin(self._pump(link, server_reader, writer, replies=True), name="proxy-replies"),
        ]
        link.tasks[0].add_done_callback(lambda _: self._forget(link))
        link.tasks[1].add_done_callback(lambda _: self._forget(link))

    def _forget(self, link: Link) -> None:
        if all(task.done() for task in link.tasks):
            self._links.discard(link)

    async def _pump(
        self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool
    ) -> None:
        with suppress(OSError):  # a connection that breaks is what this is about
            while data := await reader.read(_CHUNK):
                await self._weather.hold_up(len(data))
                passed = self._weather.reply(link, data) if replies else self._weather.request(link, data)
                if passed:
                    writer.write(passed)
                    await writer.drain()
        if link.loss is None or not link.loss.hang:
            await self._weather.flows.wait()  # in silence not even an end is heard; no limit: as the weather
            with suppress(OSError):
                writer.close()
