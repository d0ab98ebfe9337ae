"""A process that ends TLS for servers which do not speak it, and wants certificates of their clients.

``tls_fronts`` runs it as a file, without the packages of the environment: standard library only. A front leads
one port to another; one that is marked lets clients without TLS through as well, since Sentinels tell
everybody the one address of a server under which they watch it themselves.
"""

import asyncio
import ssl
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

__all__ = ["main"]

_CHUNK = 64 * 1024
_TLS_HANDSHAKE = b"\x16"  # RFC 8446, section 5.1: the first byte of what a client of TLS sends

_Accept = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while data := await source.read(_CHUNK):
                sink.write(data)
                await sink.drain()
    finally:
        sink.close()


def _leading_to(host: str, choose: Callable[[bytes], int]) -> _Accept:
    """Passes each connection on to the port that its first bytes choose."""

    async def _accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            begin = await reader.read(_CHUNK)
            there, back = await asyncio.open_connection(host, choose(begin))
        except OSError:
            writer.close()
            return
        back.write(begin)
        await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer), return_exceptions=True)

    return _accept


async def _open(host: str, front: str, context: ssl.SSLContext) -> None:
    port, target, *plain_too = front.split(":")
    outside = 0 if plain_too else int(port)
    secure = await asyncio.start_server(_leading_to(host, lambda _: int(target)), host, outside, ssl=context)
    if plain_too:
        inside = int(secure.sockets[0].getsockname()[1])
        choose = _leading_to(host, lambda begin: inside if begin[:1] == _TLS_HANDSHAKE else int(target))
        await asyncio.start_server(choose, host, int(port))


async def _serve(host: str, fronts: tuple[str, ...], context: ssl.SSLContext) -> None:
    for front in fronts:
        await _open(host, front, context)
    await asyncio.Event().wait()  # no limit: until it is killed


def main(host: str, certificate: str, key: str, authority: str, *fronts: str) -> None:
    """Serve until the process is ended.

    Args:
        host: Where it listens, and the servers behind.
        certificate: The server's certificate, a file.
        key: Its private key, a file.
        authority: Who must have signed the clients' certificates, a file.
        fronts: ``port:target``, or ``port:target:plain`` where clients without TLS come as well.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    asyncio.run(_serve(host, fronts, context))


if __name__ == "__main__":
    main(*sys.argv[1:])
