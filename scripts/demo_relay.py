"""Lets a server in a container reach the development SSO under the address that browsers know it by, 127.0.0.1:PORT.

The SSO listens on this machine's loopback and nowhere else, and a container has a loopback of its own. Two relays and a
socket file between them join the two, for the demo and for tests only:

    demo_relay.py outside SOCKET PORT                  on the machine: from the socket file to 127.0.0.1:PORT
    demo_relay.py inside PORT SOCKET COMMAND [ARG...]  in the container: from 127.0.0.1:PORT to the socket file, beside
                                                       COMMAND, which this process becomes

Nothing but the standard library: it runs in the server's image as in any environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

LOOPBACK = "127.0.0.1"
CHUNK = 1 << 16
CONNECT_S = 5  # to a listener on this machine
IDLE_S = 120  # longer than an HTTP client keeps a connection it does not use
MAX_CONNECTIONS = 256  # a test signs in some hundred people, a few at a time

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


async def relay(listener: socket.socket, connect: Connect) -> None:
    """Serve until killed: every connection that comes is joined to a new one."""
    free = asyncio.Semaphore(MAX_CONNECTIONS)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with free:
            try:
                await join(reader, writer, connect)
            except (OSError, TimeoutError) as error:
                print(f"relay: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            finally:
                writer.close()

    if listener.family == socket.AF_UNIX:
        server = await asyncio.start_unix_server(serve, sock=listener)
    else:
        server = await asyncio.start_server(serve, sock=listener)
    await server.serve_forever()


async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connect: Connect) -> None:
    """Copy both ways until both have ended. Raises OSError or TimeoutError."""
    async with asyncio.timeout(CONNECT_S):
        far_reader, far_writer = await connect()
    try:
        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))
    finally:
        far_writer.close()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One way; the end is passed on."""
    while True:
        async with asyncio.timeout(IDLE_S):
            chunk = await reader.read(CHUNK)
            if not chunk:
                break
            writer.write(chunk)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


def outside(path: Path, port: int) -> None:
    """On the machine. Whoever can reach the folder may use the socket: the folder decides, not the socket's mode."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o666)
    asyncio.run(relay(listener, lambda: asyncio.open_connection(LOOPBACK, port)))


def inside(port: int, path: str, command: list[str]) -> None:
    """In the container: the relay is a child that ends with it, the command is the process the engine knows."""
    listener = socket.create_server((LOOPBACK, port))
    if os.fork():
        os.execvp(command[0], command)  # noqa: S606 - the command of the Compose file
    asyncio.run(relay(listener, lambda: asyncio.open_unix_connection(path)))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["outside", path, port]:
            outside(Path(path), int(port))
        case ["inside", port, path, *command] if command:
            inside(int(port), path, command)
        case _:
            sys.exit(__doc__)
