"""What `sluice check --record` signs: that these commands ended well over this tree. Pure.

A note of the commit holds one record a line, each with its own signature, so that notes of several people can be
merged line by line. A record is bound to the commit's tree and to the commands of the policy, not to the place it lies.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Sequence

import msgspec

from sluice.journal import canonical

MAX_RECORDS = 50  # each is verified by a program of its own; a note with more is not what we wrote


class Ran(msgspec.Struct, frozen=True):
    """One command of the policy, and how it ended."""

    argv: tuple[str, ...]
    exit_code: int
    ms: int


class Attestation(msgspec.Struct, frozen=True):
    """The document that is signed."""

    commit: str
    tree: str
    commands: str  # commands_hash of the policy's
    results: tuple[Ran, ...]
    tools: dict[str, str]  # name -> version, of what ran them
    started: str
    ended: str
    principal: str
    format: int = 1


class Signed(msgspec.Struct, frozen=True):
    """One line of the note. `document` is the exact text that was signed."""

    document: str
    signature: str


def commands_hash(checks: Sequence[Sequence[str]]) -> str:
    """SHA-256 over the argv lists, in their order."""
    return hashlib.sha256(canonical([list(argv) for argv in checks])).hexdigest()


def document_of(record: Attestation) -> str:
    """The text that is signed."""
    return canonical(msgspec.to_builtins(record)).decode()


def line_of(document: str, signature: str) -> str:
    """One line of the note."""
    return msgspec.json.encode(Signed(document, signature)).decode()


def signed_of(line: str) -> Signed | None:
    """A line of the note, or None when it is none of ours."""
    try:
        return msgspec.json.decode(line, type=Signed)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None


def attestation_of(document: str) -> Attestation | None:
    """The document, or None when it is none."""
    try:
        return msgspec.json.decode(document, type=Attestation)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None


def objection(record: Attestation, tree: str, checks: Sequence[Sequence[str]]) -> tuple[str, str]:
    """Code and sentence of why a record that was truly signed proves nothing here; two times "" when it proves."""
    if record.tree != tree:
        return (
            "ChecksOtherTree",
            f"it is about tree {record.tree[:12]} (commit {record.commit[:12]}), and this commit's tree is {tree[:12]}",
        )
    if record.commands != commands_hash(checks):
        ran = named(one.argv for one in record.results)
        return "ChecksOtherCommands", f"other commands were run ({ran}) than the policy's ({named(checks)})"
    if tuple(one.argv for one in record.results) != tuple(tuple(argv) for argv in checks):
        return "ChecksMissing", "it does not tell how each of the policy's commands ended"
    failed = [one for one in record.results if one.exit_code]
    if failed:
        return "ChecksFailed", "; ".join(
            f"{shlex.join(one.argv)} ended with exit code {one.exit_code}" for one in failed
        )
    return "", ""


def named(commands: Iterable[Sequence[str]]) -> str:
    """Commands as they are typed."""
    return ", ".join(f"`{shlex.join(argv)}`" for argv in commands) or "none"
