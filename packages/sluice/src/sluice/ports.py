"""What a run needs from the world. Adapters implement these; `drive` alone calls them, in the order the engine says.

Everything is asyncio. Every method that waits has a deadline of its own or takes one. Methods named in the journal as
steps are idempotent: after a crash the same call is made again with the same arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from sluice.model.containers import Containers
from sluice.model.logs import Logs
from sluice.model.promotion import Authored
from sluice.model.release import Artifact, Commit, Completed, Release, Slot
from sluice.model.spec import ServiceSpec

Progress = Callable[[str], None]  # one calm line of what is going on now


class Clock(Protocol):
    """Time as an argument."""

    def now(self) -> str:
        """Wall time, ISO 8601 UTC with milliseconds."""
        ...

    def monotonic(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class Runner(Protocol):
    """Runs commands, which are argv lists. The only place that starts a child of ours and waits for it."""

    async def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        on_line: Progress | None = None,
    ) -> Completed:
        """Run to its end or its deadline (then the whole process group is killed and `timed_out` is set).

        Output is redacted before anybody sees it and bounded (1 MiB each, the end is kept). Does not raise on a
        non-zero exit. `environment` is the complete environment; None: a minimal one (PATH, HOME, LANG).
        Cancellation kills the process group and waits for it.
        """
        ...


class Repo(Protocol):
    """The bare mirror of the service's repository: code comes only from here."""

    async def fetch(self) -> None:
        """Bring every branch and tag up to date. Raises Refused when the repository is missing or unreachable."""
        ...

    async def resolve(self, branch: str) -> Commit:
        """Raises UsageError (with the branches that do exist) when there is no such branch."""
        ...

    async def contains(self, sha: str, ancestor: str) -> bool: ...

    async def commits_between(self, base: str, tip: str) -> list[str]:
        """Commits in tip and not in base, oldest first; without a base, all that tip has."""
        ...

    async def authored(self, base: str, tip: str) -> list[Authored]:
        """The commits in tip and not in base, newest first, at most a thousand. Without a base: tip alone."""
        ...

    async def authors(self, tip: str) -> list[Authored]:
        """Of all that tip has: the newest commit of each combination of author, committer, co-authors and key."""
        ...

    async def patch(self, sha: str) -> str:
        """The diff one commit brings (`git show`, no rename detection, no colour, binary files named with hashes)."""
        ...

    async def read(self, ref: str, path: str) -> bytes | None:
        """A file at a ref, or None."""
        ...

    async def export(self, sha: str, into: Path) -> None:
        """The tree of a commit as plain files."""
        ...


class Runtime(Protocol):
    """How a release runs: `process` or `compose`."""

    async def overlaps(self, commit: Commit, spec: ServiceSpec) -> list[str]:
        """What this release would share with another environment or project of the host, one sentence each.

        Asked by a gate, before anything is touched. Raises StepFailed when it cannot be told.
        """
        ...

    async def build(
        self, commit: Commit, spec: ServiceSpec, progress: Progress, images: Mapping[str, str] | None = None
    ) -> Artifact:
        """Build once per key, reuse after; a warm build makes no network request. Raises StepFailed.

        `images`: REPOSITORY@sha256:… by service, of what another host proved. They are fetched instead of being built,
        or pulled by a tag that may have moved; a runtime without images has no use for them.
        What is reused is read from disk first; what is not as it was built stays where it is, and is built anew.
        """
        ...

    async def changed(self, artifact: Artifact) -> str:
        """What of the artifact is not as it was built, read from disk anew; "" when all is. Never raises for a file."""
        ...

    async def migrate(self, release: Release, progress: Progress) -> str:
        """Run the release's migrations, return the schema's head ("" when the service has none)."""
        ...

    def choose_slot(self, release: Release, taken: Sequence[Slot]) -> Slot:
        """A free slot (port not taken by `taken` nor listened on by anybody). Raises Refused when none is free."""
        ...

    async def start(self, release: Release, slot: Slot) -> None:
        """Start the slot, or adopt it when it runs already. Returns before it is ready."""
        ...

    async def startable(self, release: Release, same_values: bool) -> str:
        """Why this release could not be started with today's env file; "" when it could. Starts nothing.

        `same_values`: it was started with these very values, so they are no reason.
        """
        ...

    async def alive(self, slot: Slot) -> bool:
        """Whether the slot runs now, whole."""
        ...

    async def restarts(self, slot: Slot) -> int:
        """How often anything of the slot ended by itself and was started again. Raises SluiceError."""
        ...

    async def hand_over(self, release: Release, slot: Slot, other: Slot | None) -> None:
        """Take over from `other` what may run only once: end it there, then start it here. Also the way back."""
        ...

    async def notify_drain(self, release: Release, slot: Slot) -> None: ...

    async def stop(self, release: Release, slot: Slot) -> None:
        """SIGTERM, grace, then SIGKILL of its group; stopping what does not run is fine."""
        ...

    async def credentials(self, release: Release, slot: Slot) -> Path | None:
        """Mint smoke credentials in the slot: the path of a 0600 file that the caller removes when done, or None."""
        ...

    async def containers(self, release: Release, slot: Slot) -> Containers | None:
        """What should run for this slot and what does; None where the runtime has no containers."""
        ...

    async def logs(self, release: Release, slot: Slot, lines: int) -> Logs:
        """The newest log lines of every service of the slot and of the shared ones, redacted.

        Also with the values of before, where what runs was started with them; else they are withheld.
        """
        ...

    async def tail(self, release: Release, slot: Slot, lines: int) -> list[str]:
        """The newest log lines of the slot, to be shown: what is withheld of them is a sentence."""
        ...

    async def prune(self, keep: Sequence[Release], progress: Progress) -> None:
        """Remove artifacts and images that no release of `keep` needs, and nothing of any other environment.

        `keep` is complete for the service: every release of every environment that may still be needed.
        """
        ...


class Ingress(Protocol):
    """What users reach."""

    @property
    def route_file(self) -> Path:
        """What says where requests go, for whoever must look at it by hand."""
        ...

    async def ensure(self) -> None:
        """Run, listening on the public address. Raises Refused when the address is taken by somebody else."""
        ...

    async def replacement(self) -> str:
        """What the next `ensure` will replace, and so whose sockets it cuts, in a sentence; "" when nothing."""
        ...

    async def edited(self) -> str:
        """That somebody changed where requests go by hand, in a sentence; "" when nobody did."""
        ...

    async def mend(self) -> None:
        """Finish or undo a replacement that a killed run left half-way. Touches nothing where there was none."""
        ...

    async def point(self, slot: Slot | None) -> None:
        """Switch atomically: new requests go to this slot; open sockets stay where they are. None: no backend."""
        ...

    async def current(self) -> str | None:
        """The private URL requests go to now, or None."""
        ...


class Releases(Protocol):
    """The environment's memory: which releases there were, which slot each runs in, which one serves."""

    def all(self) -> list[Release]: ...

    def get(self, release_id: str) -> Release: ...

    def digest(self, release_id: str) -> str:
        """Of all that is written down of it, but whether it was verified, as it stands there now."""
        ...

    def save(self, release: Release) -> None:
        """Write beside and rename over, fsynced."""
        ...

    def serving(self) -> tuple[Release, Slot] | None: ...

    def set_serving(self, release: Release | None, slot: Slot | None) -> None: ...
