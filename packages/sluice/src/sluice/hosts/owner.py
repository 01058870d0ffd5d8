"""Who is at the other end of this SSH connection: the key it was opened with, looked up in a list of owners.

sshd tells the key where it is configured with `ExposeAuthInfo yes`: $SSH_USER_AUTH then names a file it wrote. The list
has the format of allowed_signers (ssh-keygen(1), ALLOWED SIGNERS). This says who typed a run as far as the account's
own users are honest: whoever may run programs as this user could also write the records by hand.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import fnmatch
import hashlib
import os
import re
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

KEY_TYPE = re.compile(r"(sk-)?(ssh|ecdsa)-[a-z0-9-]+(@openssh\.com)?")
CERTIFICATE = "-cert-v01@openssh.com"
OPTION = re.compile(r'(cert-authority)|(namespaces|valid-after|valid-before)="([^"]*)"', re.IGNORECASE)
TIME = re.compile(r"(\d{8})(\d{4}(?:\d{2})?)?(Z?)")
MAX_FILE = 1 << 20  # a list of owners, or what sshd wrote: anything larger is neither
KEYGEN_S = 10.0  # prints one certificate; longer means the program hangs


class Unreadable(Exception):
    """What should tell the owner cannot be read; the sentence says what and where."""


@dataclass(frozen=True, slots=True)
class Key:
    """A public key, or a certificate."""

    type: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the list."""

    principals: tuple[str, ...]
    key: Key
    authority: bool = False
    after: dt.datetime | None = None
    before: dt.datetime | None = None

    def holds(self, now: dt.datetime) -> bool:
        return (self.after is None or now >= self.after) and (self.before is None or now < self.before)

    def matches(self, name: str) -> bool:
        """As in OpenSSH: a negated pattern that matches wins."""
        wanted = [pattern for pattern in self.principals if fnmatch.fnmatchcase(name, pattern.lstrip("!"))]
        return bool(wanted) and not any(pattern.startswith("!") for pattern in wanted)


@dataclass(frozen=True, slots=True)
class Owner:
    """Who answers for a run, how that is known, and what somebody should hear about it."""

    name: str
    source: str
    note: str = ""


def owner_of(environment: Mapping[str, str], owners: str, flag: str, user: str) -> Owner:
    """The SSH key's principal first, then --owner, then the user of this process.

    A key that no list names is the owner by its fingerprint. Where sshd's file cannot be read, the next source is
    taken and `source` says so.
    """
    fallback = (flag, "flag") if flag else (user, "user")
    told = environment.get("SSH_USER_AUTH", "")
    if not told:
        return Owner(*fallback)
    try:
        key = _key_of_connection(Path(told))
    except Unreadable as problem:
        return Owner(fallback[0], f"{fallback[1]} ({problem})", str(problem))
    if key is None:  # a password, or a host key: no person's key was shown
        return Owner(*fallback)
    name, note = _named(key, owners)
    if flag and flag != name:
        also = f"--owner {flag} was not taken: the SSH key of this connection says {name}"
        note = f"{note}; {also}" if note else also
    return Owner(name, f"ssh-key {key.fingerprint}", note)


def _named(key: Key, owners: str) -> tuple[str, str]:
    """The name of a key, and what should be said about it."""
    unlisted = f"{key.fingerprint} (unlisted key)"
    if not owners:
        return unlisted, "host.toml names no [host] owners: the SSH key is recorded by its fingerprint"
    try:
        entries = parse_owners(_text(Path(owners)), owners)
        return _principal(key, entries) or unlisted, ""
    except Unreadable as problem:
        return unlisted, f"the SSH key is recorded by its fingerprint: {problem}"


def _principal(key: Key, entries: list[Entry]) -> str:
    now = dt.datetime.now(dt.UTC)
    valid = [entry for entry in entries if entry.holds(now)]
    for entry in valid:
        if entry.key == key and not entry.authority:
            return next((name for name in entry.principals if not set(name) & set("*?!")), "")
    if CERTIFICATE not in key.type:
        return ""
    certificate = _certificate(key)
    for entry in valid:
        if entry.authority and entry.key.fingerprint == certificate.authority:
            for name in certificate.principals:
                if entry.matches(name):
                    return name
    return ""


# ---------------------------------------------------------------- what sshd tells


def _key_of_connection(path: Path) -> Key | None:
    """The first public key in sshd's file; None when the connection was let in without one. Raises Unreadable."""
    for number, line in enumerate(_text(path, private=True).splitlines(), 1):
        words = line.split()
        if not words or words[0] != "publickey":
            continue
        if len(words) != 3:
            raise Unreadable(f"{path}, line {number}, which should be sshd's, is not a method, a type and a key")
        return _key(words[1], words[2], f"{path}, line {number}")
    return None


def _text(path: Path, *, private: bool = False) -> str:
    """A small regular file of root's or ours, which nobody else can have written. Raises Unreadable."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW * private | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            raw = file.read(MAX_FILE + 1)
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}") from error
    open_to_others = found.st_mode & (0o077 if private else 0o022)
    if not stat.S_ISREG(found.st_mode) or found.st_uid not in {0, os.geteuid()} or open_to_others:
        raise Unreadable(f"{path} is not trusted: it must be a file of ours or root's that nobody else can write")
    try:
        if len(raw) > MAX_FILE:
            raise Unreadable(f"{path} is larger than {MAX_FILE} bytes")
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Unreadable(f"{path} is not UTF-8 text (byte {error.start})") from error


def _key(kind: str, encoded: str, where: str) -> Key:
    """A key whose blob says the type that stands before it. Raises Unreadable."""
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unreadable(f"{where}: the key is not base64") from error
    length = int.from_bytes(blob[:4], "big")
    if not KEY_TYPE.fullmatch(kind) or blob[4 : 4 + length] != kind.encode() or len(blob) <= 4 + length:
        raise Unreadable(f"{where}: this is not a key of type {kind[:60]}")
    return Key(kind, blob)


@dataclass(frozen=True, slots=True)
class _Certificate:
    authority: str
    principals: tuple[str, ...]


def _certificate(key: Key) -> _Certificate:
    """Who signed it for whom, as ssh-keygen prints it. Raises Unreadable."""
    line = f"{key.type} {base64.b64encode(key.blob).decode()}\n"
    try:
        done = subprocess.run(
            ["ssh-keygen", "-L", "-f", "-"], input=line, capture_output=True, text=True, timeout=KEYGEN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unreadable(f"ssh-keygen did not print the certificate: {error}") from error
    authority = re.search(r"^\s*Signing CA: \S+ (SHA256:\S+)", done.stdout, re.MULTILINE)
    if done.returncode != 0 or authority is None:
        raise Unreadable("ssh-keygen does not take the certificate")
    below = done.stdout.partition("Principals:")[2].splitlines()[1:]
    names = []
    for text in below:
        if text.strip().startswith("Critical Options:"):
            break
        names.append(text.strip())
    return _Certificate(authority.group(1), tuple(name for name in names if name and name != "(none)"))


# ---------------------------------------------------------------- the list


def parse_owners(text: str, where: str) -> list[Entry]:
    """Every entry of an allowed_signers file. Raises Unreadable for the first line that is not one."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            found.append(_entry(line.strip(), f"{where}, line {number}"))
    return found


def _entry(line: str, where: str) -> Entry:
    words = _words(line, where)
    principals = tuple(name.strip() for name in words[0].strip('"').split(","))
    if not all(principals) or '"' in "".join(principals):
        raise Unreadable(f"{where}: the principals are not a list of names")
    rest = words[1:]
    options: dict[str, str] = {}
    if rest and not KEY_TYPE.fullmatch(rest[0]):
        options = _options(rest.pop(0), where)
    if len(rest) < 2:
        raise Unreadable(f"{where}: there is no key type and key")
    return Entry(
        principals,
        _key(rest[0], rest[1], where),
        "cert-authority" in options,
        _time(options.get("valid-after", ""), where),
        _time(options.get("valid-before", ""), where),
    )


def _words(line: str, where: str) -> list[str]:
    """Split at blanks that are not inside double quotes."""
    if line.count('"') % 2:
        raise Unreadable(f"{where}: a quotation mark is not closed")
    return re.findall(r'(?:[^\s"]|"[^"]*")+', line)


def _options(text: str, where: str) -> dict[str, str]:
    found = {}
    for part in re.findall(r'(?:[^,"]|"[^"]*")+', text):
        option = OPTION.fullmatch(part)
        if option is None:
            raise Unreadable(f"{where}: {part[:40]!r} is neither an option nor a key type")
        found[(option.group(1) or option.group(2)).lower()] = option.group(3) or ""
    return found


def _time(text: str, where: str) -> dt.datetime | None:
    """YYYYMMDD[HHMM[SS]][Z]; without Z in the machine's own zone."""
    if not text:
        return None
    parts = TIME.fullmatch(text)
    try:
        if parts is None:
            raise ValueError(text)
        found = dt.datetime.strptime(parts.group(1) + (parts.group(2) or "").ljust(6, "0"), "%Y%m%d%H%M%S")  # noqa: DTZ007 - the zone is put on below
    except ValueError as error:
        raise Unreadable(f"{where}: {text[:40]!r} is not a time of the form YYYYMMDD[HHMM[SS]][Z]") from error
    return found.replace(tzinfo=dt.UTC) if parts.group(3) else found.astimezone()
