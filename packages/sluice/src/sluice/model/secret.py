"""Secrecy is a type: a Secret prints redacted everywhere, and a Redactor finds its value in what comes back."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Iterable

REDACTED = "[redacted]"

# Shorter values are not looked for in text: redacting every "1" or "true" would hide the output and protect nothing.
MIN_LENGTH = 6
# Of a value of several lines each comes back alone, as output is read by lines; a shorter one may be any configuration.
MIN_LINE = 12


class Secret:
    """A value that never shows itself. `reveal()` is the only way to it, so every use can be found by searching."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """Wrap; nothing is copied or derived yet."""
        self._value = value

    def reveal(self) -> str:
        """The value itself. Give it to the program that needs it and to nobody else."""
        return self._value

    def __repr__(self) -> str:
        return REDACTED

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return REDACTED

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is not pickled: it would leave the process in the clear")


def derived_forms(value: str) -> set[str]:
    """The value as it may come back: as it is, URL-encoded, base64 (both alphabets, unpadded too), JSON-escaped.

    Of a value of several lines, each line too, but a PEM's frame, which everybody knows.
    """
    raw = value.encode()
    forms = {value, urllib.parse.quote(value, safe=""), urllib.parse.quote_plus(value), json.dumps(value)[1:-1]}
    for encoded in (base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()):
        forms |= {encoded, encoded.rstrip("=")}
    for line in map(str.strip, value.splitlines()):
        if line != value and len(line) >= MIN_LINE and not line.startswith("-----"):
            forms |= derived_forms(line)
    return {form for form in forms if len(form) >= MIN_LENGTH}


class Redactor:
    """Replaces every known secret, in every derived form, in text that comes back from commands and hosts."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        """Start with some secrets; more may be learnt while a run goes on (tickets, tokens)."""
        self._forms: list[str] = []
        self.learn(secrets)

    def learn(self, secrets: Iterable[Secret]) -> None:
        """Also look for these from now on. Longest forms go first, so no prefix of a secret survives."""
        forms = set(self._forms)
        for secret in secrets:
            forms |= derived_forms(secret.reveal())
        self._forms = sorted(forms, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text without any known secret."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, REDACTED)
        return text
