"""The built web client, served from memory: read once at start, so that no request can name another file."""

from __future__ import annotations

import hashlib
import mimetypes
import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from boltorezka.errors import ConfigError

# The client is some hundred kilobytes; a wrong directory (a home, a disk) must not be read into memory.
MAX_TOTAL = 32 * 1024 * 1024

_HASHED = re.compile(r"[.-][A-Za-z0-9_]{8,}\.[a-z0-9]+$")

_FOREVER = "public, max-age=31536000, immutable"


def web_client_routes(root: Path) -> list[Route]:
    """One route per file of `root`, `/` being index.html. Raises ConfigError when that is not a built client."""
    if not (root / "index.html").is_file():
        problem = "BOLTOREZKA_WEB_ROOT: there is no index.html in this directory"
        raise ConfigError(f"{problem}.", problems=[problem])
    routes, total = [], 0
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        total += file.stat().st_size
        if total > MAX_TOTAL:
            problem = f"BOLTOREZKA_WEB_ROOT: holds more than {MAX_TOTAL >> 20} MiB, so it is not a built web client"
            raise ConfigError(f"{problem}.", problems=[problem])
        name = file.relative_to(root).as_posix()
        routes.append(_file_route("/" if name == "index.html" else f"/{name}", name, file.read_bytes()))
    return routes


def _file_route(path: str, name: str, content: bytes) -> Route:
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    caching = "no-store" if name == "index.html" else _FOREVER if _HASHED.search(name) else "no-cache"
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    headers = {"cache-control": caching, "etag": etag}

    async def serve(request: Request) -> Response:
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, 200, headers, kind)

    return Route(path, serve)
