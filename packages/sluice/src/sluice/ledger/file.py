"""One environment's ledger file: appended to under the environment's lock, judged whole whenever it is read."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sluice.journal import Mark, append_line, canonical, command_of, damaged, replace_file, torn_from, whole_lines
from sluice.ledger.chain import (
    GENESIS,
    OWN,
    Place,
    Problem,
    Tampering,
    Verification,
    judged,
    missing,
    parsed,
    record_hash,
)
from sluice.ledger.signing import LedgerKey, PublicKey
from sluice.model.errors import StateCorrupted, StepFailed


@dataclass(frozen=True, slots=True)
class Closed:
    """That an environment takes no rollout until somebody has looked: why, since when, by whom, by which run."""

    reason: str
    since: str
    owner: str
    run: str


def closed_by(records: Iterable[Mapping[str, Any]]) -> Closed | None:
    """What the newest word about locking says: a run that locked, a `lock` or an `unlock`. Pure."""
    closed = None
    for record in records:
        if record["type"] == "unlock":
            closed = None
        elif record.get("locked"):
            closed = Closed(*(str(record.get(key, "")) for key in ("locked", "ended", "owner", "run")))
    return closed


@dataclass(frozen=True, slots=True)
class Frozen:
    """That an operator lets nothing new in until a time (ISO 8601): why, since when, by whom, by which record."""

    reason: str
    until: str
    since: str
    owner: str
    run: str


def frozen_by(records: Iterable[Mapping[str, Any]], now: dt.datetime) -> list[Frozen]:
    """The freezes that hold at this moment: each for itself until its end, all until somebody lifts them. Pure."""
    frozen: list[Frozen] = []
    for record in records:
        if record["type"] == "unfreeze":
            frozen.clear()
        elif record["type"] == "freeze":
            frozen.append(Frozen(*(str(record.get(key, "")) for key in ("reason", "until", "ended", "owner", "run"))))
    return [one for one in frozen if now < dt.datetime.fromisoformat(one.until)]


def blamed_by(records: Iterable[Mapping[str, Any]], **what: str) -> str:
    """The run that blamed what has these values in its record, unless a later one proved it; else "". Pure."""
    blamed = ""
    for record in records:
        if any(record.get(key) != value for key, value in what.items()):
            continue
        if record.get("bad_release"):
            blamed = str(record["run"])
        elif record.get("decision") == "go":
            blamed = ""
    return blamed


class Head:
    """`ledger.head` beside the ledger: number and hash of its last record.

    Most records are remembered by no journal: a lock, a freeze, a signature. It is written after the record, so a crash
    between the two leaves it one behind, and never ahead.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Mark | None:
        """None where it is not there, or is none."""
        try:
            told = json.loads(self.path.read_bytes())
            return int(told["n"]), str(told["hash"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, record: Mapping[str, Any]) -> None:
        """Remember this record."""
        # The record itself is on the disk. A note that could not be written is behind, which accuses nobody.
        with contextlib.suppress(StepFailed):
            replace_file(self.path, canonical({"n": record["n"], "hash": record["hash"]}) + b"\n")


# A run reads its ledgers some twenty times, and judging 5,000 records takes two seconds. Of each environment of a host.
KEPT = 4
_judgements: dict[tuple[str, str, Place | None], tuple[list[dict[str, Any]], Verification]] = {}


def _judged_once(
    lines: Sequence[bytes], key: PublicKey | None, place: Place | None
) -> tuple[list[dict[str, Any]], Verification]:
    """As `judged`; the same bytes by the same key are judged once in this process. The records are only read."""
    name = hashlib.sha256(b"\n".join(lines)).hexdigest(), key.line if key else "", place
    if name not in _judgements:
        while len(_judgements) >= KEPT:
            del _judgements[next(iter(_judgements))]
        _judgements[name] = judged(lines, key, place)
    records, verdict = _judgements[name]
    return list(records), verdict


class Ledger:
    """One environment's ledger file. Appending needs the environment's lock; reading does not.

    Its key lies beside it: `ledger.key` (0600, made by the first append) and `ledger.key.pub`.
    """

    def __init__(self, path: Path) -> None:
        """The file need not exist yet. `note` says what the last reading found torn."""
        self.path = path
        self.note = ""
        self._key, self._head = LedgerKey(path.with_name("ledger.key")), Head(path.with_name("ledger.head"))

    def key(self) -> PublicKey | None:
        """What every record must be signed by; None before the first. Raises StateCorrupted when it is damaged."""
        return self._key.public()

    def must_sign(self) -> None:
        """That a next record could be signed: before a run, not at its end. Raises StateCorrupted."""
        if self.path.exists():
            self._key.usable()

    def lines(self) -> list[bytes]:
        """The file as it is, unjudged, without a torn last line."""
        return self._lines(repair=False)

    def records(self) -> list[dict[str, Any]]:
        """Every record, oldest first. Raises StateCorrupted when the chain or a signature does not hold."""
        return self._checked(repair=False)

    def _checked(self, *, repair: bool, place: Place | None = None) -> list[dict[str, Any]]:
        lines = self._lines(repair=repair)
        records, verdict = _judged_once(lines, self._key.public() if lines else None, place)
        if not verdict.ok:
            raise self._damaged(verdict.number, verdict.problem)
        return records

    def _damaged(self, line: int, why: str) -> StateCorrupted:
        # Moved away, it would be missed: journals, the note of the last record and the mirror remember it.
        return damaged(self.path, line, why, following=command_of(self.path, "log verify"))

    def verify(self, runs: Mapping[str, Sequence[Mark]] | None = None, place: Place | None = None) -> Verification:
        """Judge the file. `runs`: those whose journal says they were recorded, and as what (`recorded_runs`).

        What a journal remembers, or the note of the last record, and is not here was cut or rewritten. `place`: whose
        records these must be.

        Raises StateCorrupted when the key itself is damaged.
        """
        last = self._head.read()  # before the file: a record that is written meanwhile is in the file first
        lines = self._lines(repair=False)
        records, verdict = _judged_once(lines, self._key.public() if lines else None, place)
        unnoted = f"{self._head.path.name}, the note of the last record, is not there or cannot be read"
        kept = [f"{one.name} was set aside as torn by a crash" for one in torn_from(self.path)]
        notes = (self.note, *kept, *self._lax(), unnoted if lines and last is None else "")
        verdict = replace(verdict, notes=tuple(filter(None, notes)))
        if not verdict.ok:
            return verdict
        problem = missing(records, runs or {}, last)
        if problem is None and (apart := self._key.apart()):
            mend = f"ssh-keygen -y -f {self._key.path.name} > {self._key.public_path.name} puts that right"
            problem = Problem(Tampering.FOREIGN_KEY, 0, f"{apart}; {mend}")
        return replace(verdict, problems=(problem,)) if problem else verdict

    def _lax(self) -> Iterator[str]:
        """What lets others at the ledger or its key."""
        for path, forbidden, may in ((self._key.path, 0o077, "read"), (self.path, 0o022, "write to")):
            with contextlib.suppress(OSError):
                found, folder = path.stat(), path.parent.stat()
                if found.st_mode & forbidden:
                    yield f"others may {may} {path.name}: its mode is {found.st_mode & 0o777:04o} and should be 0600"
                if found.st_uid != folder.st_uid:
                    yield f"{path.name} belongs to user {found.st_uid}, and its folder to {folder.st_uid}"

    def rolled_back_from(self) -> set[str]:
        """The releases somebody left by a rollback that was done."""
        return {
            str(record["from_release"])
            for record in self.records()
            if record.get("type") == "rollback"
            and record.get("outcome") == "done"
            and record.get("from_release") != record.get("release")  # what had died and was started again is not left
        }

    def went(self, release: str) -> bool:
        """Whether a run that ended well brought this release to users."""
        return any(
            record.get("release") == release and record.get("outcome") == "done" and record["type"] != "recovery"
            for record in self.records()
        )

    def closed(self) -> Closed | None:
        """Why the environment takes no rollout now, or None. Raises StateCorrupted: a damaged ledger opens nothing."""
        return closed_by(self.records())

    def append(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Append a record of any type, signed, and fsync it. `body` needs `type` and `run`, and whatever is JSON.

        A run already recorded under this type is returned as it stands. Raises StateCorrupted when the chain, a
        signature or the key does not hold or the records are another environment's (nothing is added to a damaged
        ledger), StepFailed when the disk is full, and ValueError for a body that says what only the ledger may say.
        """
        if OWN & body.keys():
            raise ValueError(f"a record's {', '.join(sorted(OWN & body.keys()))} is the ledger's to write")
        place = (str(body["service"]), str(body["environment"])) if "service" in body else None
        records = self._checked(repair=True, place=place)
        for record in records:
            if (record.get("type"), record.get("run")) == (body["type"], body["run"]):
                return record
        # A lost key is not made anew: whoever takes the key away must not get a ledger that goes on all the same.
        key = self._key.public() if records else self._key.make()
        if key is None:
            raise self._damaged(1, "the ledger's key is missing")
        last = records[-1]["hash"] if records else GENESIS
        # Through JSON once, so that the line reads back as exactly what was hashed.
        told = json.loads(canonical(body))
        chained: dict[str, Any] = {**told, "n": len(records) + 1, "previous": last, "ledger_key": key.fingerprint}
        chained["hash"] = record_hash(chained)
        chained["signature"] = self._key.sign(chained["hash"].encode())
        append_line(self.path, canonical(chained))
        self._head.write(chained)
        return chained

    def _lines(self, *, repair: bool) -> list[bytes]:
        try:
            if not stat.S_ISREG(self.path.stat().st_mode):
                raise self._unreadable("it is no file")  # a pipe would be waited for
            lines, self.note = whole_lines(self.path, repair=repair, complete=lambda line: parsed(line) is not None)
        except FileNotFoundError:
            return []
        except OSError as failure:
            raise self._unreadable(failure.strerror or str(failure)) from failure
        return lines

    def _unreadable(self, why: str) -> StateCorrupted:
        return StateCorrupted(
            f"{self.path} cannot be read as a ledger: {why}.",
            world="Nothing was overwritten; the release that serves goes on serving.",
            next="find out who put it there, then put the ledger back",
            file=str(self.path),
        )
