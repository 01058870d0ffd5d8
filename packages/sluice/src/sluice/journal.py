"""The journal of one run: what is about to be done is on disk first, so a kill at any moment is recoverable.

One JSON-lines file per run. Every line carries its number and a checksum and is fsynced before the call returns. A
last line without its newline is what a crash leaves: it is set aside and said. Any other damage is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sluice import disk
from sluice.engine import Event, ImpossibleEvent, Kind, State, replay
from sluice.model.errors import StateCorrupted, StepFailed
from sluice.model.secret import Redactor

SUFFIX = ".jsonl"
Mark = tuple[int, str]  # number and hash of a ledger's record


def canonical(value: Any) -> bytes:
    """JSON with one spelling: sorted keys, no spaces, UTF-8. What hashes are computed over."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def append_line(path: Path, line: bytes) -> None:
    """Append one line and fsync it; all of it is there or none.

    Raises StepFailed when the disk is full or the file cannot be written.
    """
    try:
        disk.append(path, line + b"\n")
    except OSError as failure:
        raise _unwritten(path, failure) from failure


def replace_file(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all, never readable by others. Raises StepFailed, as `append_line` does."""
    try:
        disk.replace(path, content)
    except OSError as failure:
        raise _unwritten(path, failure) from failure


def whole_lines(
    path: Path, *, repair: bool, complete: Callable[[bytes], bool] = lambda _line: False
) -> tuple[list[bytes], str]:
    """The complete lines of an append-only file, and a sentence about a torn last one ("" when there is none).

    A last line without its newline is what a crash while writing leaves; what it announced was never begun. `repair`
    keeps it in a file beside and cuts it off; only the holder of the environment's lock may, because to anybody else
    a line that is being written looks the same. One that is `complete` lacks nothing but its newline, and gets that.
    """
    raw = path.read_bytes()
    whole = raw.rfind(b"\n") + 1
    lines = raw[:whole].split(b"\n")[:-1]
    if whole == len(raw):
        return lines, ""
    if complete(raw[whole:]):
        if repair:
            append_line(path, b"")
        return [*lines, raw[whole:]], f"The last line of {path.name} had no end; nothing of it is missing."
    torn = f"The last line of {path.name} was torn by a crash ({len(raw) - whole} bytes)"
    if not repair:
        return lines, f"{torn}; the next run sets it aside."
    return lines, f"{torn}; it is kept in {_set_aside(path, raw, whole).name}."


def torn_from(path: Path) -> list[Path]:
    """What was set aside of an append-only file."""
    return sorted(path.parent.glob(f"{path.name}.torn-*"))


def _set_aside(path: Path, raw: bytes, whole: int) -> Path:
    """Keep what follows the whole lines in a file of its own, then cut it off. Raises StepFailed."""
    try:
        taken = {one.name for one in torn_from(path)}  # of an earlier crash at the same place, or of one in here
        names = (f"{path.name}.torn-{len(raw)}{more}" for more in ("", *(f"-{n}" for n in range(2, len(taken) + 3))))
        aside = path.with_name(next(name for name in names if name not in taken))
        disk.create(aside, raw[whole:])
        disk.cut(path, whole)
        disk.sync_directory(path.parent)
    except OSError as failure:
        raise _unwritten(path, failure) from failure
    return aside


def _unwritten(path: Path, failure: OSError) -> StepFailed:
    return StepFailed(
        f"{path} cannot be written: {failure.strerror or failure}.",
        world="What is not written down is not done.",
        next=f"make room on the disk, then: {resume_of(path)}",
        file=str(path),
    )


def resume_of(path: Path) -> str:
    """`sluice resume` for the environment whose state a file is."""
    return command_of(path, "resume")


def command_of(path: Path, verb: str) -> str:
    """A command for the environment whose state a file is: it lies in SERVICE/envs/ENVIRONMENT."""
    parts = path.parts
    if "envs" not in parts[1:-1]:
        return f"sluice {verb}"
    at = len(parts) - 1 - parts[::-1].index("envs")
    return f"sluice {verb} --env {parts[at + 1]} --service {parts[at - 1]}"


def damaged(path: Path, line: int, why: str, *, following: str = "") -> StateCorrupted:
    """The error every reader of an append-only file raises. `following`: what to do, where that is not to move it."""
    return StateCorrupted(
        f"{path}, line {line}: {why}.",
        world="Nothing was overwritten; the release that serves goes on serving.",
        next=following or "look at the file; when the state of the world is clear, move it away by hand",
        file=str(path),
        line=line,
    )


def redact_tree(value: Any, redactor: Redactor) -> Any:
    """The same shape with every string redacted."""
    if isinstance(value, str):
        return redactor(value)
    if isinstance(value, Mapping):
        return {redactor(key): redact_tree(item, redactor) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_tree(item, redactor) for item in value]
    return value


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. `facts` is what a recovery needs to go on; `notes` is evidence for people, always redacted."""

    n: int
    at: str
    entry: str  # begin | intent | observed | end
    state: str = ""
    event: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """`begin`, `end`, `intent:switching`, `observed:starting`."""
        return f"{self.entry}:{self.state}" if self.state else self.entry

    def line(self) -> bytes:
        """As written, with its checksum."""
        body = {name: getattr(self, name) for name in ("n", "at", "entry", "state", "event", "facts", "notes")}
        return canonical({**body, "sum": _checksum(body)})


def _checksum(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(body)).hexdigest()[:16]


def _parse(path: Path, number: int, raw: bytes) -> Entry:
    try:
        body = json.loads(raw)
        checksum = body.pop("sum")
        entry = Entry(**body)
    except (ValueError, TypeError, KeyError, AttributeError) as reason:
        raise damaged(path, number, "is not a journal entry") from reason
    if checksum != _checksum(body) or entry.n != number:
        raise damaged(path, number, "does not have the checksum or the number it was written with")
    return entry


@dataclass(frozen=True, slots=True)
class Record:
    """A journal as read back."""

    path: Path
    entries: tuple[Entry, ...]
    note: str = ""  # what was repaired

    @property
    def run(self) -> str:
        return self.path.name.removesuffix(SUFFIX)

    @property
    def kind(self) -> Kind:
        return Kind(self.entries[0].facts["kind"])

    @property
    def ended(self) -> bool:
        return self.entries[-1].entry == "end"

    @property
    def recorded(self) -> list[Mark] | None:
        """The records that the ledger had of this run when it ended; None: it did not end, or has none.

        Raises StateCorrupted.
        """
        facts = self.entries[-1].facts
        if not self.ended or not facts.get("recorded"):
            return None
        try:
            return [(int(one["n"]), str(one["hash"])) for one in facts.get("records", ())]
        except (KeyError, TypeError, ValueError) as reason:
            raise damaged(self.path, len(self.entries), "does not say what was recorded") from reason

    @property
    def observed(self) -> list[tuple[State, Event]]:
        return [(State(e.state), Event(e.event)) for e in self.entries if e.entry == "observed"]

    @property
    def state(self) -> State:
        """Where the run stands. Raises StateCorrupted when the entries are no walk of the engine's table."""
        try:
            return replay(self.kind, self.observed)
        except (ImpossibleEvent, ValueError) as reason:
            raise damaged(
                self.path, len(self.entries), f"the entries are not a run of this engine: {reason}"
            ) from reason


def read(path: Path, *, repair: bool) -> Record | None:
    """Read a journal (`repair` as in `whole_lines`). None: the crash came before its first entry was whole.

    Raises StateCorrupted for any other damage.
    """
    try:
        lines, note = whole_lines(path, repair=repair)
    except FileNotFoundError:  # removed for its age by a run that goes on while we read
        return None
    if not lines:
        return None
    record = Record(path, tuple(_parse(path, n, raw) for n, raw in enumerate(lines, 1)), note)
    first = record.entries[0]
    if first.entry != "begin" or first.facts.get("kind") not in set(Kind):
        raise damaged(path, 1, "is not the beginning of a run")
    _ = record.state
    return record


def read_all(directory: Path, *, repair: bool) -> list[Record]:
    """Every run of an environment, oldest first. Raises StateCorrupted, naming the file, when one is damaged."""
    records = (read(path, repair=repair) for path in sorted(directory.glob(f"*{SUFFIX}")))
    return [record for record in records if record is not None]


def recorded_runs(directory: Path, on_damage: Callable[[StateCorrupted], None] | None = None) -> dict[str, list[Mark]]:
    """What the journals remember of the ledger: the runs that were recorded, and their records.

    Raises StateCorrupted for a damaged one, or tells `on_damage` and goes on with the others.
    """
    runs: dict[str, list[Mark]] = {}
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        try:
            record = read(path, repair=False)
            if record is not None and (marks := record.recorded) is not None:
                runs[record.run] = marks
        except StateCorrupted as damage:
            if on_damage is None:
                raise
            on_damage(damage)
    return runs


class Journal:
    """Writes one run's entries. `after_write` gets each entry's name once it is on disk (drills kill there)."""

    def __init__(
        self,
        path: Path,
        redactor: Redactor,
        now: Callable[[], str],
        after_write: Callable[[str], None] | None = None,
        written: int = 0,
    ) -> None:
        """`written`: how many entries the file has already, when a recovery goes on with it."""
        self.path = path
        self._redactor, self._now, self._after_write, self._written = redactor, now, after_write, written

    def begin(self, **facts: Any) -> None:
        """The first entry: kind, owner, what was asked for. All writers raise StepFailed when the disk is full."""
        self._write("begin", facts=facts)

    def intent(self, state: State, facts: Mapping[str, Any]) -> None:
        """Announce a step. Only after this returns may it begin."""
        self._write("intent", state, facts=facts)

    def observed(self, state: State, event: Event, facts: Mapping[str, Any], notes: Mapping[str, Any]) -> None:
        """What came of a step."""
        self._write("observed", state, event, facts, notes)

    def end(
        self,
        outcome: State,
        exit_code: int,
        records: Sequence[Mapping[str, Any]],
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        """The run is over: nothing is left to recover. `records`: what the ledger has of it, each to be found again."""
        marks = [{"n": record["n"], "hash": record["hash"]} for record in records]
        facts = {"outcome": outcome.value, "exit": exit_code, "recorded": bool(marks), "records": marks}
        self._write("end", facts=facts, notes=notes)

    def _write(
        self,
        entry: str,
        state: State | None = None,
        event: Event | None = None,
        facts: Mapping[str, Any] | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        written = Entry(
            self._written + 1,
            self._now(),
            entry,
            state.value if state else "",
            event.value if event else "",
            facts or {},
            redact_tree(notes or {}, self._redactor),
        )
        append_line(self.path, written.line())
        self._written += 1
        if self._after_write is not None:
            self._after_write(written.name)
