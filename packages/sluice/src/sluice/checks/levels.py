"""How bad one line of a log says it is: JSON, logfmt, and the plain formats servers write. Pure; never raises.

What has a level is judged by its level and by nothing else: what somebody typed into a chat stands in messages, and a
level does not. Only a line without one is searched for the words of a crash (sluice.checks.logs).
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

import msgspec

# Longer lines are dumps; a level stands at the beginning, a JSON record this long is parsed by nobody.
MAX_LINE = 16 * 1024
HEAD = 240  # a date, a host, a process, a thread and a logger have room before the level
HEAD_TOKENS = 12
BUNYAN_ERROR = 50  # bunyan and pino: 10 trace ... 50 error, 60 fatal
BUNYAN = range(10, 101)
OTEL_ERROR = 17  # OpenTelemetry's SeverityNumber: 17-20 error, 21-24 fatal
SYSLOG_ERROR = 3  # GELF: 0 emergency ... 3 error, 4 warning


class Level(Enum):
    """What a line says of itself."""

    CRITICAL = "critical"
    FINE = "fine"
    NONE = "none"  # it says nothing


_CRITICAL = frozenset(
    [
        "error",
        "err",
        "eror",
        "critical",
        "crit",
        "fatal",
        "ftl",
        "panic",
        "pnc",
        "dpanic",
        "severe",
        "alert",
        "emerg",
        "emergency",
        "failure",
    ]
)
_FINE = frozenset(
    [
        "trace",
        "trc",
        "verbose",
        "vrb",
        "debug",
        "dbg",
        "debug1",
        "debug2",
        "debug3",
        "debug4",
        "debug5",
        "info",
        "inf",
        "information",
        "informational",
        "log",
        "notice",
        "note",
        "ntc",
        "warn",
        "warning",
        "wrn",
        "hint",
        "success",
        "statement",
        "detail",
        "context",
        "default",
    ]
)
_KEYS = ("level", "severity", "levelname", "lvl", "loglevel", "log_level", "log.level", "severity_text", "@l", "l", "s")
_NUMBERS = ("severity_number", "severitynumber")
_MESSAGES = ("message", "msg", "@m", "@mt", "short_message", "event", "error", "err")
_MONGO = {"F": Level.CRITICAL, "E": Level.CRITICAL, "W": Level.FINE, "I": Level.FINE}  # and D, D1-D5

_ANSI = re.compile(r"\x1b\[[0-9;]{0,20}[A-Za-z]")
_LOGFMT = re.compile(
    r'(?:^|[\s{,])(?:level|lvl|severity|levelname|log[._]?level)="?([A-Za-z]{2,13})(?=["\s,}]|$)', re.IGNORECASE
)
_KLOG = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d")
_RUBY = re.compile(r"([DIWEFAU]), \[\d{4}-")
_NGINX_ERROR = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[error\] \d+#\d+")
# PostgreSQL writes exactly two spaces after its level; uvicorn, at the beginning of a line, more.
_POSTGRES_ERROR = re.compile(r"(?:^|[\s\]>)])ERROR:  (?=\S)")
_BRACKETED = re.compile(r"\[\s{0,3}([^\[\]]{0,80})\]|\(([^()]{0,80})\)")
_HEADER_WORDS = frozenset(
    [
        "utc",
        "gmt",
        "z",
        "am",
        "pm",
        "cet",
        "cest",
        "msk",
        "est",
        "edt",
        "-",
        "|",
        "--",
        ":",
        ">",
        "mon",
        "tue",
        "wed",
        "thu",
        "fri",
        "sat",
        "sun",
        "jan",
        "feb",
        "mar",
        "apr",
        "may",
        "jun",
        "jul",
        "aug",
        "sep",
        "oct",
        "nov",
        "dec",
    ]
)
_LOGGER = re.compile(r"[A-Za-z_][\w-]{0,60}(?:(?:\.|::|/)[\w-]{1,60}){1,12}:?")


def plain(line: str) -> str:
    """The line as it is judged: bounded, without colours."""
    return _ANSI.sub("", line[:MAX_LINE]).rstrip()


def level_of(line: str) -> tuple[Level, str]:
    """The level of a `plain` line, and the text to search for a crash when it says none."""
    stripped = line.lstrip()
    if stripped.startswith("{") and (record := _record(stripped)) is not None:
        return _of_record(record)
    if _NGINX_ERROR.match(stripped) or _POSTGRES_ERROR.search(line[:HEAD]):
        # Both mean one request or one statement of a client: a page that is not there, a duplicate key.
        return Level.FINE, ""
    if found := _LOGFMT.search(line):
        return _named(found[1]), line
    if found := _KLOG.match(line) or _RUBY.match(line):
        return Level.CRITICAL if found[1] in "EF" else Level.FINE, line
    return _of_head(line[:HEAD]), line


def _named(word: str) -> Level:
    word = word.lower()
    return Level.CRITICAL if word in _CRITICAL else Level.FINE if word in _FINE else Level.NONE


# ---------------------------------------------------------------- JSON


def _record(text: str) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(text.encode(errors="replace"))
    except (msgspec.DecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _of_record(record: dict[str, Any]) -> tuple[Level, str]:
    keys = {key.lower(): value for key, value in reversed(record.items())}
    nested = keys.get("log")
    if isinstance(nested, dict):
        keys.setdefault("log.level", nested.get("level"))
    for key in _KEYS:
        if (level := _of_value(key, keys.get(key), gelf="short_message" in keys)) is not Level.NONE:
            return level, ""
    for key in _NUMBERS:
        if isinstance(number := keys.get(key), int):
            return (Level.CRITICAL if number >= OTEL_ERROR else Level.FINE), ""
    # A record without a level: only its own words are searched, not what it carries.
    message = next((keys[key] for key in _MESSAGES if isinstance(keys.get(key), str)), "")
    return Level.NONE, message


def _of_value(key: str, value: Any, *, gelf: bool) -> Level:
    if isinstance(value, str):
        return _MONGO.get(value, Level.NONE) if key == "s" else _named(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or key not in {"level", "severity", "lvl"}:
        return Level.NONE
    if not gelf and not BUNYAN[0] <= value <= BUNYAN[-1]:
        return Level.NONE
    bad = value <= SYSLOG_ERROR if gelf else value >= BUNYAN_ERROR
    return Level.CRITICAL if bad else Level.FINE


# ---------------------------------------------------------------- plain text


def _of_head(head: str) -> Level:
    """The level word of a record's header; the first word of the message ends the search.

    Before the level only dates, numbers, brackets and a dotted logger's name may stand. A bare word counts as a level
    in capitals, or where it is bracketed, or at the very beginning with a colon.
    """
    # `[ERROR]` becomes a marked word of its own, `[main thread]` disappears.
    text = _BRACKETED.sub(lambda found: _in_brackets(found[1] or found[2] or ""), head)
    for place, token in enumerate(text.split()[:HEAD_TOKENS]):
        if token.startswith("\0"):
            return _named(token[1:])
        # `ERROR:root:message` is Python's own format.
        word = token.lstrip("|-<>").partition(":")[0].rstrip("|-,")
        if word.isupper() and (level := _named(word)) is not Level.NONE:
            return level
        if place == 0 and token.endswith(":") and (level := _named(word)) is not Level.NONE:
            return level
        if not _is_header(token, place):
            return Level.NONE
    return Level.NONE


def _in_brackets(inside: str) -> str:
    # Some loggers put date, level and module into one pair: `[2026-01-01T10:00:00Z ERROR app::db]`.
    word = next((part.rstrip(":") for part in inside.split() if not any(sign.isdigit() for sign in part)), "")
    return f" \0{word} " if _named(word) is not Level.NONE else " - "


def _is_header(token: str, place: int) -> bool:
    if token.lower() in _HEADER_WORDS or _LOGGER.fullmatch(token):
        return True
    # `2026-01-01T10:00:00Z`, `10:00:00,123` and `7` anywhere; `api-1` and `postgres[12]:` at the beginning.
    return any(sign.isdigit() for sign in token) and (place < 3 or token[0].isdigit())
