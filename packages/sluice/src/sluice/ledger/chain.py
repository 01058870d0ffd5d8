"""The chain: what holds the records together, and how each kind of tampering is called. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sluice.journal import Mark, canonical
from sluice.ledger.signing import PublicKey

GENESIS = "0" * 64
FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
Place = tuple[str, str]  # service and environment
UNPLACED = (None, None)  # nothing a command writes is, and nobody else can sign
OWN = frozenset({"n", "previous", "ledger_key", "hash", "signature"})  # what the ledger itself writes into a record


class Tampering(StrEnum):
    """What was done to a ledger or to its anchor; stable names, in docs/reference/ledger.md."""

    CHANGED = "record-changed"
    REMOVED = "record-removed"
    INSERTED = "record-inserted"
    REORDERED = "record-reordered"
    REPLACED = "record-replaced"  # it does not follow the one before it
    FORGED = "signature-invalid"  # its hash is right, its signature is not the key's
    FOREIGN_KEY = "key-foreign"  # signed by another key than the environment's
    ELSEWHERE = "record-elsewhere"  # it is one of another environment or service
    JOURNAL = "journal-damaged"  # what it remembers of the ledger cannot be read
    NO_KEY = "key-missing"  # neither half of the environment's key is there
    CUT = "tail-cut"
    REWRITTEN = "ledger-rewritten"  # other records here than were anchored, or than a journal remembers
    ANCHOR_REWRITTEN = "anchor-rewritten"  # other records on the origin than were brought there
    ANCHOR_CUT = "anchor-cut"  # the origin has fewer records than were brought there


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding: what was done, from which record on, and a sentence."""

    code: Tampering
    number: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify` found. Without problems the record stands as it was written; `notes` are no problems."""

    records: int
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def problem(self) -> str:
        """The first problem's sentence, or ""."""
        return self.problems[0].sentence if self.problems else ""

    @property
    def number(self) -> int:
        """The first bad record, or 0."""
        return self.problems[0].number if self.problems else 0

    @property
    def code(self) -> str:
        """The first problem's name, or ""."""
        return self.problems[0].code.value if self.problems else ""


def record_hash(record: Mapping[str, Any]) -> str:
    """Over everything in the record but its own hash and the signature of that hash."""
    return hashlib.sha256(canonical({k: v for k, v in record.items() if k not in {"hash", "signature"}})).hexdigest()


def parsed(line: bytes) -> dict[str, Any] | None:
    """A record that is spelt in the one way and has its own hash, else None."""
    try:
        record = json.loads(line)
        whole = isinstance(record, dict) and canonical(record) == line and record.get("hash") == record_hash(record)
    except (ValueError, RecursionError):
        return None
    return record if whole else None


def verify_records(lines: Sequence[bytes], key: PublicKey | None, place: Place | None = None) -> Verification:
    """Judge a chain and every signature in it. An empty one needs no key."""
    return judged(lines, key, place)[1]


def judged(
    lines: Sequence[bytes], key: PublicKey | None, place: Place | None = None
) -> tuple[list[dict[str, Any]], Verification]:
    """The records, and what is wrong with them; where something is, there are no records. `place`: whose they must be.

    A ledger that was copied from another environment holds in itself, and its key may have been copied with it.
    """
    records: list[dict[str, Any]] = []
    problem = _chain_problem(lines, records, key, place)
    if problem is None and lines and key is None:
        sentence = "the ledger's key is missing, both halves: no signature can be judged"
        problem = Problem(Tampering.NO_KEY, 1, sentence)
    if problem is not None:
        return [], Verification(len(lines), (problem,))
    return records, Verification(len(lines))


def _chain_problem(
    lines: Sequence[bytes], records: list[dict[str, Any]], key: PublicKey | None, whose: Place | None
) -> Problem | None:
    """The first record that is not as it was written; without a key only the chain is judged. `records`: those before.

    What comes after it is not taken apart: whoever may push decides how much that is.
    """
    previous = GENESIS
    for place, line in enumerate(lines, 1):
        record = parsed(line)
        if record is None:
            sentence = f"record {place} was changed: {_why(line)}"
            return Problem(Tampering.CHANGED, place, sentence)
        if record.get("n") != place:
            return _misplaced(place, [one.get("n") if (one := parsed(line)) else None for line in lines])
        if record.get("previous") != previous:
            sentence = f"record {place} does not follow record {place - 1}: one of them was inserted or replaced"
            return Problem(Tampering.REPLACED, place, sentence)
        if key is not None and (problem := _signature_problem(place, record, key)):
            return problem
        if whose is not None and (there := (record.get("service"), record.get("environment"))) not in (whose, UNPLACED):
            sentence = f"record {place} is one of {there[0]}/{there[1]} and none of {'/'.join(whose)}"
            return Problem(Tampering.ELSEWHERE, place, sentence)
        previous = str(record["hash"])
        records.append(record)
    return None


def _why(line: bytes) -> str:
    if not line:
        return "there is none in its place"
    try:
        record = json.loads(line)
        same = isinstance(record, dict) and record.get("hash") == record_hash(record)
    except (ValueError, RecursionError):
        return "it is not JSON"
    return "it says the same in another spelling" if same else "its hash is not its own"


def _signature_problem(place: int, record: Mapping[str, Any], key: PublicKey) -> Problem | None:
    signed_by = record.get("ledger_key")
    if signed_by != key.fingerprint:
        # It is anybody's text, unless it is a fingerprint; so is a number that is none.
        other = f" ({signed_by})" if FINGERPRINT.fullmatch(str(signed_by)) else ""
        told = f"record {place} was signed by another key{other}"
        return Problem(Tampering.FOREIGN_KEY, place, f"{told} than the ledger's ({key.fingerprint})")
    if not key.vouches(str(record.get("signature", "")), str(record["hash"]).encode()):
        sentence = f"record {place} was not signed by the ledger's key: its signature is not one over its hash"
        return Problem(Tampering.FORGED, place, sentence)
    return None


def missing(
    records: Sequence[Mapping[str, Any]], runs: Mapping[str, Sequence[Mark]], last: Mark | None
) -> Problem | None:
    """The first record that a run's journal or the note of the last record (`last`) remembers, and that is not here."""
    known = {record.get("run") for record in records}
    after = (len(records) + 1, "")
    found = []
    for run, marks in runs.items():
        of_run = marks or ([] if run in known else [after])
        found += [
            _unlike(records, mark, f"run {run} was recorded once", f"the journal of run {run}") for mark in of_run
        ]
    if last is not None:
        told = f"{last[0]} records were written here, {len(records)} are left"
        found.append(_unlike(records, last, told, "the note of the last record"))
    return min((one for one in found if one), key=lambda one: one.number, default=None)


def _unlike(records: Sequence[Mapping[str, Any]], mark: Mark, told: str, who: str) -> Problem | None:
    number, hashed = mark
    if number > len(records):
        return Problem(Tampering.CUT, len(records) + 1, f"record {len(records) + 1} was cut: {told}")
    if number < 1 or records[number - 1].get("hash") != hashed:
        return Problem(Tampering.REWRITTEN, number, f"record {number} was rewritten here: {who} remembers another")
    return None


def _misplaced(place: int, numbers: list[Any]) -> Problem:
    found = numbers[place - 1]
    says = f"record {found}" if isinstance(found, int) else "none with a number"
    if place in numbers[place:]:
        sentence = f"record {place} was reordered: {says} stands in its place"
        # A record that stands in its own place too came in a second time; else the two were exchanged.
        if isinstance(found, int) and found < place:
            return Problem(Tampering.INSERTED, place, f"record {place} was inserted: it says it is {says}")
        return Problem(Tampering.REORDERED, place, sentence)
    if isinstance(found, int) and found > place:
        where = "cut from the beginning" if place == 1 else "removed"
        return Problem(Tampering.REMOVED, place, f"record {place} was {where}: {says} stands in its place")
    return Problem(Tampering.INSERTED, place, f"record {place} was inserted: it says it is {says}")
