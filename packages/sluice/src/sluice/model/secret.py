"""Secrecy is a type: a Secret prints redacted everywhere, and a Redactor finds its value in what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from sluice.model.secret_forms import Form, forms_of, members_of
from sluice.model.secret_search import LONGEST_ESCAPE, Search, Span

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


def with_members(values: Mapping[str, Secret]) -> list[Secret]:
    """What these variables hold, and beside a list of secrets, as its name says, each of its members."""
    members = (Secret(one) for name, value in values.items() for one in members_of(name, value.reveal()))
    return [*values.values(), *members]


class Redactor:
    """Replaces every known secret, however it was encoded, in text that comes back from commands and hosts."""

    def __init__(self, secrets: Iterable[Secret] = (), shown: Iterable[str] = ()) -> None:
        """Start with some secrets; more may be learnt while a run goes on (tickets, tokens).

        What everybody is `shown` anyway is never hidden for itself, whichever value it is or is a part of.
        """
        self._shown = frozenset(shown)
        self._forms: set[Form] = set()
        self._compiled: Search | None = None
        self.learn(secrets)

    def learn(self, secrets: Iterable[Secret]) -> None:
        """Also look for these from now on: the value, the passwords in it, its lines and members."""
        known = len(self._forms)
        for secret in secrets:
            # A part of our own mark would be found in it, and redacted for ever.
            self._forms |= {
                form for form in forms_of(secret.reveal(), self._shown) if form.raw not in REDACTED.encode()
            }
        if len(self._forms) > known:
            self._compiled = None

    def __call__(self, text: str) -> str:
        """The text without any known secret."""
        raw = text.encode(errors="surrogatepass")
        spans = self._search.spans(raw)
        return _without(raw, spans) if spans else text

    @property
    def reach(self) -> int:
        """In how many bytes of a text the longest secret may stand: so much of it is looked at before it is cut."""
        return self._search.longest * LONGEST_ESCAPE

    def end(self, raw: bytes, limit: int) -> str:
        """The last `limit` bytes, redacted first: give `reach` bytes more, and no secret is cut in two."""
        spans = self._search.spans(raw)
        start = max(0, len(raw) - limit)
        start = next((span[0] for span in spans if span[0] < start < span[1]), start)
        while start and start < len(raw) and raw[start] & 0xC0 == 0x80:
            start += 1  # inside a letter
        return _without(raw[start:], [(begin - start, end - start) for begin, end in spans if begin >= start])

    def spans(self, raw: bytes) -> list[Span]:
        """Where in `raw` a secret stands."""
        return self._search.spans(raw)

    def begun(self, raw: bytes) -> int:
        """Where in `raw` begins what may be a secret of several lines, of which not all have come; else its length."""
        return self._search.begun(raw)

    @property
    def _search(self) -> Search:
        if self._compiled is None:
            self._compiled = Search(self._forms)
        return self._compiled


class RedactedLines:
    """Lines as they come, redacted before they are cut. `show` gets each without its end, in pieces when it is long."""

    def __init__(self, redactor: Redactor, show: Callable[[str], None], longest: int) -> None:
        """`longest`: letters of a line that are shown at once; with what the redactor needs to see, that is held."""
        self._redactor, self._show, self._longest = redactor, show, longest
        self._held = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Show what these bytes complete."""
        self._held += chunk
        cut = len(self._held) - self._held.rfind(b"\n") - 1 > self._longest + self._redactor.reach
        if not cut and b"\n" not in chunk:
            return
        raw = bytes(self._held)
        # Of a long line the last `reach` bytes are kept back: what begins there may not have come whole.
        end = len(raw) - self._redactor.reach if cut else raw.rfind(b"\n", 0, self._redactor.begun(raw)) + 1
        if not end:
            return
        spans = self._redactor.spans(raw)
        end = next((stop for start, stop in spans if start < end < stop), end)
        while 0 < end < len(raw) and raw[end] & 0xC0 == 0x80:
            end -= 1  # inside a letter
        self._tell(end, [span for span in spans if span[1] <= end])

    def close(self) -> None:
        """Show the rest: nothing more comes."""
        raw = bytes(self._held)
        self._tell(len(raw), self._redactor.spans(raw))

    def _tell(self, end: int, spans: list[Span]) -> None:
        *lines, rest = _without(bytes(self._held[:end]), spans).split("\n")
        del self._held[:end]
        for line in (*lines, rest) if rest else lines:
            text = line.rstrip("\r")
            for at in range(0, max(len(text), 1), self._longest):
                self._show(text[at : at + self._longest])


def _without(raw: bytes, spans: list[Span]) -> str:
    pieces, at = [], 0
    for start, end in spans:
        pieces += [raw[at:start].decode(errors="replace"), REDACTED]
        at = end
    return "".join([*pieces, raw[at:].decode(errors="replace")])
