"""HTTP over the engine's unix socket: versions, deadlines, bounded answers, and one error that says what to do."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from sluice.model.errors import StepFailed
from sluice.model.secret import Redactor

if TYPE_CHECKING:
    import httpx

# Every engine from 20.10 (1.41) to 29 takes a version of this range: 29 refuses what is older than 1.44. What is read
# and written here has the same form in all of them.
OLDEST_API = (1, 41)
NEWEST_API = (1, 44)
ANSWER_S = 30.0  # the engine answers within milliseconds; a disk that is busy with images makes it take seconds
MAX_ANSWER = 32 * 1024 * 1024  # the list of some thousand containers
MAX_LINE = 1024 * 1024  # of a stream of JSON lines: one line of progress is some hundred bytes
CONNECTIONS = 16  # at a time; the engine serves them in parallel, and more would only queue inside it
CHUNK = 256 * 1024

Query = Mapping[str, str | int | Sequence[str]]


class Answer(NamedTuple):
    """A whole answer; `document` is its JSON, {} where there is none."""

    status: int
    document: Any


class EngineHttp:
    """One engine. Keeps no connection open between calls, so there is nothing to close and it serves any event loop."""

    def __init__(self, socket_path: str | Path, redactor: Redactor) -> None:
        """Touches nothing. The redactor is shared: what it learns later is hidden from then on."""
        self.socket_path = str(socket_path)
        self.redactor = redactor
        self._prefix = ""
        # a command about processes asks no engine, and need not wait for it to be loaded
        import httpx

        # verify=False: there is no TLS on a unix socket, and reading the system's authorities would cost 20 ms.
        self._transport = httpx.AsyncHTTPTransport(
            uds=self.socket_path,
            verify=False,
            trust_env=False,
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=0),
        )

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        accept: tuple[int, ...] = (),
        timeout_s: float = ANSWER_S,
    ) -> Answer:
        """One call and its whole answer. A status of 400 or more raises StepFailed unless it is in `accept`."""
        content = None if body is None else msgspec.json.encode(body)
        async with self.open(
            method, path, query=query, content=content, accept=accept, timeout_s=timeout_s
        ) as response:
            return Answer(response.status_code, self._decoded(path, await self._whole(path, response)))

    async def follow(
        self,
        path: str,
        on_event: Callable[[dict[str, Any]], None],
        *,
        query: Query,
        timeout_s: float,
        content: AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """POST, then hand over the JSON lines of a long answer as they come. An `error` in one raises StepFailed."""
        async with self.open("POST", path, query=query, content=content, headers=headers, timeout_s=timeout_s) as got:
            line = bytearray()
            async for chunk in got.aiter_raw(CHUNK):
                line += chunk
                *whole, rest = line.split(b"\n")
                line = bytearray(rest)
                if len(line) > MAX_LINE:
                    raise self.failed(path, "answered with an endless line")
                for each in whole:
                    if each.strip():
                        on_event(self._event(path, bytes(each)))
            if line.strip():
                on_event(self._event(path, bytes(line)))

    @contextlib.asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        content: bytes | AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        accept: tuple[int, ...] = (),
        timeout_s: float = ANSWER_S,
    ) -> AsyncIterator[httpx.Response]:
        """One call whose answer is read by the caller. The deadline holds for all of it. Statuses: see `ask`."""
        import httpx

        if path != "/version":
            await self.ready()
        request = httpx.Request(
            method,
            f"http://engine{self._prefix if path != '/version' else ''}{path}",
            params=dict(query or {}),
            content=content,
            headers={"Host": "engine", "Content-Type": "application/json", **(headers or {})},
            extensions={"timeout": httpx.Timeout(timeout_s).as_dict()},
        )
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._transport.handle_async_request(request)
                try:
                    if response.status_code >= 400 and response.status_code not in accept:
                        document = self._decoded(path, await self._whole(path, response))
                        raise self.refused(path, Answer(response.status_code, document))
                    yield response
                finally:
                    await response.aclose()
        except httpx.ConnectError as error:
            raise self._unreachable(error) from error
        except (TimeoutError, httpx.TimeoutException) as error:
            raise self.failed(path, f"did not answer within {timeout_s:g} s") from error
        except httpx.HTTPError as error:
            raise self.failed(path, f"broke off: {type(error).__name__} {error}") from error

    async def ready(self) -> None:
        """The version is agreed on. Calls that are made all at once wait for this first, or each would ask."""
        if not self._prefix:
            await self.negotiate()

    async def negotiate(self) -> dict[str, Any]:
        """What the engine says of itself. Fixes the version of the API that every later call speaks."""
        document: dict[str, Any] = (await self.ask("GET", "/version")).document
        newest = _version(document.get("ApiVersion", ""))
        oldest = _version(document.get("MinAPIVersion", "") or "1.12")
        if newest < OLDEST_API or oldest > NEWEST_API:
            raise StepFailed(
                f"the container engine at {self.socket_path} speaks the API {_text(oldest)} to {_text(newest)}, and "
                f"Sluice speaks {_text(OLDEST_API)} to {_text(NEWEST_API)}.",
                next="install Docker Engine 20.10 or newer; where it is much newer, update Sluice",
            )
        self._prefix = f"/v{_text(min(newest, NEWEST_API))}"
        return document

    def failed(self, path: str, found: str, *, status: int = 0) -> StepFailed:
        """The error of a call that did not do what it should."""
        return StepFailed(
            f"the container engine {self.redactor(found)} ({path.partition('?')[0]}).",
            next="look at `docker info` and the engine's own log, then repeat the command",
            status=status,
        )

    def _event(self, path: str, line: bytes) -> dict[str, Any]:
        event: dict[str, Any] = self._decoded(path, line)
        if event.get("error"):
            raise self.failed(path, f"said: {str(event['error']).strip()}")
        return event

    def refused(self, path: str, answer: Answer) -> StepFailed:
        """The error of an answer that says no, with the engine's own words. data: status."""
        message = answer.document.get("message", "") if isinstance(answer.document, dict) else ""
        return self.failed(path, f"said {answer.status}: {str(message).strip()}", status=answer.status)

    async def _whole(self, path: str, response: httpx.Response) -> bytes:
        raw = bytearray()
        async for chunk in response.aiter_raw(CHUNK):
            raw += chunk
            if len(raw) > MAX_ANSWER:
                raise self.failed(path, f"answered with more than {MAX_ANSWER} bytes")
        return bytes(raw)

    def _decoded(self, path: str, raw: bytes) -> Any:
        try:
            return msgspec.json.decode(raw) if raw.strip() else {}
        except msgspec.DecodeError as error:
            text = raw[:200].decode(errors="replace").strip()
            raise self.failed(path, f"answered with something that is no JSON: {text}") from error

    def _unreachable(self, error: httpx.ConnectError) -> StepFailed:
        path = Path(self.socket_path)
        user = "this user"
        if not path.exists():
            found, advice = "is not there", "install and start Docker Engine, or correct [host] docker in host.toml"
        elif not os.access(path, os.R_OK | os.W_OK):
            group = _group_of(path)
            found = f"may not be used by {user}"
            advice = f"add the user to the group {group} (that is as much as root on this machine), then log in again"
        else:
            found, advice = f"does not answer ({error})", "start the engine: systemctl start docker"
        return StepFailed(f"the container engine's socket {path} {found}.", next=advice, unreachable=True)


def _group_of(path: Path) -> str:
    try:
        return path.group()
    except (KeyError, OSError):
        return "that owns it"


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)


def _text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
