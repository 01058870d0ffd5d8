"""The anchor: a copy of the ledger on the origin that grows one commit per record and is never forced back. Pure part.

What this machine holds can be cut or written anew by whoever owns the account; what was brought to the origin cannot,
without that showing in one of three places: here, there, and in what the mirror remembers of there.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from sluice.ledger.chain import Problem, Tampering, parsed, verify_records
from sluice.ledger.signing import PublicKey

RECORD_FILE = "record.json"  # the one record of a commit, byte for byte the ledger's line
KEY_FILE = "ledger.key.pub"
WRITER = "Sluice <sluice@localhost>"
MAX_SUBJECT = 100  # letters of a commit's first line


@dataclass(frozen=True, slots=True)
class Copy:
    """What one place holds of a ledger: the lines of the commits, oldest first, and the key of the first commit."""

    head: str = ""  # the commit; "" where there is none
    lines: list[bytes] = field(default_factory=list)
    key: PublicKey | None = None


@dataclass(frozen=True, slots=True)
class Anchoring:
    """How a ledger and its anchor stand to each other."""

    anchored: int  # the first so many records are on the origin
    problems: tuple[Problem, ...] = ()
    note: str = ""  # why the origin was not asked
    memory: str = ""  # why what was seen there before is not known

    @property
    def ok(self) -> bool:
        return not self.problems


def common(one: Sequence[bytes], other: Sequence[bytes]) -> int:
    """How many lines two copies begin with alike."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (mine, theirs) in enumerate(pairs) if mine != theirs), min(len(one), len(other)))


def judge_origin(origin: Copy, remembered: Copy, key: PublicKey | None, lines: Sequence[bytes] = ()) -> Problem | None:
    """Whether the origin still holds what it once did, and nothing that the key has not signed.

    The key that is remembered counts before `key`; without either no signature is judged. `lines` are judged
    elsewhere: an origin that holds nothing else is not judged again.
    """
    same, had, trusted = common(origin.lines, remembered.lines), len(remembered.lines), remembered.key or key
    if same < had and same == len(origin.lines):
        has = f"it has {same}" if same else "it has none of them"
        sentence = f"record {same + 1} was cut on the origin: {had} were anchored there, {has} now"
        return Problem(Tampering.ANCHOR_CUT, same + 1, sentence)
    if same < had:
        sentence = f"record {same + 1} was rewritten on the origin: it is another than was anchored there"
        return Problem(Tampering.ANCHOR_REWRITTEN, same + 1, sentence)
    known = common(origin.lines, lines) == len(origin.lines)
    found = verify_records(origin.lines, trusted) if trusted and not known else None
    if found is not None and not found.ok:
        sentence = f"record {found.number} was rewritten on the origin: there, {found.problem}"
        return Problem(Tampering.ANCHOR_REWRITTEN, found.number, sentence)
    return None


def judge_anchor(lines: Sequence[bytes], origin: Copy, remembered: Copy, key: PublicKey | None) -> Anchoring:
    """Hold the ledger's lines against the origin's, and both against what was brought there (`remembered`).

    `key` is the one the local ledger is signed by. What was anchored settles who was rewritten. Where nothing is
    remembered (the mirror was removed), the origin's own first key does, and that is said.
    """
    was = judge_origin(origin, remembered, key, lines)
    held = origin.lines if was is None else remembered.lines
    same = common(lines, held)
    here = _rewritten_here(lines, held, same) if same < len(held) else None
    first = remembered if remembered.lines else origin
    # Every record names its key, so a chain that was signed anew has not even the first one in common.
    anew = bool(lines and first.lines) and common(lines, first.lines) == 0
    if anew and key and first.key and first.key != key:
        told = f"the origin's records are signed by {first.key.fingerprint} and these by {key.fingerprint}"
        who = "these were" if remembered.lines else "one of the two was"
        here = Problem(Tampering.FOREIGN_KEY, 1, f"{told}: {who} written anew as a whole")
        was = was if remembered.lines else None  # nothing tells which of the two it was
    problems = tuple(problem for problem in (here, was) if problem is not None)
    return Anchoring(common(lines, origin.lines), problems)


def _rewritten_here(lines: Sequence[bytes], held: Sequence[bytes], same: int) -> Problem:
    number = same + 1
    if same == len(lines):
        sentence = f"record {number} was cut: {len(held)} records were anchored, {same} are here"
        return Problem(Tampering.CUT, number, sentence)
    sentence = f"record {number} was rewritten here: the one that was anchored is another"
    return Problem(Tampering.REWRITTEN, number, sentence)


def subject_of(line: bytes) -> str:
    """What a record says in one line, for whoever reads the anchor with `git log`."""
    record = parsed(line) or {}
    told = (str(record.get(name, "")) for name in ("n", "type", "outcome", "version", "owner"))
    words = " ".join(" ".join(told).split())
    return "".join(letter if letter.isprintable() else "?" for letter in words)[:MAX_SUBJECT] or "record"


def _seconds(line: bytes) -> int:
    try:
        return max(0, int(dt.datetime.fromisoformat(str(json.loads(line).get("ended"))).timestamp()))
    except (ValueError, OverflowError):
        return 0


def import_stream(lines: Sequence[bytes], parent: str, ref: str, key: PublicKey) -> bytes:
    """What `git fast-import` makes one commit per line of, upon `parent` ("": from nothing).

    Nothing but the lines, the key and the parent goes into it, so the same ledger always makes the same commits.
    """
    out: list[bytes] = []
    for place, line in enumerate(lines, 1):
        message = subject_of(line).encode()
        out.append(f"commit {ref}\nmark :{place}\ncommitter {WRITER} {_seconds(line)} +0000\n".encode())
        out.append(f"data {len(message)}\n".encode() + message + b"\n")
        if place == 1 and parent:
            out.append(f"from {parent}\n".encode())
        for name, content in ((RECORD_FILE, line + b"\n"), (KEY_FILE, f"{key.line}\n".encode())):
            out.append(f"M 100644 inline {name}\ndata {len(content)}\n".encode() + content + b"\n")
    out.append(f"get-mark :{len(lines)}\ndone\n".encode())
    return b"".join(out)
