"""Structured logs: one JSON object a line on stderr. Few, without text of people, without secrets."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime

# What every record carries by itself; whatever else is on it was given as `extra` and belongs on the line.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}

# Made once: json.dumps with these options makes an encoder for every line.
_encode = json.JSONEncoder(default=str, ensure_ascii=False).encode

# Facts of the request that is being answered: on every line that is written meanwhile.
_facts: ContextVar[dict[str, str] | None] = ContextVar("boltorezka_log_facts", default=None)


def begin_request(request_id: str) -> None:
    """From here on, in this task, every line carries the request's id and what `note` adds."""
    _facts.set({"request_id": request_id})


def note(name: str, value: str) -> None:
    """Put a fact, never a secret, on the lines of the present request; nothing outside of one."""
    facts = _facts.get()
    if facts is not None:
        facts[name] = value


class JsonLines(logging.Formatter):
    """One line a record. Of an exception its type and place are shown, never its text: it may quote its input."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= _facts.get() or {}
        line |= {name: value for name, value in vars(record).items() if name not in _OWN and value is not None}
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])[-8:]
            line["at"] = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
        return _encode(line)


def configure_logs(level: str) -> None:
    """Send every logger to stderr as JSON lines. Libraries speak only when something is wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries log addresses with their queries at lower levels, and those may hold a ticket.
    root.setLevel(logging.WARNING)
    logging.getLogger("boltorezka").setLevel(level.upper())
