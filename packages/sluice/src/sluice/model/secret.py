"""Secrecy is a type: a Secret prints redacted everywhere, and a Redactor finds its value in what comes back."""

from __future__ import annotations

from collections.abc import Iterable

from sluice.model.secret_forms import Form, forms_of
from sluice.model.secret_search import Search, Span

REDACTED = "[redacted]"


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


class Redactor:
    """Replaces every known secret, however it was encoded, in text that comes back from commands and hosts."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        """Start with some secrets; more may be learnt while a run goes on (tickets, tokens)."""
        self._forms: set[Form] = set()
        self._compiled: Search | None = None
        self.learn(secrets)

    def learn(self, secrets: Iterable[Secret]) -> None:
        """Also look for these from now on: the value, the passwords in it, its lines and members."""
        known = len(self._forms)
        for secret in secrets:
            # A part of our own mark would be found in it, and redacted for ever.
            self._forms |= {form for form in forms_of(secret.reveal()) if form.raw not in REDACTED.encode()}
        if len(self._forms) > known:
            self._compiled = None

    def __call__(self, text: str) -> str:
        """The text without any known secret."""
        raw = text.encode(errors="surrogatepass")
        spans = self._search.spans(raw)
        return _without(raw, spans) if spans else text

    @property
    def _search(self) -> Search:
        if self._compiled is None:
            self._compiled = Search(self._forms)
        return self._compiled


def _without(raw: bytes, spans: list[Span]) -> str:
    pieces, at = [], 0
    for start, end in spans:
        pieces += [raw[at:start].decode(errors="replace"), REDACTED]
        at = end
    return "".join([*pieces, raw[at:].decode(errors="replace")])
