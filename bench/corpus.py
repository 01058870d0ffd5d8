"""The labelled corpus of the bench `leaks`: true secrets and harmless look-alikes, made from templates and a seed.

No file of the repository holds a secret: bench/secrets_corpus/*.txt are templates, and every value is generated here.
The same seed gives the same corpus on every machine.
"""

from __future__ import annotations

import base64
import random
import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "secrets_corpus"
SEED = 2026
MARK = "\0"  # before every line of a secret, while a case is made
_CASE = re.compile(r"^=== (\S+)(?: x(\d+))?(?: as (\S+))?$", re.MULTILINE)
_SLOT = re.compile(r"«(!?)((?:[^«»]|«[^«»]*»)*)»")
_LETTERS = string.ascii_letters + string.digits
_ALPHABETS = {
    "an": _LETTERS,
    "hex": "0123456789abcdef",
    "HEX": "0123456789ABCDEF",
    "dec": string.digits,
    "up": string.ascii_uppercase + string.digits,
    "b32": "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
    "low": string.ascii_lowercase,
    "url": _LETTERS + "-_",
    "django": string.ascii_lowercase + string.digits + "!@#$%^&*(-_=+)",
    "sym": _LETTERS + "!#%*+-.@_",
}


@dataclass(frozen=True)
class Case:
    """One file. `lines` are where its secret stands, from one; none: it has none. `form` is how it is written down."""

    name: str
    path: str
    text: str
    lines: tuple[int, ...] = ()
    form: str = ""

    @property
    def raw(self) -> bytes:
        """The file as it lies on a disk."""
        return FORMS[self.form](self.text, random.Random(self.name))


def corpus(seed: int = SEED) -> list[Case]:
    """Every case, always the same for a seed. The labels are the two files the templates stand in."""
    return [*_cases("true", seed), *_cases("harmless", seed)]


def _cases(label: str, seed: int) -> Iterator[Case]:
    parts = _CASE.split((FOLDER / f"{label}.txt").read_text())
    for index in range(1, len(parts), 4):
        path, times, template = parts[index], int(parts[index + 1] or 1), parts[index + 3].removeprefix("\n")
        for number in range(times):
            name = f"{label}-{index // 4 + 1:03}-{number + 1}"
            rng = random.Random(f"{seed} {name}")
            text = filled(template, rng)
            lines = tuple(number for number, line in enumerate(text.split("\n"), 1) if MARK in line)
            if bool(lines) != (label == "true"):
                raise ValueError(f"{label}.txt: the template of {path} has {'a' if lines else 'no'} secret")
            yield Case(name, path, text.replace(MARK, ""), lines, parts[index + 2] or "")


def _among(text: str, rng: random.Random) -> bytes:
    """Between what is compressed; in the first part of it no line ends, so that the text's lines keep their numbers."""
    before = bytes(byte if byte != ord("\n") else 0 for byte in rng.randbytes(3000))
    return before + b"\0" + text.encode() + b"\0" + rng.randbytes(3000)


# What git calls binary although something in it can be read; and, without a form, text.
FORMS: dict[str, Callable[[str, random.Random], bytes]] = {
    "": lambda text, _: text.encode(),
    "nul": lambda text, _: b"\0" + text.encode(),
    "nul-at-the-end": lambda text, _: text.encode() + b"\0\n",
    "utf-16": lambda text, _: b"\xff\xfe" + text.replace("\n", "\r\n").encode("utf-16-le"),
    "utf-16-be": lambda text, _: b"\xfe\xff" + text.encode("utf-16-be"),
    "utf-16-unmarked": lambda text, _: text.encode("utf-16-le"),
    "utf-16-appended": lambda text, _: b"# appended to by another shell" + text.encode("utf-16-le"),
    "utf-32": lambda text, _: text.encode("utf-32"),
    "binary": _among,
}


def filled(template: str, rng: random.Random) -> str:
    """The template with every slot replaced."""
    return _SLOT.sub(lambda slot: _marked(_value(slot[2], rng), slot[1]), template)


def _marked(value: str, mark: str) -> str:
    return "\n".join(MARK + line for line in value.split("\n")) if mark else value


def _value(kind: str, rng: random.Random) -> str:
    name, _, rest = kind.partition(":")
    if name == "b64" and rest:
        return base64.b64encode(filled(rest, rng).encode()).decode()
    if name == "lit":
        return rest
    name, _, prefix = kind.partition(" ")
    if name in _MADE:
        return _MADE[name](rng, f"{prefix.strip()} " if prefix.strip() else "")
    if name.startswith("b64"):
        return _base64(rng, int(name[3:]))
    found = re.fullmatch(r"([A-Za-z]+(?:32)?)(\d+)", name)
    if not name:
        return ""
    if found is None or found[1] not in _ALPHABETS:
        raise ValueError(f"there is no kind of value {kind!r}")
    return _noise(rng, _ALPHABETS[found[1]], int(found[2]))


def _noise(rng: random.Random, alphabet: str, length: int) -> str:
    value = "".join(rng.choices(alphabet, k=length))
    # A generator of passwords sees to it that all kinds are there; so few draws do not always.
    return value if length < 8 or not set(alphabet) & set("09") or set(value) & set(string.digits) else "7" + value[1:]


def _base64(rng: random.Random, length: int) -> str:
    # Of as many bytes as have such a length: 44 are SHA-256, 88 are SHA-512 with their two signs at the end.
    count = {44: 32, 88: 64}.get(length, length * 3 // 4 + 1)
    return base64.b64encode(rng.randbytes(count)).decode()[:length]


def _lines(rng: random.Random, _: str = "") -> str:
    return "\n".join(_base64(rng, 64) for _ in range(10))


def _pem(rng: random.Random, kind: str) -> str:
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{_lines(rng)}\n-----END {kind}PRIVATE KEY-----"


def _pgp(rng: random.Random, _: str) -> str:
    return f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{_lines(rng)}\n=Ab1c\n-----END PGP PRIVATE KEY BLOCK-----"


def _ppk(rng: random.Random, _: str) -> str:
    head = "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nComment: ann\nPublic-Lines: 2\n"
    return f"{head}{_base64(rng, 64)}\n{_base64(rng, 20)}\nPrivate-Lines: 1\n{_base64(rng, 48)}"


def _basic(rng: random.Random, _: str) -> str:
    return base64.b64encode(f"robot:{_noise(rng, _LETTERS, 16)}".encode()).decode()


def _jwt(rng: random.Random, _: str) -> str:
    parts = ('{"alg":"HS256","typ":"JWT"}', f'{{"sub":"{rng.getrandbits(48)}","exp":1893456000}}')
    head = ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)
    return f"{head}.{_noise(rng, _ALPHABETS['url'], 43)}"


def _uuid(rng: random.Random, _: str = "") -> str:
    digits = f"{rng.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], f"4{digits[13:16]}", f"a{digits[17:20]}", digits[20:]))


_MADE: dict[str, Callable[[random.Random, str], str]] = {
    "pem": _pem,
    "pemjson": lambda rng, _: _pem(rng, "").replace("\n", "\\n"),
    "pemindent": lambda rng, _: _pem(rng, "").replace("\n", "\n    "),
    "pgp": _pgp,
    "ppk": _ppk,
    "basic": _basic,
    "jwt": _jwt,
    "uuid": _uuid,
    "uuidpw": _uuid,
    "UUID": lambda rng, _: _uuid(rng).upper(),
    "lines64": _lines,
    "mime": lambda rng, kind: base64.encodebytes(_pem(rng, kind).encode()).decode().rstrip("\n"),
}
