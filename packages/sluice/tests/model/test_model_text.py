"""Somebody else's words, as they may be shown."""

from __future__ import annotations

import sys

from sluice.model.text import plain


def test_only_printable_letters_are_left():
    """Of all there are: controls, separators, turns of direction, halves of letters and what is none become blanks."""
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    assert plain(every).isprintable()
    assert len(plain(every)) == len(every)
    assert plain("\x1b[2K\x9b\u202e\u2066\u200f\u2028\udcffa") == " [2K      a"


def test_what_is_printable_stays_as_it_is():
    """Words of any language, signs and pictures."""
    text = "Причина: \u5bb6 🙂 [x](y) 'z' \\n"
    assert plain(text) == text
