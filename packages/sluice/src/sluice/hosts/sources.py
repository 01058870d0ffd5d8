"""Where a server's values come from: the env file and, over it, whatever else host.toml names. Held in memory alone.

Later goes over earlier: env_file, sops_file, age_file, secret_command, secret_files. The other sources than the env
file are read once by each process that needs them, so one run sees one set of values; the launcher of a service reads
them anew at every start, as it reads the env file.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from sluice.hosts.envfile import NAME, EnvFile, fingerprint_of, must_stay, parsed, secrets_of, unquoted
from sluice.model.errors import Refused
from sluice.model.secret import Secret
from sluice.model.spec import HostEnvironment

DEADLINE_S = 30  # a vault across a slow line; every command that opens the environment waits for it
MAX_BYTES = 256 * 1024  # as of the env file: an environment must fit exec's limits
# By its name sops knows how a file is written; what has another one is decrypted to the bytes that were encrypted.
DOCUMENTS = {".yaml", ".yml", ".json", ".env"}


class Sources(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What host.toml names. Holds places and a command, no value: it may stand in an argument list."""

    env_file: str = ""
    sops_file: str = ""
    age_file: str = ""
    age_identity: str = ""
    secret_command: tuple[str, ...] = ()
    secret_files: str = ""

    @property
    def beside(self) -> bool:
        """Whether there is any source beside the env file."""
        return bool(self.sops_file or self.age_file or self.secret_command or self.secret_files)


def sources_of(host: HostEnvironment) -> Sources:
    """What an environment of host.toml names."""
    return Sources(**{name: getattr(host, name) for name in Sources.__struct_fields__})


def beside_of(host: HostEnvironment) -> str:
    """For the launcher: the sources beside the env file, as JSON; empty when there are none."""
    sources = msgspec.structs.replace(sources_of(host), env_file="")
    return msgspec.json.encode(sources).decode() if sources.beside else ""


def sources_from(env_file: str, beside: str) -> Sources:
    """What `beside_of` wrote, with the env file again."""
    found = msgspec.json.decode(beside, type=Sources) if beside else Sources()
    return msgspec.structs.replace(found, env_file=env_file)


class ServerValues:
    """One view of all of them, with what an EnvFile promises. Values are Secrets and never written down."""

    def __init__(self, sources: Sources) -> None:
        """Touches nothing."""
        self._sources = sources
        self._file = EnvFile(Path(sources.env_file)) if sources.env_file else None
        self._read: dict[str, Secret] | None = None
        self._refused: Refused | None = None  # why the first source that could not be read could not

    def check(self) -> None:
        """Raises Refused unless every source can be read, and by nobody it is not for."""
        if self._file is not None:
            self._file.check()
        self._beside()

    def names(self) -> set[str]:
        """The variables set to something. Raises Refused when a source cannot be read."""
        return {name for name, value in self.values().items() if value.reveal()}

    def values(self) -> dict[str, Secret]:
        """All of them, later sources over earlier. Raises Refused when a source cannot be read."""
        return {**(self._file.values() if self._file else {}), **self._beside()}

    def secrets(self) -> list[Secret]:
        """For the redactor, of every source that can be read; `unread` says whether one is missing."""
        with contextlib.suppress(Refused):
            self._beside()
        return [*(self._file.secrets() if self._file else []), *secrets_of(self._read or {})]

    def unread(self) -> str:
        """Why not every value is known, in a sentence; "" when all are."""
        try:
            self.values()
        except Refused as error:
            return error.what
        return ""

    def fingerprint(self, host_key: bytes) -> str:
        """HMAC-SHA256 over all names and values. Raises Refused when a source cannot be read."""
        return fingerprint_of(self.values(), host_key)

    def _beside(self) -> dict[str, Secret]:
        # Not asked again in this run, also where one refused: a vault that is away costs its deadline once.
        if self._read is None:
            self._read = {}
            for name, read in _READERS.items():
                try:
                    if getattr(self._sources, name):
                        self._read |= read(self._sources)
                except Refused as error:
                    # The others are read all the same: what they hold has to be hidden.
                    self._refused = self._refused or error
        if self._refused is not None:
            raise self._refused
        return self._read


def _sops(sources: Sources) -> dict[str, Secret]:
    """As JSON: in its NAME=value lines a line end is two letters, a null is a word, and who quoted what is not told."""
    place = Path(sources.sops_file)
    _must_be_ours("sops_file", place)
    _check_identity(sources)
    key = {"SOPS_AGE_KEY_FILE": sources.age_identity} if sources.age_identity else {}
    refused = _refusal("sops_file", sources.sops_file)
    json = () if place.suffix not in DOCUMENTS else ("--output-type", "json")
    argv = (_program("sops_file", "sops"), "--decrypt", *json, sources.sops_file)
    given = " ".join(f"{name}={shlex.quote(value)} " for name, value in key.items())
    text = _printed(argv, refused, f"{given}{shlex.join(('sops', '--decrypt', sources.sops_file))} > /dev/null", key)
    if not json:
        return parsed(text, refused)
    try:
        known = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        raise refused("is no map of names to values", "write NAME: value, one below the other") from None
    quoted = place.suffix == ".env"
    return {name: _scalar(name, value, refused, unquote=quoted) for name, value in known.items()}


def _age(sources: Sources) -> dict[str, Secret]:
    _must_be_ours("age_file", Path(sources.age_file))
    _check_identity(sources)
    identity = ("--identity", sources.age_identity) if sources.age_identity else ()
    words = ("--decrypt", *identity, sources.age_file)
    refused = _refusal("age_file", sources.age_file)
    argv = (_program("age_file", "age"), *words)
    return parsed(_printed(argv, refused, f"{shlex.join(('age', *words))} > /dev/null"), refused)


def _command(sources: Sources) -> dict[str, Secret]:
    # Before it is run: a program that others can change is not asked for secrets.
    _must_be_ours("secret_command", Path(sources.secret_command[0]))
    refused = _refusal("secret_command", sources.secret_command[0])
    # Without its arguments: who wrote them may have thought that nobody would see them.
    return parsed(_printed(sources.secret_command, refused, f"{sources.secret_command[0]} …"), refused)


def _check_identity(sources: Sources) -> None:
    if sources.age_identity:
        EnvFile(Path(sources.age_identity), "age_identity").check_place()


def _scalar(name: str, value: object, refused: Callable[[str, str], Refused], *, unquote: bool) -> Secret:
    if not NAME.fullmatch(name):
        raise refused(f"has {name!r}, which is no variable's name", "name it as the variable")
    if isinstance(value, bool | int):
        value = str(value).lower()
    # A fraction has lost how it was written (1.10), and of a null nobody can say what a server would read.
    if not isinstance(value, str) or "\0" in value:
        raise refused(f"gives {name} something else than a text", f"write the value of {name} in quotes")
    return Secret(unquoted(value) if unquote else value)


def _program(source: str, name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Refused(
            f"{source} is named in host.toml, and the program {name} that decrypts it is not installed.",
            next=f"install {name} on this server, or take {source} out of host.toml",
        )
    return found


def _printed(
    argv: tuple[str, ...],
    refused: Callable[[str, str], Refused],
    by_hand: str,
    more: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """What a command prints. `by_hand`: what somebody types to see what it says. Raises what `refused` makes."""
    again = f"run it by hand as the user Sluice runs as: {by_hand}"
    unread = f"could not be read: {Path(argv[0]).name}"
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}
    try:
        # Its stderr may quote a secret, so nobody sees it; the exit code is what can be told.
        child = subprocess.Popen(
            argv,
            env={**environment, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise refused(f"{unread} cannot be started: {error.strerror}", "correct it in host.toml") from None
    with child:
        try:
            stdout = _read_to_the_end(child)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # what it started too, which may hold the pipe
            if not isinstance(error, subprocess.TimeoutExpired):
                raise  # Ctrl-C, say: a command that hangs is not left behind
            raise refused(f"{unread} did not end within {DEADLINE_S} s", again) from None
    if stdout is None:
        raise refused(f"{unread} printed more than {MAX_BYTES} bytes", "print NAME=value lines alone")
    if child.returncode:
        raise refused(f"{unread} ended with exit code {child.returncode}", again)
    try:
        return stdout.decode()
    except UnicodeDecodeError:
        raise refused(f"{unread} did not print UTF-8 text", "print NAME=value lines") from None


def _read_to_the_end(child: subprocess.Popen[bytes]) -> bytes | None:
    """What it prints; None when that is too much, and it is ended then. Raises TimeoutExpired."""
    end, told = time.monotonic() + DEADLINE_S, bytearray()
    pipe = child.stdout.fileno() if child.stdout else -1
    ready = select.poll()  # a descriptor may have any number
    ready.register(pipe, select.POLLIN)
    while ready.poll(max(0.0, end - time.monotonic()) * 1000):
        part = os.read(pipe, MAX_BYTES + 1 - len(told))
        told += part
        if not part:
            child.wait(max(0.0, end - time.monotonic()))
            return bytes(told)
        if len(told) > MAX_BYTES:
            os.killpg(child.pid, signal.SIGKILL)
            return None
    raise subprocess.TimeoutExpired(child.args, DEADLINE_S)


def _folder(folder: Path) -> dict[str, Secret]:
    refused = _refusal("secret_files", str(folder))
    found = {}
    try:
        must_stay(folder, refused)
        for file in sorted(folder.iterdir()):
            if file.name.startswith(".") or not file.is_file():
                continue  # `..data` and its kin: how an orchestrator exchanges all files at once
            if not NAME.fullmatch(file.name):
                raise refused(f"has a file {file.name!r}, which is no variable's name", "name the file as the variable")
            _must_be_closed(file, folder, refused)
            raw = file.read_bytes()[: MAX_BYTES + 1]
            if len(raw) > MAX_BYTES or b"\0" in raw:
                raise refused(f"has {file.name}, which is no value", "keep one value in each file")
            found[file.name] = Secret(raw.decode().removesuffix("\n"))
    except OSError as error:
        raise refused(f"cannot be read: {error.strerror}", "correct its path, owner and mode") from None
    except UnicodeDecodeError:
        raise refused("has a file that is not UTF-8 text", "keep one value in each file") from None
    return found


def _must_be_closed(file: Path, folder: Path, refused: Callable[[str, str], Refused]) -> None:
    """Of what is read, which may lie elsewhere: whose it is, who may read it, who may exchange it, and whether git."""
    status, inside = file.stat(), file.resolve().is_relative_to(folder.resolve())
    if status.st_uid not in {os.geteuid(), 0}:
        raise refused(f"has {file.name}, which belongs to user {status.st_uid}", f"chown {os.geteuid()} {file}")
    # Where others cannot enter the folder, they cannot read what lies in it either.
    closed = inside and not folder.stat().st_mode & (stat.S_IXOTH | stat.S_IXGRP)
    if status.st_mode & 0o022 or (status.st_mode & 0o044 and not closed):
        raise refused(
            f"has {file.name} with mode {stat.S_IMODE(status.st_mode):04o}, open to others", f"chmod 400 {file}"
        )
    if file.is_symlink():
        must_stay(file, refused, in_git=inside)


# In the order of the first line: what comes later goes over what comes earlier.
_READERS: dict[str, Callable[[Sources], dict[str, Secret]]] = {
    "sops_file": _sops,
    "age_file": _age,
    "secret_command": _command,
    "secret_files": lambda sources: _folder(Path(sources.secret_files)),
}


def _must_be_ours(source: str, path: Path) -> None:
    refused = _refusal(source, str(path))
    try:
        status = path.stat()
    except OSError as error:
        raise refused(f"cannot be read: {error.strerror}", "correct its path, owner and mode") from None
    if status.st_uid not in (os.geteuid(), 0) or status.st_mode & 0o022:
        raise refused("can be changed by others", f"chown {os.geteuid()} {path} && chmod go-w {path}")
    must_stay(path, refused, in_git=True)  # what is encrypted, or prints, may be in git


def _refusal(source: str, what: str) -> Callable[[str, str], Refused]:
    return lambda found, next_step: Refused(f"{source} {what} {found}.", next=next_step, file=what)
