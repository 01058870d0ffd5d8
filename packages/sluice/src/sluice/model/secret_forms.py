"""What of a value is secret, and in which letters it may come back. Escapes are undone by `secret_search`."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import urllib.parse
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from sluice.model.words import are_words

# Shorter values are not looked for in text: redacting every "1" or "true" would hide the output and protect nothing.
MIN_LENGTH = 6
# Of a value of several lines, of a list and of JSON each part comes back alone; a shorter one may be any configuration.
MIN_PART = 12
# As Python and MIME wrap base64, and as PEM and openssl do.
WRAPS = (76, 64)

LAYERS = 8  # JSON with a list with `key=value` in it: more than any configuration has

# What a name says that is given a secret: `password=`, `"api_key":`. What ends in `key` alone may be a cache's too.
_SURE = (
    r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|credentials?"
    r"|(?:api|access|account|auth|encryption|master|private|secret|session|shared|sign(?:ing)?)[_.-]?key)"
)
_NAMED = rf"[\w.-]*(?:{_SURE}|key|sig(?:nature)?)"
_IS_NAMED = re.compile(_NAMED, re.IGNORECASE)
_IS_SURE = re.compile(f"{_SURE}$", re.IGNORECASE)
_ARE_SURE = re.compile(f"{_SURE}s?$", re.IGNORECASE)
_GIVEN = re.compile(rf"(?<![\w.-])({_NAMED})\s*=\s*('[^']*'|\"[^\"]*\"|\{{[^}}]*\}}|[^\s;,&#'\"]+)", re.IGNORECASE)
_DRAWN = re.compile(r"(?=.*[0-9]).*[A-Za-z]", re.DOTALL)
_HOST = r"[a-z0-9*-]+(?:\.[a-z0-9-]+)+(?::\d+)?(?:/\d+)?"
_NO_SECRET = re.compile(rf"{_HOST}|[\w.+-]+@{_HOST}")  # hosts and networks, addresses of people
# Words, zones and folders: what a list of configuration is made of.
_PLAIN = re.compile(r"/?[a-z]+(?:[-_./](?:[a-z]+|[0-9]{1,4}[a-z]?))*/?")
_WITH_TOKENS = ("http", "https", "git")  # what stands for the user in their addresses may be a forge's token
_QUOTES = ("''", '""', "{}")


@dataclass(frozen=True, slots=True)
class Form:
    """Letters to look for. In base64 some more on each side hold bits of the secret, and bits of what stands there."""

    raw: bytes
    before: int = 0
    after: int = 0


def forms_of(value: str, shown: Collection[str] = ()) -> set[Form]:
    """The value and each part of it that is a secret of its own: as they are, in base64 at any place, in hex.

    What is in `shown` is none, whether it is the value or a part.
    """
    parts = (part for part in _parts(value) if len(part) >= MIN_LENGTH and part.rstrip("/") not in shown)
    return {form for part in parts for form in _written(part) if len(form.raw) >= MIN_LENGTH}


def members_of(name: str, value: str) -> Iterator[str]:
    """Members of a list whose variable's name says that they are secrets, as `API_TOKENS`: then also words are."""
    for member, named in _members(value) if _ARE_SURE.search(name) else ():
        if not named and len(member) >= MIN_PART and not _is_known(member):
            yield member


def is_bare_address(value: str) -> bool:
    """An origin, or the place of a SQLite file: hiding these hides the evidence. A path or query may hold a key."""
    try:
        parts = urllib.parse.urlsplit(value)
    except ValueError:
        return False
    origin = parts.scheme in {"http", "https"} and parts.path in {"", "/"}
    return (origin or parts.scheme == "sqlite") and not (parts.query or parts.fragment or "@" in parts.netloc)


def _parts(value: str) -> set[str]:
    found, new = set[str](), {value}
    alone = set[str]()  # parts that are not taken apart again
    for _ in range(LAYERS):
        new = {part for part in new if len(part) >= MIN_LENGTH} - found
        found |= new
        inner = set[str]()
        for part in new:
            members = list(_members(part))
            inner.update(_given(part), (member for member, name in members if _is_secret(member, name)))
            alone.update(_lines(part), _passwords(part), *(_passwords(member) for member, _ in members))
        new = inner
    return found | alone


def _lines(value: str) -> Iterator[str]:
    for line in map(str.strip, value.splitlines()):
        # A PEM's frame everybody knows.
        if line != value and len(line) >= MIN_PART and not line.startswith("-----"):
            yield line


def _given(value: str) -> Iterator[str]:
    for match in _GIVEN.finditer(value):
        given = match[2]
        bare = given[1:-1] if given[0] + given[-1] in _QUOTES else given
        if _says_secret(match[1], bare):
            yield bare


def _says_secret(name: str, value: str) -> bool:
    """Whether the name says that this value is secret: `cache.key=production` is a setting."""
    if _IS_SURE.search(name):
        return True
    return _IS_NAMED.fullmatch(name) is not None and (len(value) >= MIN_PART or _DRAWN.match(value) is not None)


def _is_secret(member: str, name: str) -> bool:
    if _says_secret(name, member):
        return True
    listed = _ARE_SURE.search(name) is not None
    return len(member) >= MIN_PART and not _is_known(member) and (listed or not _is_plain(member))


def _is_known(member: str) -> bool:
    return is_bare_address(member) or _NO_SECRET.fullmatch(member) is not None


def _is_plain(value: str) -> bool:
    return _PLAIN.fullmatch(value) is not None and are_words(value)


def _passwords(value: str) -> Iterator[str]:
    """Of `scheme://user:password@host`, also where the password holds what should have been encoded."""
    for begin in re.finditer("://", value):
        rest = value[begin.end() :].split(maxsplit=1)[:1]
        tokens = value[max(0, begin.start() - 5) : begin.start()].lower().endswith(_WITH_TOKENS)
        for user, password, others in _userinfo(rest[0] if rest else ""):
            names = re.split(r"[/?]", others)
            # A password that is the user's or the database's name would hide every mention of them.
            if len(password) >= MIN_LENGTH and password not in (user, *names):
                yield password
            elif not password and tokens and len(user) >= MIN_PART and user not in names and not _is_plain(user):
                yield user  # a token alone, as of forges


def _userinfo(rest: str) -> Iterator[tuple[str, str, str]]:
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    for at in {rest.find("@"), authority.rfind("@"), rest.rfind("@")} - {-1}:
        user, _, password = rest[:at].partition(":")
        if not re.match(r"\d+[/?#]", password) and not re.search("[/?#]", user):  # a port, or an @ in a path
            yield user, password, rest[at + 1 :]


def _members(value: str) -> Iterator[tuple[str, str]]:
    """Members of JSON or of a list, and the name that JSON gives to them."""
    try:
        told = json.loads(value) if value.lstrip()[:1] in ("{", "[") else None
    except (ValueError, RecursionError):
        told = None
    if told is not None:
        yield from _leaves(told)
        return
    found = re.split("[,;]", value)
    for member in map(str.strip, found if len(found) > 1 else ()):
        yield member, ""
        if (named := re.match(r"[\w.-]+[:=](?!//)", member)) is not None:  # `key id: key`
            yield member[named.end() :].strip(), ""


def _leaves(told: Any) -> Iterator[tuple[str, str]]:
    left = [(told, "")]
    while left:
        one, name = left.pop()
        if isinstance(one, str):
            yield one, name
        elif isinstance(one, dict):
            # In `passwords` the keys are whose they are; what is called credentials has a type and an address, too.
            many = _ARE_SURE.search(name) is not None and not name.lower().endswith("credentials")
            left += ((child, name if many else key) for key, child in one.items())
        elif isinstance(one, list):
            left += ((child, name) for child in one)


def _written(part: str) -> Iterator[Form]:
    raw = part.encode(errors="surrogatepass")
    yield from map(Form, _spelt(part, raw))
    in_json = (json.dumps(part, ensure_ascii=plain)[1:-1] for plain in (True, False))
    escaped = (urllib.parse.quote(raw, safe=""), *in_json)  # nothing undoes an escape within base64
    for inner in {raw, *(one.encode(errors="surrogatepass") for one in escaped)}:
        yield from _base64(inner)
    for width in WRAPS:
        whole = base64.b64encode(raw)
        if len(whole) > width:
            lines = (whole[at : at + width] for at in range(0, len(whole), width))
            yield Form(b"\n".join(lines).rstrip(b"=\n"))
    yield from (Form(raw.hex().encode()), Form(raw.hex().upper().encode()))


def _spelt(part: str, raw: bytes) -> set[bytes]:
    """Customs that are no escapes: a plus for a blank, doubled quotes, other line ends, Latin-1."""
    found = {raw, raw.replace(b" ", b"+"), raw.replace(b"'", b"''"), raw.replace(b'"', b'""')}
    found |= {raw.replace(b"\r\n", b"\n"), raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")}
    found.add(raw.decode("latin-1").encode())  # read by a program that took it for Latin-1
    with contextlib.suppress(UnicodeEncodeError):
        found.add(part.encode("latin-1"))
    return found


def _base64(raw: bytes) -> Iterator[Form]:
    """What stands in the base64 of any text around it: three alignments, two alphabets, only letters wholly its own."""
    for before, mixed in ((0, 0), (1, 2), (2, 3)):
        letters = base64.b64encode(bytes(before) + raw).rstrip(b"=")
        after = 1 if (before + len(raw)) % 3 else 0
        core = letters[mixed : len(letters) - after]
        yield from (Form(one, mixed, after) for one in {core, core.translate(bytes.maketrans(b"+/", b"-_"))})
