"""Text that others wrote, as it may be shown and signed: nothing of it moves a cursor or looks like another line."""

from __future__ import annotations

import hashlib


def plain(text: str) -> str:
    """One line of printable letters, whatever was put into it.

    What is not printable (line ends of every kind, escapes of a terminal, marks that turn the direction of writing)
    is a blank.
    """
    return "".join(letter if letter.isprintable() else " " for letter in text)


def one_line(text: str) -> str:
    """Plain, with single blanks: the same words are the same text."""
    return " ".join(plain(text).split())


def shortened(text: str, letters: int) -> str:
    """Plain, and no longer than so many letters."""
    line = one_line(text)
    return f"{line[:letters]}…" if len(line) > letters else line


def told_apart(text: str, letters: int) -> str:
    """As `shortened`, and what is cut off stays told from another end by its digest."""
    if len(line := one_line(text)) <= letters:
        return line
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{line[:letters]}… ({len(text)} letters, SHA-256 {digest})"
