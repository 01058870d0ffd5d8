"""How programs write a value that they print: what a search for a secret has to find. By the standard library alone."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
import urllib.parse
from collections.abc import Callable, Iterator
from xml.sax import saxutils

LONG = 12  # letters; a shorter line of a secret may be any word


def _percent(value: str) -> str:
    return urllib.parse.quote(value, safe="")


def _lower(value: str) -> str:
    return re.sub("%..", lambda escape: escape[0].lower(), _percent(value))


def _go(value: str) -> str:
    told = json.dumps(value, ensure_ascii=False)[1:-1]
    return told.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _json(value: str) -> str:
    return json.dumps(value)[1:-1]


def _upper(value: str) -> str:
    return re.sub(r"(?<!\\)((?:\\\\)*\\u)([0-9a-f]{4})", lambda escape: escape[1] + escape[2].upper(), _json(value))


def _base64(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


def _around(before: str, after: str) -> Callable[[str], str]:
    return lambda value: _base64(before + value + after)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "percent": _percent,
    "percent, lower case": _lower,
    "percent, slashes kept": urllib.parse.quote,
    "encodeURIComponent": lambda value: urllib.parse.quote(value, safe="!'()*-._~"),
    "user information": lambda value: urllib.parse.quote(value, safe="!$&'()*+,;=-._~"),
    "a form": urllib.parse.quote_plus,
    "every byte in percent": lambda value: "".join(f"%{byte:02x}" for byte in value.encode()),
    "percent twice": lambda value: _percent(_percent(value)),
    "JSON": _json,
    "JSON in UTF-8": lambda value: json.dumps(value, ensure_ascii=False)[1:-1],
    "JSON, upper case": _upper,
    "JSON of Go": _go,
    "JSON of PHP": lambda value: _json(value).replace("/", "\\/"),
    "JSON in JSON": lambda value: _json(_json(value)),
    "JSON in JSON in JSON": lambda value: _json(_json(_json(value))),
    "percent in JSON": lambda value: _json(_percent(value)),
    "JSON in percent": lambda value: _percent(_json(value)),
    "repr": lambda value: repr(value)[1:-1],
    "repr of bytes": lambda value: repr(value.encode())[2:-1],
    "shell": lambda value: shlex.quote(value)[1 if shlex.quote(value) != value else 0 :].removesuffix("'"),
    "shell, backslashes": lambda value: re.sub(r"([^\w\n]|^)", r"\\\1", value, flags=re.ASCII).removeprefix("\\"),
    "HTML": html.escape,
    "HTML, numbers": lambda value: "".join(c if c.isalnum() else f"&#{ord(c)};" for c in value),
    "XML": saxutils.escape,
    "CSV": lambda value: value.replace('"', '""'),
    "SQL": lambda value: value.replace("'", "''"),
    "taken for Latin-1": lambda value: value.encode().decode("latin-1"),
    "hex": lambda value: value.encode().hex(),
    "hex, upper case": lambda value: value.encode().hex().upper(),
    "base64": _base64,
    "base64, unpadded": lambda value: _base64(value).rstrip("="),
    "base64 of addresses": lambda value: base64.urlsafe_b64encode(value.encode()).decode().rstrip("="),
    "base64 after one": _around("~", ""),
    "base64 after two": _around("~~", "~"),
    "base64 after three": _around("~~~", "~~"),
    "base64 of JSON": lambda value: _base64(json.dumps({"~~": value})),
    "base64 in lines": lambda value: base64.encodebytes(value.encode()).decode().rstrip("\n"),
    "base64 in JSON of PHP": lambda value: _base64(value).replace("/", "\\/"),
}


def spellings(value: str) -> set[str]:
    """What to look for where the value, and each long line of it, must not be: every spelling, base64 at any place."""
    found: set[str] = set()
    for part in {value, *(line.strip() for line in value.splitlines() if len(line.strip()) >= LONG)}:
        found |= {spell(part) for spell in SPELLINGS.values()} | set(_amidst(part.encode()))
    return found


def _amidst(raw: bytes) -> Iterator[str]:
    """Letters of base64 that hold nothing but it, wherever it begins and ends."""
    for before in range(3):
        padded = bytes(before) + raw
        yield base64.b64encode(padded + bytes(-len(padded) % 3)).decode()[4:-4]
