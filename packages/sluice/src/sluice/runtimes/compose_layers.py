"""The images without a name that Docker's classic builder makes of each step, and when they may go.

The last stage's are parents of the image that has a name, and go with it. Those of the stages before (`COPY --from`)
are nobody's parents and would pile up. No label can be put on them without touching the Dockerfile, so they are known
by what the builder prints: what it names in a build of ours, and what was not there before that build.
BuildKit keeps its own cache, prints none of this, and leaves no such images.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable, Iterable
from collections.abc import Set as AbstractSet
from pathlib import Path

import msgspec

from sluice.hosts.state import write_file
from sluice.model.errors import StepFailed
from sluice.ports import Progress
from sluice.runtimes.engine import DockerEngine

PRINTED = re.compile(r"\s*---> ([0-9a-f]{12})\s*")


class Written(msgspec.Struct, frozen=True):
    """What the builds of one artifact key made and used: ids of images, in the order they were printed."""

    made: tuple[str, ...] = ()  # first made by one of these builds: ours to remove
    used: tuple[str, ...] = ()  # what later builds of this key find in the cache


class Layers:
    """The notes about one service's builds: one small file for each artifact key."""

    def __init__(self, folder: Path, engine: DockerEngine) -> None:
        """Touches nothing."""
        self._folder = folder
        self._engine = engine

    @contextlib.asynccontextmanager
    async def written(self, key: str) -> AsyncIterator[Callable[[str], None]]:
        """Give this every line that the build prints. Also what a build made that failed is noted."""
        before = {image.id for image in await self._engine.images({}, everything=True)}
        printed: dict[str, None] = {}

        def told(line: str) -> None:
            found = PRINTED.fullmatch(line)
            if found:
                printed[found[1]] = None

        try:
            yield told
        except BaseException:
            with contextlib.suppress(StepFailed):  # why the build failed says more than that this could not be asked
                await self._note(key, printed, before)
            raise
        await self._note(key, printed, before)

    async def _note(self, key: str, printed: Iterable[str], before: AbstractSet[str]) -> None:
        known = [await self._engine.image(short) for short in printed]
        ids = [image.id for image in known if image is not None]
        if ids:
            old = self._read(self._path(key))
            made = dict.fromkeys((*old.made, *(one for one in ids if one not in before)))
            used = dict.fromkeys((*old.used, *ids))
            self._folder.mkdir(exist_ok=True, mode=0o700)
            write_file(self._path(key), msgspec.json.encode(Written(tuple(made), tuple(used))))

    async def prune(self, kept: AbstractSet[str], progress: Progress) -> None:
        """Remove what the builds of other keys than `kept` made and no kept one used. Never by force, never a name.

        What somebody's container or image still stands upon stays, and is tried again the next time.
        """
        notes = {path: self._read(path) for path in self._folder.glob("*.json")}
        needed = {one for path, note in notes.items() if path.stem in kept for one in note.used}
        dead = {path: note for path, note in notes.items() if path.stem not in kept}
        gone: set[str] = set()
        removed = more = 0
        while True:  # a step goes only after what was built upon it, maybe by another of these builds
            for one in (one for note in dead.values() for one in reversed(note.made)):
                if one not in needed and one not in gone:
                    answer = await self._gone(one)
                    gone |= {one} if answer is not False else set()
                    more += answer is True
            if not more:
                break
            removed, more = removed + more, 0
        for path, note in dead.items():
            left = tuple(one for one in note.made if one not in gone)
            if left:
                write_file(path, msgspec.json.encode(Written(left)))
            else:
                path.unlink(missing_ok=True)
        if removed:
            progress(f"removed {removed} unnamed image{'s' if removed > 1 else ''} of build steps that no build needs")

    async def _gone(self, one: str) -> bool | None:
        """True: removed; False: it is needed by somebody; None: there is none any more."""
        image = await self._engine.image(one)
        if image is None:
            return None
        if image.tags or image.digests:  # removing an id would take its only name away
            return False
        return await self._engine.remove_image(one, parents=False)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    def _read(self, path: Path) -> Written:
        try:
            return msgspec.json.decode(path.read_bytes(), type=Written)
        except (FileNotFoundError, msgspec.DecodeError):
            return Written()  # a note that is damaged costs an image that stays, no more
