"""The ledger for other programs and for auditors: Markdown, CSV, and in-toto Statements. Pure."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sluice.journal import canonical
from sluice.model.errors import UsageError
from sluice.model.release import COMPOSE, CONTENT
from sluice.model.text import plain, shortened

Record = Mapping[str, Any]
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
# A name, not an address: what it holds is in docs/reference/ledger.md. A change of meaning gets another number.
PREDICATE_TYPE = "urn:sluice:ledger-record:v1"
# What the runbook wants of every release, and what places it in the chain.
COLUMNS = (
    *("n", "type", "run", "service", "environment", "commit", "tree", "branch", "version", "release", "artifact_key"),
    *("smoke_result", "decision", "outcome", "exit_code", "refusal", "reason", "override", "locked"),
    *("item", "principal", "signed_with", "expires", "owner", "owner_source"),
    *("committed_at", "started", "switched", "ended", "plan", "ledger_key", "hash"),
)
MARKDOWN = (
    *("n", "run", "ended", "type", "version", "commit", "environment", "smoke_result", "decision", "outcome", "owner"),
    "what",
)
TOLD = ("refusal", "item", "principal", "signed_with", "expires", "reason", "override", "locked")
WHAT = 60  # letters of a reason in a table: enough to know which it was
SHA256 = re.compile(r"(?:.*@)?sha256:([0-9a-f]{64})|([0-9a-f]{64})")
# A spreadsheet takes a cell that begins so for a formula, also behind blanks and in its full-width forms. Where it
# separates cells by semicolons, the quotes of ours do not hold, and a cell begins behind each.
FORMULA = re.compile(r"(^|;)(\s*[=+\-@\uFF1D\uFF0B\uFF0D\uFF20])")
# Letters that mean something in Markdown or in the HTML within it.
SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&])")


def moment(text: str, option: str) -> dt.datetime:
    """A day or a time in ISO 8601; UTC where it names no zone. Raises UsageError, naming the option."""
    try:
        found = dt.datetime.fromisoformat(text)
        if found.tzinfo:
            found.astimezone(dt.UTC)  # the first and the last day of the calendar have hours that are none in UTC
    except (ValueError, OverflowError):
        raise UsageError(f"{option} {text!r} is no time.", next=f"{option} 2026-01-31 or 2026-01-31T12:00") from None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def time_of(record: Record, name: str = "ended") -> dt.datetime | None:
    """A record's time, or None where it has none."""
    try:
        return moment(str(record.get(name, "")), name)
    except UsageError:
        return None


def of_run(records: Iterable[Record], run: str, environment: str) -> list[Record]:
    """The records of one run; all of them for "". Raises UsageError for a run that is not there, naming the newest."""
    records = list(records)
    found = [record for record in records if not run or record.get("run") == run]
    if run and not found:
        newest = f"; newest: {records[-1]['run']}" if records else ""
        raise UsageError(
            f"there is no run {run!r} in {environment}{newest}.", next=f"sluice log --env {environment} shows the runs"
        )
    return found


def what_of(record: Record) -> str:
    """What a record is about beside its outcome, in few words: who signed what, and why not, or why.

    `colleague`, `colleague: told`, `FeatureBranch`, or the beginning of the reason.
    """
    signed = ": ".join(str(record[key]) for key in ("principal", "item") if record.get(key))
    reason = shortened(str(record.get("reason") or record.get("override") or ""), WHAT)
    why = str(record.get("refusal") or ("" if signed else reason))
    return ", ".join(part for part in (signed, why) if part)


def chosen(records: Iterable[Record], since: str = "", until: str = "") -> list[Record]:
    """Those that ended in [since, until). Raises UsageError for what is no time."""
    first = moment(since, "--since") if since else None
    last = moment(until, "--until") if until else None

    def wanted(record: Record) -> bool:
        at = time_of(record)
        early = first is not None and (at is None or at < first)
        late = last is not None and (at is None or at >= last)
        return not early and not late

    return [record for record in records if wanted(record)]


def as_csv(records: Iterable[Record]) -> str:
    """RFC 4180. A cell that a spreadsheet would run gets an apostrophe in front."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerow(COLUMNS)
    for record in records:
        writer.writerow(_cell(record.get(name, "")) for name in COLUMNS)
    return out.getvalue()


def _cell(value: Any) -> str:
    text = plain(str(value))
    harmless = isinstance(value, int) and not isinstance(value, bool)
    return text if harmless else FORMULA.sub(r"\1'\2", text)


def as_markdown(records: Sequence[Record]) -> str:
    """A table of what was done, and a paragraph for each record that has a reason, a refusal or a signature."""
    cells = (tuple(_md(_short(record, name)) for name in MARKDOWN) for record in records)
    rows = [MARKDOWN, tuple("---" for _ in MARKDOWN), *cells]
    lines = ["# Audit trail", "", *(f"| {' | '.join(row)} |" for row in rows)]
    for record in records:
        told = {key: str(record.get(key) or "") for key in TOLD}
        passed = (f"{one['gate']}, by {one['by']}: {one['reason']}" for one in record.get("waived_in_test") or ())
        told["waived in test"] = "; ".join(passed)
        said = "; ".join(f"{key}: {_md(text)}" for key, text in told.items() if text)
        if said:
            lines += ["", f"Record {_md(str(record['n']))} (run {_md(str(record.get('run', '')))}): {said}"]
    return "\n".join([*lines, ""])


def _short(record: Record, name: str) -> str:
    text = what_of(record) if name == "what" else str(record.get(name, ""))
    return text[:12] if name == "commit" else text


def _md(text: str) -> str:
    return SPECIAL.sub(r"\\\1", " ".join(plain(text).split()))


def as_in_toto(records: Iterable[Record]) -> str:
    """One in-toto Statement v1 a line: the subjects are what was released, the predicate is the record itself."""
    return "".join(canonical(statement(record)).decode() + "\n" for record in records)


def _subject(name: str) -> tuple[str, str]:
    """Of an entry of `artifact_digests` the subject's name, and what its digest is of.

    A service may have any name, also `source` or `artifact`. `sha256` is of bytes somebody can hold: a digest of a
    listing, or of what some files say, has a name that no verifier takes for it (DigestSet of in-toto allows others).
    """
    if name.startswith(CONTENT):
        return f"content/{name.removeprefix(CONTENT)}", "sluiceContent"
    if name.startswith(COMPOSE):
        return f"compose/{name.removeprefix(COMPOSE)}", "sluiceCompose"
    return f"image/{name}", "sha256"


def statement(record: Record) -> dict[str, Any]:
    """A record as a Statement. One about no commit and no artifact is about itself."""
    place = f"{record.get('service', '')}/{record.get('environment', '')}"
    subjects: dict[str, dict[str, str]] = {}
    if record.get("commit"):
        subjects[f"{place}/source"] = {"gitCommit": str(record["commit"])}
        if record.get("tree"):
            subjects[f"{place}/source"]["gitTree"] = str(record["tree"])
    digests = [(*_subject(str(name)), digest) for name, digest in (record.get("artifact_digests") or {}).items()]
    for name, algorithm, digest in (("artifact", "sluiceArtifactKey", record.get("artifact_key") or ""), *digests):
        if found := SHA256.fullmatch(str(digest)):
            subjects[f"{place}/{name}"] = {algorithm: found.group(1) or found.group(2)}
    if not subjects:
        subjects[f"{place}/ledger/{record['n']}"] = {"sha256": str(record["hash"])}
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": digest} for name, digest in subjects.items()],
        "predicateType": PREDICATE_TYPE,
        "predicate": dict(record),
    }
