"""A forge over its HTTP API: pull requests of a branch and statuses of a commit, for GitHub, GitLab and Gitea/Forgejo.

Every fault of the forge is ProbeBroken: it could not be asked, which says nothing about the release. The token goes to
the API's own origin alone, never after a redirect to another one, and into no sentence.
"""

from __future__ import annotations

import asyncio
import os
import stat
import urllib.parse
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from sluice.hosts.forge_dialects import DIALECTS, Ask, CommitStatus, PullRequest, message_of
from sluice.model.errors import ProbeBroken, Refused
from sluice.model.secret import Redactor, Secret
from sluice.model.spec import ForgeSettings

if TYPE_CHECKING:
    import httpx

__all__ = ["CommitStatus", "Forge", "PullRequest", "read_token"]

T = TypeVar("T")
ANSWER_S = 10.0  # between two pieces of an answer; a forge under load needs seconds for a list
ASK_S = 30.0  # one question with all its pages; below the deadline of the gates
MAX_BODY = 8 * 1024 * 1024  # a page of 100 pull requests with long descriptions is far below
MAX_PAGES = 20  # two thousand pull requests of one branch are no answer to read
MAX_REDIRECTS = 3  # a repository that was renamed answers with one
MAX_TOKEN = 4096
AGAIN = "ask again once the forge answers; where it never does, correct `api` of [service.NAME.forge] in host.toml"
CORRECT = "correct `kind` and `api` of [service.NAME.forge] in host.toml"


class Forge:
    """One repository on one forge."""

    def __init__(self, settings: ForgeSettings, redactor: Redactor, *, answer_s: float = ANSWER_S) -> None:
        """Reads nothing yet; the token is read for each question, so a new one needs no restart of anything."""
        self._settings, self._redactor, self._answer_s = settings, redactor, answer_s
        self._dialect = DIALECTS[settings.kind]
        self._origin = _origin(settings.api)

    async def pull_requests(self, branch: str) -> list[PullRequest]:
        """Those from this branch of the repository, whatever their state. Raises ProbeBroken."""
        return await self._within(self._pull_requests(branch))

    async def statuses(self, sha: str) -> list[CommitStatus]:
        """The newest word of every check of a commit. Raises ProbeBroken."""
        return await self._within(self._statuses(sha))

    async def _within(self, asking: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(ASK_S):
                return await asking
        except TimeoutError:
            raise ProbeBroken(f"{self._origin} had not answered everything after {ASK_S:g} s", next=AGAIN) from None

    async def _pull_requests(self, branch: str) -> list[PullRequest]:
        dialect = self._dialect
        async with self._client() as http:
            for ask in dialect.pulls(self._settings.repository, branch):
                pages = await self._pages(http, ask)
                found = [one for page in pages for one in self._read(dialect.read_pulls, page, branch)]
                if found:
                    return found
        return []

    async def _statuses(self, sha: str) -> list[CommitStatus]:
        dialect = self._dialect
        found: list[CommitStatus] = []
        async with self._client() as http:
            for ask in dialect.statuses(self._settings.repository, sha):
                for page in await self._pages(http, ask):
                    found += self._read(dialect.read_statuses, page)
        newest: dict[str, int] = {}
        for one in found:
            newest[one.context] = max(one.order, newest.get(one.context, 0))
        return [one for one in found if one.order == newest[one.context]]

    def _client(self) -> httpx.AsyncClient:
        import httpx  # here and below: half the start of a command that asks nobody anything

        token = ""
        if self._settings.token_file:
            token = read_token(Path(self._settings.token_file))
            self._redactor.learn([Secret(token)])
        headers = dict(self._dialect.headers(token))
        # Plain HTTP is this machine alone; a proxy of the environment would be given the token in the clear.
        proxied = self._origin.startswith("https:")
        return httpx.AsyncClient(headers=headers, follow_redirects=False, timeout=self._answer_s, trust_env=proxied)

    async def _pages(self, http: httpx.AsyncClient, ask: Ask) -> list[bytes]:
        pages: list[bytes] = []
        url = self._settings.api.rstrip("/") + ask.address
        for _ in range(MAX_PAGES):
            response, body = await self._get(http, url)
            pages.append(body)
            following = response.links.get("next", {}).get("url", "")
            if not following or len(pages) == ask.enough:
                return pages
            url = self._same_origin(urllib.parse.urljoin(url, following), "the next page is at")
        raise ProbeBroken(f"{self._origin} has more than {MAX_PAGES} pages about this", next=CORRECT)

    async def _get(self, http: httpx.AsyncClient, url: str) -> tuple[httpx.Response, bytes]:
        import httpx

        for _ in range(MAX_REDIRECTS + 1):
            try:
                async with http.stream("GET", url) as response:
                    body = await self._body(response)
            except httpx.TimeoutException:
                raise ProbeBroken(f"{self._origin} did not answer within {self._answer_s:g} s", next=AGAIN) from None
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                why = self._redactor(" ".join(str(error).split())[:200]) or type(error).__name__
                raise ProbeBroken(f"{self._origin} cannot be reached: {why}", next=AGAIN) from None
            if not response.is_redirect:
                self._must_be_good(response, body)
                return response, body
            url = self._same_origin(urllib.parse.urljoin(url, response.headers["location"]), "it redirects to")
        raise ProbeBroken(f"{self._origin} redirects in a circle", next=CORRECT)

    async def _body(self, response: httpx.Response) -> bytes:
        body = b""
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_BODY:
                raise ProbeBroken(f"{self._origin} answered more than {MAX_BODY} bytes", next=CORRECT)
        return body

    def _same_origin(self, url: str, what: str) -> str:
        other = _origin(url)
        if other != self._origin:
            raise ProbeBroken(
                f"{self._origin} sends us elsewhere: {what} {other}, where the token would be given away",
                next="correct `api` of [service.NAME.forge] in host.toml",
            )
        return url

    def _must_be_good(self, response: httpx.Response, body: bytes) -> None:
        import httpx

        code, told = response.status_code, self._redactor(message_of(body))
        if code == httpx.codes.OK:
            return
        said = f" ({told})" if told else ""
        where = self._settings.repository
        limited = code == 429 or (code == 403 and response.headers.get("x-ratelimit-remaining") == "0")
        if limited:
            wait = response.headers.get("retry-after", "")
            after = f", in {wait} s" if wait.isdigit() else " later"
            raise ProbeBroken(f"{self._origin} takes no more questions for now (HTTP {code})", next=f"ask again{after}")
        file = self._settings.token_file or "token_file of [service.NAME.forge]"
        meaning = {
            401: ("does not accept the token", f"put a valid token into {file}"),
            403: (f"does not let this token read {where}", f"give the token of {file} the right to read"),
            404: (f"knows no {where}, or hides it from this token", "correct `api` and `repository` in host.toml"),
        }
        other = ("could not answer", AGAIN) if code >= 500 else ("did not understand the question", CORRECT)
        what, then = meaning.get(code, other)
        raise ProbeBroken(f"{self._origin} {what}: HTTP {code}{said}", next=then)

    def _read(self, read: Callable[..., list[T]], *arguments: Any) -> list[T]:
        try:
            return read(*arguments)
        except msgspec.MsgspecError as error:
            raise ProbeBroken(
                f"{self._origin} answered something that is not the API of {self._settings.kind.value}: "
                f"{self._redactor(str(error))[:200]}",
                next=CORRECT,
            ) from None


def _origin(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def read_token(path: Path) -> str:
    """The token a file holds. Raises Refused for one that others can read, or that is no token; never shows it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            raw = file.read(MAX_TOKEN + 1)
    except OSError as error:
        raise Refused(
            f"the token file {path} cannot be read: {error.strerror}.", next="correct token_file in host.toml"
        ) from error
    if not stat.S_ISREG(found.st_mode) or found.st_uid not in {0, os.geteuid()} or found.st_mode & 0o077:
        raise Refused(
            f"the token file {path} can be read by others (mode {found.st_mode & 0o777:o}), or is not ours.",
            next=f"chmod 600 {path}",
        )
    token = raw.decode("ascii", "replace").strip()
    if not token or len(raw) > MAX_TOKEN or not token.isprintable() or " " in token or "\ufffd" in token:
        raise Refused(f"the token file {path} does not hold one token and nothing else.", next=f"write it into {path}")
    return token
