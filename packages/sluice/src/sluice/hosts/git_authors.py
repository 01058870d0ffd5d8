"""Who made commits, out of `git log`: authors, committers, co-authors, and with which SSH key each was signed."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator

from sluice.model.promotion import Authored, Denial, Denied

# By NUL, which nothing in a commit can hold: any other separator could hide a commit behind it.
FIELDS = ("%H", "%s", "%an", "%ae", "%GF", "%cn", "%ce", "%B")
# An empty list of signers: ssh-keygen then says whose key it was, and git asks for no list it does not have.
NOBODY = ("-c", f"gpg.ssh.allowedSignersFile={os.devnull}")
LOG = ("log", "-z", f"--format={'%x00'.join(FIELDS)}")
# Anywhere in the message, and as people quote and list it: forges put such lines where git would see no trailer.
_OTHER = re.compile(r"^[ \t>*+#-]*co\W?authored\W?by[ \t]*[:=]+(.*)$", re.IGNORECASE | re.MULTILINE)
_ADDRESS = re.compile(r"[^\s<>()\[\],;]+@[^\s<>()\[\],;]+")
_BRACKETS = re.compile(r"[<>()\[\]]")
_BETWEEN = re.compile(r"[,;&]|\band\b", re.IGNORECASE)
MAX_OTHERS = 1000  # names and addresses of one commit: each is a part of the plan that is signed


def commits_of(raw: bytes) -> Iterator[Authored]:
    """What LOG printed, newest first. Raises ValueError when it is not whole, and Denied for a crowd of co-authors."""
    fields = raw.decode(errors="replace").split("\0")[:-1]
    if len(fields) % len(FIELDS):
        raise ValueError("not whole commits")
    for at in range(0, len(fields), len(FIELDS)):
        sha, subject, author, email, key, committer, address, message = fields[at : at + len(FIELDS)]
        yield Authored(sha, subject, author, email, key, committer, address, _others(sha, message))


def _others(sha: str, message: str) -> tuple[str, ...]:
    # Compatible forms are one: a full-width colon, a blank of another width.
    lines = _OTHER.findall(unicodedata.normalize("NFKC", message))
    names = dict.fromkeys(name for line in lines[: MAX_OTHERS + 1] for name in _people(line))
    if max(len(names), len(lines)) > MAX_OTHERS:
        raise Denied(
            Denial.AUTHOR_UNKNOWN,
            f"Commit {sha[:12]} names more than {MAX_OTHERS} co-authors: who wrote it cannot be shown.",
            next=f"look at it (git show {sha[:12]}), and take a commit with fewer `Co-authored-by:` lines in its place",
        )
    return tuple(names)


def _people(line: str) -> Iterator[str]:
    """Whoever may be meant: each address, each name, and names with a comma in them whole."""
    yield from _ADDRESS.findall(line)
    for part in _BRACKETS.split(_ADDRESS.sub("<>", line)):
        yield from (name for one in (part, *_BETWEEN.split(part)) if (name := one.strip(" \t@,;&")))
