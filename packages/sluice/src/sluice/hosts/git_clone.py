"""A person's own clone: the tree of one commit as plain files, and signed records in git notes."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sluice.hosts.git import (
    FETCH_S,
    LOCAL_S,
    SAFE,
    SHA,
    GitMirror,
    HasRepo,
    local_environment,
    network_environment,
    without_password,
)
from sluice.model.errors import Refused, StepFailed, UsageError
from sluice.model.release import Completed
from sluice.runner import LocalRunner

NOTES = "refs/notes/sluice-checks"
# Where the origin's notes wait to be merged: outside what a mirror fetches.
THEIRS = "refs/notes/origin-sluice-checks"
PUSHES = 3  # somebody else recorded at the same moment; three times in a row is something else
KEPT = 20  # records of one commit; nobody checks it more often, and each may hold a long list of commands


@dataclass(frozen=True)
class _At:
    repo: Path


class Clone(GitMirror):
    """A repository that somebody works in. Neither its work tree nor its index is ever touched."""

    @classmethod
    async def open(cls, folder: Path, runner: LocalRunner) -> Clone:
        """The clone that `folder` lies in. Raises UsageError when it lies in none, Refused when git will not read it.

        Asked with the person's own settings: another user's repository is read when they told git that it may be.
        """
        found = await runner.run(
            ["git", "-C", str(folder), "rev-parse", "--path-format=absolute", "--git-common-dir"], timeout_s=LOCAL_S
        )
        if found.exit_code and "not a git repository" in found.stderr:
            raise UsageError(f"{folder} is not in a git repository.", next="name one with --repo")
        if found.exit_code:
            advice = [line.strip() for line in found.stderr.splitlines() if line.strip().startswith("git config ")]
            what = f"git does not read {folder}: {_said(found)}."
            raise Refused(what, next=advice[0] if advice else f"git -C {folder} status")
        return cls(_At(Path(found.stdout.strip())), f"the clone in {folder}", runner, folder)

    def __init__(self, paths: HasRepo, url: str, runner: LocalRunner, folder: Path) -> None:
        """See GitMirror. `folder` is the work tree: of several that share a repository each has a HEAD of its own."""
        super().__init__(paths, url, runner)
        self._folder = folder

    async def dirty(self, folder: Path) -> bool:
        """Whether the work tree that a folder lies in has something that no commit has. A bare one has nothing.

        What git cannot tell counts as something.
        """
        argv = ["git", "--no-optional-locks", *SAFE, "-C", str(folder), "status", "--porcelain"]
        with _of_anybody() as environment:
            done = await self._runner.run(argv, timeout_s=LOCAL_S, environment=environment)
        if done.exit_code:
            return "must be run in a work tree" not in done.stderr
        return bool(done.stdout.strip())

    async def commit_of(self, ref: str) -> tuple[str, str]:
        """Commit and tree, as whoever stands in the folder means the ref.

        Raises UsageError when there is none, and Refused, with git's own words, when git cannot tell.
        """
        said = ""
        for one in (f"refs/heads/{ref}", ref):
            words = ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{one}^{{commit}}"]
            argv = ["git", *SAFE, "-C", str(self._folder), *words]
            with _of_anybody() as environment:
                done = await self._runner.run(argv, timeout_s=LOCAL_S, environment=environment)
            sha = done.stdout.strip()
            if done.exit_code == 0 and SHA.fullmatch(sha):
                return sha, (await self._text(["rev-parse", "--verify", f"{sha}^{{tree}}"])).strip()
            if done.exit_code != 1:  # 1: there is none
                said = _said(done)
        if said:
            what = f"what {ref!r} is in {self._folder} cannot be told: {said}."
            raise Refused(what, next=f"git -C {self._folder} rev-parse --verify HEAD")
        raise UsageError(f"there is no commit or ref {ref!r} in {self._folder}.", next="git log --oneline")

    async def has(self, ref: str) -> bool:
        """Whether there is such a commit."""
        return await self._sha(ref) is not None

    async def tree_of(self, folder: Path, tracked_by: str = "") -> str:
        """The hash of what lies in a folder, as git would commit it, every ignored file too. Raises StepFailed.

        With `tracked_by`, a commit, it is that of this commit's own files as they are there now.
        """
        commands = (
            [["read-tree", tracked_by], ["add", "--update", "."]] if tracked_by else [["add", "--all", "--force", "."]]
        )
        with tempfile.TemporaryDirectory(prefix="sluice-index-") as beside:
            environment = local_environment() | {"GIT_INDEX_FILE": str(Path(beside, "index"))}
            base = ["git", "-c", "core.safecrlf=false", "-c", "core.fsmonitor=false", f"--git-dir={self._git_dir}"]
            for words in (*commands, ["write-tree"]):
                argv = [*base, f"--work-tree={folder}", *words]
                done = await self._runner.run(argv, timeout_s=FETCH_S, cwd=folder, environment=environment)
                if done.exit_code:
                    raise StepFailed(f"the tree of {folder} cannot be told: {done.stderr.strip()[-200:]}.")
        return done.stdout.strip()

    async def paths_between(self, tree: str, other: str) -> list[str]:
        """Which files differ between two trees."""
        told = await self._text(["diff-tree", "-r", "-z", "--name-only", "--no-renames", tree, other])
        return told.split("\0")[:-1]

    async def make_clone(self, folder: Path, sha: str) -> None:
        """Make a repository at this commit of an exported tree, with the history of this one. Raises StepFailed.

        For commands that ask git: which files there are, since when, by which tag, against origin/main. It borrows our
        objects, and has no remote and no hooks: what is done in it stays in it. How files are read (filters, line
        ends, attributes) it has from us, or git would see a change in each of them.
        """
        mine = folder / ".git"
        clone = ["clone", "--quiet", "--shared", "--mirror", "--template=", "--", str(self._git_dir), str(mine)]
        made = ["git", *SAFE, f"--git-dir={mine}", f"--work-tree={folder}"]
        settings = await self._how_files_are_read()
        await self._make(["git", *SAFE, *clone], folder)
        await asyncio.to_thread(_copy_attributes, self._git_dir, mine)
        for argv in (
            [*made, "config", "core.bare", "false"],
            [*made, "config", "--remove-section", "remote.origin"],  # a push in there must not reach this one
            *([*made, "config", "--add", key, value] for key, value in settings),
            [*made, "update-ref", "--no-deref", "HEAD", sha],
            [*made, "read-tree", sha],
            [*made, "update-index", "-q", "--refresh"],
        ):
            await self._make(argv, folder)

    async def _make(self, argv: list[str], folder: Path) -> None:
        with _of_anybody() as environment:
            done = await self._runner.run(argv, timeout_s=FETCH_S, cwd=folder, environment=environment)
        if done.exit_code:
            raise StepFailed(f"{folder} cannot be made a clone of {self._git_dir}: {_said(done)}.")

    async def _how_files_are_read(self) -> list[tuple[str, str]]:
        """The clone's own settings of filters and line ends. Raises StepFailed."""
        wanted = r"^(filter\..*|core\.(autocrlf|eol))$"
        argv = self._argv(["config", "--local", "--null", "--get-regexp", wanted])
        done = await self._runner.run(argv, timeout_s=LOCAL_S, environment=local_environment())
        if done.exit_code not in (0, 1):  # 1: there is none
            raise StepFailed(f"the settings of {self._git_dir} cannot be read: {_said(done)}.")
        pairs = (one.partition("\n") for one in done.stdout.split("\0") if one)
        # A key alone is one that is on.
        return [(key, value if newline else "true") for key, newline, value in pairs]

    async def add_note(self, sha: str, line: str, who: str) -> None:
        """Add one line to what is known of a commit; the newest KEPT stay. `who` is the notes commit's author."""
        old = await self.note(NOTES, sha)
        lines = [*(old or b"").decode(errors="replace").splitlines(), line]
        text = "\n".join([one for one in lines if one.strip()][-KEPT:]) + "\n"
        done = await self._runner.run(
            self._argv(["notes", f"--ref={NOTES}", "add", "--force", "--file=-", sha]),
            timeout_s=LOCAL_S,
            environment=local_environment() | _identity(who),
            stdin=text.encode(),
        )
        if done.exit_code:
            raise self._broken("notes add", done)

    async def push_notes(self, remote: str, who: str) -> None:
        """Bring the notes to a remote, after merging what others recorded there meanwhile. Raises Refused."""
        if remote.startswith("-"):
            raise UsageError(f"{remote!r} is not a remote.", next="git remote")
        for left in reversed(range(PUSHES)):
            await self._merge_theirs(remote, who)
            # The checks ran already; the clone's own pre-push hook would only run them again.
            argv = self._argv(["push", "--quiet", "--no-verify", remote, f"{NOTES}:{NOTES}"])
            done = await self._runner.run(argv, timeout_s=FETCH_S, environment=network_environment())
            if done.exit_code == 0:
                return
            if not left:
                raise Refused(
                    f"the record cannot be pushed to {without_password(remote)}: {_why(done)}.",
                    world="It is kept in this clone.",
                    next=f"git push {without_password(remote)} {NOTES}",
                )

    async def _merge_theirs(self, remote: str, who: str) -> None:
        argv = self._argv(["fetch", "--quiet", "--no-tags", remote, f"+{NOTES}*:{THEIRS}*"])
        done = await self._runner.run(argv, timeout_s=FETCH_S, environment=network_environment())
        if done.exit_code:
            place = without_password(remote)
            raise Refused(
                f"the records of {place} cannot be fetched: {_why(done)}.",
                world="The new one is kept in this clone.",
                next=f"check `git ls-remote {place}`, then: git push {place} {NOTES}",
            )
        if not await self.has(THEIRS):
            return
        # One record a line, each signed by itself: any union of them is as good as its parts.
        merge = self._argv(["notes", f"--ref={NOTES}", "merge", "--quiet", "--strategy=cat_sort_uniq", THEIRS])
        done = await self._runner.run(merge, timeout_s=LOCAL_S, environment=local_environment() | _identity(who))
        if done.exit_code:
            raise self._broken("notes merge", done)


@contextlib.contextmanager
def _of_anybody() -> Iterator[dict[str, str]]:
    """As local_environment(), for a clone that belongs to another user, as in a CI's container. See `Clone.open`."""
    # By a file: what is given with -c does not reach the other end of a `git clone`.
    with tempfile.NamedTemporaryFile("w", prefix="sluice-gitconfig-") as settings:
        settings.write("[safe]\n\tdirectory = *\n")
        settings.flush()
        yield local_environment() | {"GIT_CONFIG_GLOBAL": settings.name}


def _copy_attributes(of: Path, to: Path) -> None:
    """Raises StepFailed when they cannot be read."""
    try:
        told = (of / "info" / "attributes").read_bytes()
    except FileNotFoundError:
        return
    except OSError as failure:
        raise StepFailed(f"{of}/info/attributes cannot be read: {failure.strerror}.") from failure
    (to / "info").mkdir(exist_ok=True)
    (to / "info" / "attributes").write_bytes(told)


def _said(done: Completed) -> str:
    """What git complains of, in its own words."""
    fatal = [line for line in done.stderr.splitlines() if line.startswith(("fatal:", "error:"))]
    return without_password(fatal[0]).rstrip(".") if fatal else _why(done)


def _why(done: Completed) -> str:
    lines = done.stderr.strip().splitlines() or ["it did not end within its deadline"]
    return without_password(lines[-1]).rstrip(".")


def _identity(who: str) -> dict[str, str]:
    # What counts is the signature in the note; the commit that carries it needs some author.
    names = {f"GIT_{role}_NAME": who for role in ("AUTHOR", "COMMITTER")}
    return names | {f"GIT_{role}_EMAIL": "sluice-checks@localhost" for role in ("AUTHOR", "COMMITTER")}
