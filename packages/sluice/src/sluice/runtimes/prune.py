"""Removes what was built and is not needed any more. What somebody holds or used lately stays; failures are said."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from sluice.model.release import Release
from sluice.ports import Progress
from sluice.runtimes.build import lock_file, try_lock
from sluice.runtimes.content import COMPLETE

# Between a build and the journal's line about it nothing names the artifact. An hour is longer than a build may take.
UNNAMED_S = 3600
KEY = re.compile(r"[0-9a-f]{32}")
REMOVED = ".removed"  # a folder on its way out: renamed first, so that no half of it is ever taken for the whole


async def prune_artifacts(
    artifacts: Path, keep: Sequence[Release], progress: Progress, mounted: AbstractSet[str] = frozenset()
) -> None:
    """Remove every artifact, Python environment and bundle that no release of `keep` needs. `mounted`: names that stay.

    Never raises for what cannot be removed: that is said to `progress` and stays.
    """
    await _prune(artifacts, {Path(release.artifact.path).name for release in keep} | mounted, progress)
    # Of what artifacts share, every artifact that is still there counts, also one that stayed for another reason.
    try:
        shared = await asyncio.to_thread(_shared_of, artifacts)
    except (OSError, ValueError) as error:
        progress(f"shared environments and bundles stay: what an artifact uses cannot be read ({error})")
        return
    for kind, needed in shared.items():
        await _prune(artifacts / kind, needed, progress)


def _shared_of(artifacts: Path) -> dict[str, set[str]]:
    """The keys of the Python environments and the bundles that the artifacts which are there stand upon."""
    found: dict[str, set[str]] = {"python": set(), "node": set()}
    notes = {"python": "python/*/lib/*/site-packages/shared-dependencies.pth", "node": "node/*"}
    for folder in _built(artifacts):
        for kind, pattern in notes.items():
            for note in folder.glob(pattern):
                found[kind].add(Path(note.read_text().strip()).relative_to(artifacts / kind).parts[0])
    return found


def _built(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if KEY.fullmatch(path.name) and path.is_dir()]


async def _prune(folder: Path, needed: Iterable[str], progress: Progress) -> None:
    kept = set(needed)
    for path in _built(folder):
        if path.name not in kept:
            await _remove(path, progress)
    for left in folder.glob(f"*{REMOVED}"):  # of this time too, where something stood in the way
        await _end(left, progress)


async def _remove(path: Path, progress: Progress) -> None:
    try:
        lock = try_lock(path)
        if lock is None:
            return  # somebody builds it just now
        try:
            if not path.exists():  # another environment's command was faster
                lock_file(path).unlink(missing_ok=True)
                return
            if _used_lately(path):
                return
            gone = path.with_name(f"{path.name}{REMOVED}")
            path.rename(gone)
            lock_file(path).unlink(missing_ok=True)
        finally:
            os.close(lock)
    except OSError as error:
        progress(f"{path} could not be removed: {error.strerror or error}")
        return
    progress(f"removing {path.parent.name}/{path.name[:12]}, which no kept release needs")


async def _end(path: Path, progress: Progress) -> None:
    try:
        await asyncio.to_thread(shutil.rmtree, path)
    except FileNotFoundError:  # another environment's command was faster
        return
    except OSError as error:
        progress(f"{path} could not be removed: {error.strerror or error}")


def _used_lately(path: Path) -> bool:
    marker = path / COMPLETE
    seen = marker if marker.exists() else path
    return time.time() - seen.stat().st_mtime < UNNAMED_S
