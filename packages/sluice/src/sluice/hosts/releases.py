"""The environment's memory on disk: one JSON file per release, and one that says which of them serves."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import msgspec

from sluice.hosts.state import StatePaths, write_file
from sluice.journal import canonical
from sluice.model.errors import StateCorrupted, UsageError
from sluice.model.release import Release, Slot

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # an id becomes a file name


def digest_of(told: bytes) -> str:
    """Of everything that a release says as JSON, but whether it was verified.

    Of the text, not of what is read out of it: another version knows other keys, and the file says what it said.
    """
    said = json.loads(told)
    said.pop("verified", None)
    return hashlib.sha256(canonical(said)).hexdigest()


class _Serving(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    release_id: str
    slot: Slot


class FileReleases:
    """ports.Releases. Every write replaces a file whole; a damaged file is named and never overwritten."""

    def __init__(self, paths: StatePaths) -> None:
        """Touches nothing."""
        self._folder = paths.releases_dir
        self._serving = paths.env_dir / "serving.json"
        self._status = f"sluice status --env {paths.environment} --service {paths.service}"

    def all(self) -> list[Release]:
        """Oldest first (ids are time-ordered). Raises StateCorrupted."""
        return [self._read(path) for path in sorted(self._folder.glob("*.json"))]

    def get(self, release_id: str) -> Release:
        """Raises UsageError when there is none of that id, StateCorrupted when its file is damaged."""
        path = self._path(release_id)
        if not path.exists():
            raise UsageError(f"there is no release {release_id!r} in this environment.", next=self._status)
        return self._read(path)

    def digest(self, release_id: str) -> str:
        """`digest_of` what its file says as it stands there. Raises as `get`."""
        self.get(release_id)
        return digest_of(self._path(release_id).read_bytes())

    def save(self, release: Release) -> None:
        """Raises Refused when the disk does not take it; the file is as it was then."""
        write_file(self._path(release.id), _pretty(release))

    def serving(self) -> tuple[Release, Slot] | None:
        """Raises StateCorrupted when the note or the release it names cannot be read."""
        try:
            raw = self._serving.read_bytes()
        except FileNotFoundError:
            return None
        try:
            note = msgspec.json.decode(raw, type=_Serving | None)
        except msgspec.DecodeError as error:
            raise _damaged(self._serving, error) from error
        if note is None:
            return None
        path = self._path(note.release_id)
        if not path.exists():
            raise _damaged(path, f"{self._serving.name} names it, and it is gone")
        return self._read(path), note.slot

    def set_serving(self, release: Release | None, slot: Slot | None) -> None:
        """Both or neither."""
        note = _Serving(release.id, slot) if release is not None and slot is not None else None
        write_file(self._serving, _pretty(note))

    def _path(self, release_id: str) -> Path:
        if not ID.fullmatch(release_id):
            raise UsageError(f"{release_id!r} is not the id of a release.", next=self._status)
        return self._folder / f"{release_id}.json"

    def _read(self, path: Path) -> Release:
        try:
            release = msgspec.json.decode(path.read_bytes(), type=Release)
        except msgspec.DecodeError as error:
            raise _damaged(path, error) from error
        if release.id != path.stem:
            raise _damaged(path, f"it holds release {release.id}")
        return release


def _pretty(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"


def _damaged(path: Path, reason: object) -> StateCorrupted:
    return StateCorrupted(
        f"{path} is damaged: {reason}.",
        world="Nothing was overwritten; what serves goes on serving.",
        next="look at the file and restore it from a backup, then run `sluice status`",
        file=str(path),
    )
