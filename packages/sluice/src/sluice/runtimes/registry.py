"""Registry credentials, read where `docker login` put them. They go to the engine in a header and nowhere else."""

from __future__ import annotations

import asyncio
import base64
import os
import re
from pathlib import Path

import msgspec

from sluice.model.errors import StepFailed

HUB = "https://index.docker.io/v1/"  # the name under which Docker keeps the credentials of its own registry
HELPER_S = 15  # a keychain answers at once, a cloud's helper asks its server
HELPER = re.compile(r"[A-Za-z0-9._-]+")


class Entry(msgspec.Struct, frozen=True):
    """Of one registry."""

    auth: str | None = None  # user:password in base64


class Config(msgspec.Struct, frozen=True, rename="camel"):
    """What is read of Docker's config.json."""

    auths: dict[str, Entry] | None = None
    cred_helpers: dict[str, str] | None = None  # by registry
    creds_store: str | None = None  # of all others


class Answer(msgspec.Struct, frozen=True, rename="pascal"):
    """What a credential helper prints."""

    username: str
    secret: str


async def registry_auth(repository: str) -> dict[str, str]:
    """The header for the engine; empty where nobody logged in. Raises StepFailed when the credentials are broken."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    try:
        config = msgspec.json.decode((folder / "config.json").read_bytes(), type=Config)
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        raise StepFailed(
            f"Docker's configuration {folder / 'config.json'} cannot be read: {error}.", next="correct it: docker login"
        ) from error
    server = _server(repository)
    helper = (config.cred_helpers or {}).get(server) or config.creds_store
    found = await _from_helper(helper, server) if helper else _from_file(config, server)
    if found is None:
        return {}
    document = {"username": found[0], "password": found[1], "serveraddress": server}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(msgspec.json.encode(document)).decode()}


def _server(repository: str) -> str:
    first, slash, _ = repository.partition("/")
    named = slash and ("." in first or ":" in first or first == "localhost")
    return first if named and first != "docker.io" else HUB


def _from_file(config: Config, server: str) -> tuple[str, str] | None:
    entries = config.auths or {}
    entry = entries.get(server) or entries.get(f"https://{server}")
    if entry is None or not entry.auth:
        return None
    try:
        user, _, password = base64.b64decode(entry.auth, validate=True).decode().partition(":")
    except ValueError as error:  # of base64, and of bytes that are no text
        raise StepFailed(f"the credentials kept for {server} are damaged.", next=f"docker login {server}") from error
    return user, password


async def _from_helper(helper: str, server: str) -> tuple[str, str] | None:
    if not HELPER.fullmatch(helper):
        raise StepFailed(
            "Docker's configuration names a credential helper that is no program's name.",
            next="correct it: docker login",
        )
    try:
        process = await asyncio.create_subprocess_exec(
            f"docker-credential-{helper}",
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        raise StepFailed(
            f"the credential helper docker-credential-{helper} cannot be started: {error.strerror}.",
            next="install it, or log in without a helper",
        ) from error
    try:
        async with asyncio.timeout(HELPER_S):
            raw, _ = await process.communicate(server.encode())
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise StepFailed(
            f"docker-credential-{helper} did not answer within {HELPER_S} s.", next=f"docker login {server}"
        ) from error
    if process.returncode:
        return None  # it has nothing for this server
    try:
        answer = msgspec.json.decode(raw, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # Not what it printed: that may be half a secret.
        raise StepFailed(
            f"docker-credential-{helper} printed no credentials for {server}.", next=f"docker login {server}"
        ) from error
    return answer.username, answer.secret
