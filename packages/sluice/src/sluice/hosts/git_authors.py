"""Who made commits, out of `git log`: authors, committers, co-authors, and with which SSH key each was signed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from sluice.model.promotion import Authored

# By NUL, which nothing in a commit can hold: any other separator could hide a commit behind it.
FIELDS = ("%H", "%s", "%an", "%ae", "%GF", "%cn", "%ce", "%B")
# An empty list of signers: ssh-keygen then says whose key it was, and git asks for no list it does not have.
NOBODY = ("-c", f"gpg.ssh.allowedSignersFile={os.devnull}")
LOG = ("log", "-z", f"--format={'%x00'.join(FIELDS)}")
# Anywhere in the message: forges put such lines where git itself would see no trailer.
_OTHER = re.compile(r"^\s*co-authored-by:\s*(.*)$", re.IGNORECASE | re.MULTILINE)
_PERSON = re.compile(r"([^<>]*)<([^<>]*)>")
MAX_OTHERS = 100  # of one commit; who has more co-authors was not written by people


def commits_of(raw: bytes) -> Iterator[Authored]:
    """What LOG printed, newest first. Raises ValueError when it is not whole."""
    fields = raw.decode(errors="replace").split("\0")[:-1]
    if len(fields) % len(FIELDS):
        raise ValueError("not whole commits")
    for at in range(0, len(fields), len(FIELDS)):
        sha, subject, author, email, key, committer, address, message = fields[at : at + len(FIELDS)]
        yield Authored(sha, subject, author, email, key, committer, address, tuple(_others(message)))


def _others(message: str) -> Iterator[str]:
    for count, line in enumerate(_OTHER.findall(message)):
        if count >= MAX_OTHERS:
            raise ValueError("more co-authors than anybody has")
        person = _PERSON.match(line)
        names = person.groups() if person else (line,)
        yield from (name.strip() for name in names if name.strip())
