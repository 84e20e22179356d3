"""TLS in front of a redis-server, as a managed Redis has it: the redis-server that comes with the tests has none."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trustme


@contextmanager
def tls_front(port: int, directory: Path) -> Iterator[tuple[int, Path]]:
    """The port where TLS is spoken for the plain one at `port`, and the certificate to trust."""
    authority = trustme.CA()
    trusted = directory / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(relay(reader, inner_writer), relay(inner_reader, writer))

    async def serve(listening: threading.Event, stop: asyncio.Event) -> None:
        server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
        found.append((server.sockets[0].getsockname()[1], asyncio.get_running_loop()))
        listening.set()
        await stop.wait()
        server.close()

    found: list[tuple[int, asyncio.AbstractEventLoop]] = []
    listening, stop = threading.Event(), asyncio.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve(listening, stop)), name="tls")
    thread.start()
    listening.wait()
    ((tls_port, loop),) = found
    try:
        yield tls_port, trusted
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
