"""`logs`: the newest lines of every service without a critical error.

Critical is a record whose own level says so (error and worse), or a line without a level that reads like a crash. A
stack trace is one error with the record it belongs to. What is known to be harmless is counted and named, with its
reason. The rules are listed in docs/reference/checks.md.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sluice.checks.levels import Level, level_of, plain
from sluice.checks.together import sentence
from sluice.model.logs import Logs
from sluice.model.spec import ChecksSpec, Harmless
from sluice.model.verdict import Finding, Verdict, counted

NAME = "logs"
SHARED_ALONE = "shared_alone"  # a metric: only services outside the release's own slot logged critical errors
MAX_LINES = 20_000  # of a service: the runtime gives `log_lines` of each of its replicas, of which there may be many
MAX_EVIDENCE = 3  # errors quoted; the rest are counted
MAX_QUOTE = 160
MAX_RECORD = 200  # lines of one stack trace; what follows is judged anew
# Of a line for the words of a crash, and of a record for the patterns of [checks], which are the operator's and may be
# slow: both stand at the beginning.
MAX_SEARCHED = 2048

# The words of a crash, for lines without a level. Each is linear: no repetition inside a repetition.
_CRASH = re.compile(
    r"""
    ^\s{0,8}(?:panic|fatal|fatal\ error|uncaught\ (?:exception|error)|unhandled\ exception)\s?:
    | Traceback\ \(most\ recent\ call\ last\)
    | ^\s{1,8}File\ "[^"]{1,200}",\ line\ \d
    | ^goroutine\ \d{1,9}\ \[
    | ^thread\ '[^']{0,80}'\ (?:\(\d{1,9}\)\ )?panicked\ at
    | ^Exception\ in\ thread\b
    | \bUncaught\ \w{0,40}(?:Error|Exception)\b
    | \bUnhandled\ ?(?:promise)?\ ?rejection\b | \bUnhandledPromiseRejection
    | \bPHP\ Fatal\ error\b
    | \b(?:FATAL|PANIC):\ \                       # PostgreSQL
    | \bsegmentation\ fault\b | \bsegfault\b | \bSIGSEGV\b | \(core\ dumped\)
    | \bout\ of\ memory\b | \bOutOfMemoryError\b | \bcannot\ allocate\ memory\b | \bstd::bad_alloc\b | \boom-kill
    | ^MemoryError\b
    | \bdouble\ free\ or\ corruption\b | \bstack\ smashing\ detected\b | \bERROR:\ AddressSanitizer\b
    """,
    re.IGNORECASE | re.VERBOSE,
)
# One of these stands in every line that _CRASH finds; looking for them first makes a calm log cheap to judge.
_WORDS = (
    *("panic", "fatal", "uncaught", "unhandled", "traceback", 'file "', "goroutine", "exception in thread"),
    *("segmentation fault", "segfault", "sigsegv", "core dumped", "out of memory", "outofmemory", "cannot allocate"),
    *("bad_alloc", "oom-kill", "memoryerror", "double free", "stack smashing", "addresssanitizer"),
)
# What stands in quotes was said by somebody else: a request line, a name, a message.
_QUOTED = re.compile(r'"[^"]*"')
_TRACE_FILE = re.compile(r'^\s{1,8}File "')
_CONTINUES = re.compile(
    r"\s|Caused by:|Suppressed:|During handling of |The above exception |Traceback \(most|goroutine \d|created by "
    r"|exit status \d|stack backtrace:|note: run with |\.\.\. \d|Node\.js v\d"
)
_GO_FRAME = re.compile(r"[\w./*()\[\]-]{0,200}\(|\[signal ")
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]{0,120}(?::|$)")

KNOWN_HARMLESS = (
    Harmless(
        r"FATAL:  the database system is (?:starting up|shutting down|not yet accepting connections)",
        "PostgreSQL refuses early and late visitors, its own healthcheck among them",
    ),
)


@dataclass(frozen=True)
class Record:
    """One record of a log with the lines that belong to it."""

    lines: tuple[str, ...]
    level: Level
    crash: bool

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def quote(self) -> str:
        """The line a person should read: the first, and what the trace ends with."""
        said = [line.strip() for line in self.lines if line.strip()]
        last = said[-1] if len(said) > 1 and not said[-1].startswith("at ") else ""
        room = MAX_QUOTE if not last else MAX_QUOTE // 2
        return " … ".join(_cut(part, room) for part in (said[0] if said else "", last) if part)


def _cut(text: str, room: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= room else flat[: room - 1] + "…"


def records(lines: Sequence[str]) -> Iterator[Record]:
    """Lines put together into records: a stack trace belongs to the record before it. Linear in the lines."""
    held: list[str] = []
    level, crash = Level.NONE, False
    for raw in lines:
        line = plain(raw)
        if held and len(held) < MAX_RECORD and _belongs(line, held, level, crash=crash):
            held.append(line)
            crash = crash or (level is not Level.FINE and _crashed(line))
            continue
        if held:
            yield Record(tuple(held), level, crash)
        level, searched = level_of(line)
        held, crash = [line], level is not Level.FINE and _crashed(searched)
        if not line:
            held = []
    if held:
        yield Record(tuple(held), level, crash)


def _crashed(text: str) -> bool:
    text = text[:MAX_SEARCHED]
    lowered = text.lower()
    if not any(word in lowered for word in _WORDS):
        return False
    return bool(_CRASH.search(text if _TRACE_FILE.match(text) else _QUOTED.sub('""', text)))


def _belongs(line: str, held: list[str], level: Level, *, crash: bool) -> bool:
    bad = crash or level is Level.CRITICAL
    if not line:
        return bad
    if _CONTINUES.match(line):
        # A trace that begins at the margin belongs to an error, and is an error by itself after a good record.
        return line[0].isspace() or bad
    if not bad:
        return False
    last = held[-1]
    if held[0].startswith(("panic:", "fatal error:")) and _GO_FRAME.match(line):
        return True
    return crash and last[:1].isspace() and bool(_EXCEPTION.match(line)) and level_of(line)[0] is Level.NONE


def _compiled(patterns: Sequence[str]) -> list[re.Pattern[str]]:
    return [re.compile(pattern) for pattern in patterns]


def judge_logs(read: Logs, spec: ChecksSpec, redact: Callable[[str], str] = lambda text: text) -> Finding:
    """The finding `logs` over the newest lines of every service. Pure. Raises re.error for a pattern that is none."""
    logs = read.lines
    if not logs:
        return Finding(NAME, Verdict.INCONCLUSIVE, detail="No service has a log here.", fix="sluice status")
    critical = _compiled(spec.critical)
    known = (*spec.harmless, *KNOWN_HARMLESS)
    harmless = list(zip(_compiled([one.pattern for one in known]), known, strict=True))
    found: list[tuple[str, Record]] = []
    passed: Counter[str] = Counter()
    for service, lines in sorted(logs.items()):
        for record in records(lines[-MAX_LINES:]):
            text = record.text[:MAX_SEARCHED]
            if not (record.crash or record.level is Level.CRITICAL or any(p.search(text) for p in critical)):
                continue
            reason = next((one.reason for pattern, one in harmless if pattern.search(text)), None)
            if reason is None:
                found.append((service, record))
            else:
                passed[reason] += 1
    return _verdict(read, found, passed, redact)


def _verdict(
    read: Logs,
    found: list[tuple[str, Record]],
    passed: Counter[str],
    redact: Callable[[str], str],
) -> Finding:
    excused = [f"{count} harmless ({_cut(reason, 80)})" for reason, count in passed.most_common(3)]
    if found:
        detail = f"{len(found)} critical: {'; '.join([*_told(read, found, redact), *excused])}"
        fix = "read the service's log; what is known to be harmless goes into [[checks.harmless]] with its reason"
        metrics = {"critical": len(found), "services": sorted({service for service, _ in found})}
        return Finding(NAME, Verdict.FAIL, detail=detail, fix=fix, metrics=metrics)
    logs = read.lines
    seen = ", ".join(f"{len(lines)} of {service}" for service, lines in sorted(logs.items())[:8])
    more = f" and {counted(len(logs) - 8, 'service')} more" if len(logs) > 8 else ""
    return Finding(
        NAME, Verdict.PASS, detail=sentence([f"No critical error in the newest lines: {seen}{more}", *excused])
    )


def _told(read: Logs, found: list[tuple[str, Record]], redact: Callable[[str], str]) -> Iterator[str]:
    """The newest errors that may be quoted, and of the others how many there are and why they are not."""
    shown = [(service, record) for service, record in found if service not in read.withheld]
    yield from (f"{service}: {redact(record.quote)}" for service, record in shown[-MAX_EVIDENCE:])
    if len(shown) > MAX_EVIDENCE:
        yield f"and {len(shown) - MAX_EVIDENCE} more"
    for service, count in Counter(service for service, _ in found if service in read.withheld).items():
        yield f"{service}: {count} not shown: {read.withheld[service]}"
