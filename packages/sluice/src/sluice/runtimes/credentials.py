"""Smoke credentials: what a command of the service printed, kept in a 0600 file and known to the redactor first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from sluice.hosts.state import write_file
from sluice.model.errors import StepFailed
from sluice.model.secret import Redactor, Secret
from sluice.runner import RawOutput

CREDENTIALS_S = 60  # minting a few sessions, on a busy machine
SECRET_LEAF = 16  # a token or ticket is longer; ids, names and dates in the same JSON must stay readable


def keep_credentials(raw: RawOutput, redactor: Redactor, path: Path) -> Path:
    """Write them to `path` (0600); the caller removes it when done. Raises StepFailed when there are none."""
    try:
        told = msgspec.json.decode(raw.stdout)
    except msgspec.DecodeError:
        told = None
    redactor.learn(Secret(leaf) for leaf in _leaves(told))
    if raw.exit_code or raw.timed_out or told is None:
        # Its output may hold half a credential that nobody could teach the redactor, so only stderr is quoted.
        tail = redactor(raw.stderr.decode(errors="replace")).strip().splitlines()[-5:]
        raise StepFailed(
            "the smoke credentials could not be made: "
            + (f"the command ended with {raw.exit_code}." if raw.exit_code else "the command printed no JSON.")
            + ("\n" + "\n".join(tail) if tail else ""),
            next="run the command of [smoke] credentials by hand",
        )
    write_file(path, raw.stdout)
    return path


def _leaves(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if len(value) >= SECRET_LEAF else []
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [leaf for child in children for leaf in _leaves(child)]
