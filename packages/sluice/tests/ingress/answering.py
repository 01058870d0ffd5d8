"""A small server that answers its name in a slot's container, and asking an ingress until it does."""

from __future__ import annotations

import asyncio
import ssl

DEADLINE_S = 20
SERVER = """
import asyncio, sys
NAME = sys.argv[1].encode()
async def answer(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\\r\\n\\r\\n")).lower()
            if b"upgrade: websocket" in head:
                writer.write(b"HTTP/1.1 101 Switching Protocols\\r\\n")
                writer.write(b"Connection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n")
                while line := await reader.readline():
                    writer.write(NAME + line)
                return
            if head.startswith(b"get /stream"):
                writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Type: text/event-stream\\r\\n\\r\\n")
                while True:
                    writer.write(NAME + b"\\n")
                    await writer.drain()
                    await asyncio.sleep(0.02)
            body = NAME
            if head.startswith(b"get /scheme"):
                body = next(line for line in head.splitlines() if line.startswith(b"x-forwarded-proto"))
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body))
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()
async def main():
    server = await asyncio.start_server(answer, "0.0.0.0", 8000)
    await server.serve_forever()
asyncio.run(main())
"""


async def ask(port: int, path: str = "/", extra: str = "", tls: ssl.SSLContext | None = None) -> tuple[str, str]:
    """One request on a connection of its own: head and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{extra}Connection: close\r\n\r\n".encode())
        raw = await asyncio.wait_for(reader.read(), DEADLINE_S)
    finally:
        writer.close()
    head, _, body = raw.decode().partition("\r\n\r\n")
    return head, body


async def until_says(port: int, name: str, tls: ssl.SSLContext | None = None) -> None:
    """Poll until this slot answers."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                if (await ask(port, tls=tls))[1] == name:
                    return
            except OSError:  # not there yet, or still the other certificate
                pass
            await asyncio.sleep(0.01)
