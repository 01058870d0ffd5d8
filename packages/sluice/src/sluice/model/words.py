"""Which letters follow which in words: what a generator drew has other pairs. Pure."""

from __future__ import annotations

import itertools
import re

# Which letters follow which in 96 of 100 pairs of the words of programs and their documentation.
_PAIRS = dict(
    entry.split(":")
    for entry in """
    a:bcdfgiklmnprstuvwxy b:aceijlorsuy c:acdehiklmoprstu d:abcdeilnorstu e:abcdefgilmnopqrstuvwxy f:aefilorstuy
    g:aeghilnorsu h:aeiorstu i:abcdefgklmnoprstvxz j:eu k:aeils l:acdefilnopstuy m:abdeilmopsuy
    n:acdefgiklnoprstuvy o:abcdfgiklmnoprstuvw p:adehiloprstuy q:lu r:abcdefgiklmnoprstuvy s:acdefhiklmnopqstuwy
    t:acdefhilmnoprstuwy u:abcdefgilmnprst v:aeio w:aehinors x:ceipt y:eilmnpst z:ae
    """.split()  # noqa: SIM905 - a table, kept readable
)


def are_words(value: str) -> bool:
    """Whether the letters of a value may be those of words: of drawn ones every fourth pair and more is in none."""
    letters = re.sub("[^a-z]", "", value.lower())
    rare = sum(after not in _PAIRS[letter] for letter, after in itertools.pairwise(letters))
    return rare * 4 < len(letters) - 1
