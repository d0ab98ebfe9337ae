"""A process that ends TLS for a server which does not speak it, and wants certificates of its clients.

``redis_tls`` runs it as a file, without the packages of the environment: standard library only.
"""

import asyncio
import ssl
import sys
from contextlib import suppress

__all__ = ["main"]

_CHUNK = 64 * 1024


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while data := await source.read(_CHUNK):
                sink.write(data)
                await sink.drain()
    finally:
        sink.close()


async def _serve(host: str, port: int, target: int, context: ssl.SSLContext) -> None:
    async def _accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(host, target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer), return_exceptions=True)

    async with await asyncio.start_server(_accept, host, port, ssl=context) as server:
        await server.serve_forever()


def main(host: str, port: str, target: str, certificate: str, key: str, authority: str) -> None:
    """Serve until the process is ended.

    Args:
        host: Where it listens, and the server behind.
        port: Where it listens.
        target: Where the server behind listens.
        certificate: The server's certificate, a file.
        key: Its private key, a file.
        authority: Who must have signed the clients' certificates, a file.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    asyncio.run(_serve(host, int(port), int(target), context))


if __name__ == "__main__":
    main(*sys.argv[1:])
