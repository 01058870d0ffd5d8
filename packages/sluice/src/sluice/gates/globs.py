"""Globs over paths of a repository. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable


def matches(path: str, globs: Iterable[str]) -> bool:
    """Whether one of the globs is this whole path: `*` and `?` stay within a folder, `**` goes through any number."""
    return any(_compiled(glob).fullmatch(path) for glob in globs)


@functools.lru_cache(maxsize=1024)  # a policy has some dozens, asked for each of thousands of files
def _compiled(glob: str) -> re.Pattern[str]:
    text = ""
    for part in re.findall(r"\*\*/|\*\*|\*|\?|[^*?]+", glob):
        text += {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(part) or re.escape(part)
    return re.compile(text, re.DOTALL)
