"""The audit trail of an environment: hash-chained JSON lines nobody can quietly edit.

Each record holds the hash of the one before and its own, over canonical JSON. `verify` names the first record that was
removed, changed, inserted, reordered or cut. What a chain alone cannot show is said: its tail is not anchored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sluice.journal import append_line, canonical, damaged, whole_lines

GENESIS = "0" * 64
NOT_ANCHORED = "tail not anchored: records cut from the end, or a chain rewritten as a whole, cannot be seen here"


def record_hash(record: Mapping[str, Any]) -> str:
    """Over everything in the record but its own hash."""
    return hashlib.sha256(canonical({k: v for k, v in record.items() if k != "hash"})).hexdigest()


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify` found. `problem` is empty when the chain holds; `number` is the first bad record."""

    records: int
    number: int = 0
    problem: str = ""
    notes: tuple[str, ...] = (NOT_ANCHORED,)

    @property
    def ok(self) -> bool:
        return not self.problem


def verify_records(lines: list[bytes]) -> Verification:
    """Judge a chain. Pure."""
    records: list[Any] = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError:
            return Verification(len(lines), number, f"record {number} was changed: it is not JSON")
        if not isinstance(record, dict) or record.get("hash") != record_hash(record):
            return Verification(len(lines), number, f"record {number} was changed: its hash is not its own")
        records.append(record)
    previous = GENESIS
    for place, record in enumerate(records, 1):
        if record.get("n") != place:
            return Verification(len(lines), place, _misplaced(place, records))
        if record.get("previous") != previous:
            problem = f"record {place} does not follow record {place - 1}: one of them was inserted or replaced"
            return Verification(len(lines), place, problem)
        previous = record["hash"]
    return Verification(len(lines))


def _misplaced(place: int, records: list[dict[str, Any]]) -> str:
    found = records[place - 1].get("n")
    numbers = [record.get("n") for record in records]
    if place in numbers[place:]:
        return f"record {place} was reordered: record {found} stands in its place"
    if isinstance(found, int) and found > place:
        where = "cut from the beginning" if place == 1 else "removed"
        return f"record {place} was {where}: record {found} stands in its place"
    return f"record {place} was inserted: it says it is record {found}"


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


class Ledger:
    """One environment's ledger file. Appending needs the environment's lock; reading does not."""

    def __init__(self, path: Path) -> None:
        """The file need not exist yet. `note` says what the last reading found torn."""
        self.path = path
        self.note = ""

    def records(self) -> list[dict[str, Any]]:
        """Every record, oldest first. Raises StateCorrupted when the chain does not hold."""
        return self._checked(repair=False)

    def _checked(self, *, repair: bool) -> list[dict[str, Any]]:
        lines = self._lines(repair=repair)
        verdict = verify_records(lines)
        if not verdict.ok:
            raise damaged(self.path, verdict.number, verdict.problem)
        return [json.loads(line) for line in lines]

    def verify(self, runs: Iterable[str] = ()) -> Verification:
        """Judge the file. `runs`: those whose journal says they were recorded; a missing one was cut from the end."""
        lines = self._lines(repair=False)
        verdict = verify_records(lines)
        if self.note:
            verdict = replace(verdict, notes=(self.note, *verdict.notes))
        if not verdict.ok:
            return verdict
        known = {json.loads(line).get("run") for line in lines}
        missing = [run for run in runs if run not in known]
        if missing:
            number = len(lines) + 1
            return Verification(len(lines), number, f"record {number} was cut: run {missing[0]} was recorded once")
        return verdict

    def bad_run(self, artifact_key: str, env_fingerprint: str) -> str:
        """The run that blamed this artifact in this environment, unless a later run proved it; else ""."""
        bad = ""
        for record in self.records():
            if (record.get("artifact_key"), record.get("env_fingerprint")) == (artifact_key, env_fingerprint):
                if record.get("bad_release"):
                    bad = str(record["run"])
                elif record.get("decision") == "go":
                    bad = ""
        return bad

    def rolled_back_from(self) -> set[str]:
        """The releases somebody left by a rollback that was done."""
        return {
            str(record["from_release"])
            for record in self.records()
            if record.get("type") == "rollback"
            and record.get("outcome") == "done"
            and record.get("from_release") != record.get("release")  # what had died and was started again is not left
        }

    def closed(self) -> Closed | None:
        """Why the environment takes no rollout now, or None. Raises StateCorrupted: a damaged ledger opens nothing."""
        return closed_by(self.records())

    def append(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Append a record and fsync it; a run already recorded under this type is returned as it stands.

        Raises StateCorrupted when the chain does not hold (nothing is added to a damaged ledger) and StepFailed when
        the disk is full.
        """
        records = self._checked(repair=True)
        for record in records:
            if (record.get("type"), record.get("run")) == (body["type"], body["run"]):
                return record
        last = records[-1]["hash"] if records else GENESIS
        chained: dict[str, Any] = {**body, "n": len(records) + 1, "previous": last}
        chained["hash"] = record_hash(chained)
        append_line(self.path, canonical(chained))
        return chained

    def _lines(self, *, repair: bool) -> list[bytes]:
        if not self.path.exists():
            return []
        lines, self.note = whole_lines(self.path, repair=repair)
        return lines
