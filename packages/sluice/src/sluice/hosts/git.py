"""The bare mirror of a service's repository: code comes only from here, and nothing of it is executed by git."""

from __future__ import annotations

import asyncio
import difflib
import os
import posixpath
import re
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from sluice.hosts.git_authors import LOG, NOBODY, commits_of
from sluice.hosts.git_told import MESSAGES, content_of, messages_of
from sluice.model.errors import OriginUnreachable, Refused, StepFailed, UsageError
from sluice.model.promotion import Authored
from sluice.model.release import Commit, Completed, FileChange
from sluice.model.secret import REDACTED
from sluice.runner import LocalRunner, minimal_environment

LOCAL_S = 60  # a command on the mirror itself: milliseconds, unless the disk is in trouble
FETCH_S = 300  # the first fetch of a large repository over a slow line
NEAR_BRANCHES = 8  # enough to find a misspelt name, few enough to read
MAX_PATCH = 64 * 1024 * 1024  # a scan holds one patch in memory; a larger one is not source code
MAX_BLOB = 32 * 1024 * 1024  # a binary file is read whole, and for a moment held twice; forges warn at 50 MB
AROUND = 6  # lines around a change in a patch: a name stands some lines above its value
MAX_CHANGES = 1000  # more commits between two releases are not read by anybody who confirms them
MAX_AUTHORS = 1000  # people and their keys; each is a part of the plan that is signed
AUTHORS_S = 300  # of a whole history, once: a signed commit costs some ten milliseconds
# Signed records of checks lie beside the commits they are about; a pattern, because there may be none.
NOTES = "+refs/notes/sluice-*:refs/notes/sluice-*"
SHA = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
MAX_NOTE = 1024 * 1024  # some hundred signed records; a longer one is something else
FETCH = ("fetch", "--quiet", "--prune", "--no-auto-gc", "--no-recurse-submodules")
# Hooks, external diff and textconv drivers, file system monitors: whatever could run a program on our account is off.
SAFE = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "protocol.ext.allow=never")


# As far as a word's last @: what is searched for a user then always has one, and no text makes the search slow.
_NAMED = re.compile(r"(?<!\S)\S+@")
# Up to the last @ where a password begins, as it may hold what should have been encoded: a / or another @.
_USER = re.compile(r"(?<=://)(?:[^/\s@:]*:\S*@|[^/\s?#]*@)")
_TOKEN = re.compile(
    r"([?&;][\w.-]{0,99}(?:pass|pwd|secret|token|key|sig|auth|credential)[\w.-]{0,99}=)[^\s&;'\"]+", re.IGNORECASE
)


class HasRepo(Protocol):
    """Where the repository lies (StatePaths)."""

    @property
    def repo(self) -> Path: ...


class PatchTooLarge(Refused):
    """What one commit changes is more than is read at once; file by file it may go."""


class GitMirror:
    """ports.Repo over the git command line. Refs named by a user reach git only once resolved to a commit."""

    def __init__(self, paths: HasRepo, url: str, runner: LocalRunner) -> None:
        """Touches nothing; `fetch` makes the mirror."""
        self._git_dir = paths.repo
        # What a commit says of itself, and the tags of the last fetch of it: several gates ask for the same branch.
        self._known: dict[str, tuple[str, str, str, str]] = {}
        self._url = url
        self._runner = runner

    async def fetch(self) -> None:
        """See ports.Repo. An interrupted fetch leaves a mirror that the next one repairs."""
        self._known.clear()
        # Each time: on a mirror that is there it changes nothing, on one that a kill left half made it adds the rest.
        await self._ok(["git", "init", "--quiet", "--bare", "--template=", str(self._git_dir)], "be created")
        done = await self._run(
            [*FETCH, "--", self._url, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", NOTES],
            FETCH_S,
            environment=network_environment(),
        )
        if done.exit_code:
            raise OriginUnreachable(
                without_password(f"the repository {self._url} cannot be fetched: {_last_line(done)}."),
                world="Nothing was changed; what serves goes on serving.",
                next="check `repo` in host.toml, and that this user can run `git ls-remote` on it",
            )
        if "shallow roots are not allowed" in done.stderr:  # git takes none of its branches, and calls that success
            what = f"the repository {without_password(self._url)} is a shallow clone: its history is not whole."
            raise Refused(what, next="git fetch --unshallow in it, or name the repository it was cloned from as `repo`")

    async def resolve(self, branch: str) -> Commit:
        """See ports.Repo."""
        sha = await self._sha(f"refs/heads/{branch}") if _sane(branch) else None
        if sha is None:
            raise UsageError(
                f"there is no branch {branch!r} in {without_password(self._url)}.",
                next=f"push it, or use one of: {', '.join(await self._near(branch)) or '(the repository is empty)'}",
            )
        if sha not in self._known:
            # --always gives the short sha where there is no tag, so there is always a version.
            told, describe = await asyncio.gather(
                self._text(["log", "-1", "--no-show-signature", "--format=%T%x00%an%x00%cI", sha]),
                self._text(["describe", "--tags", "--always", sha]),
            )
            tree, author, when = (field.strip() for field in told.split("\0"))
            self._known[sha] = (tree, describe.strip(), author, when)
        tree, describe, author, when = self._known[sha]
        return Commit(sha, tree, branch, describe, author, when)

    async def contains(self, sha: str, ancestor: str) -> bool:
        """Whether `ancestor` (a ref or a commit) is in the history of `sha`."""
        both = [await self._required(ancestor), await self._required(sha)]
        done = await self._run(["merge-base", "--is-ancestor", *both], LOCAL_S)
        if done.exit_code not in (0, 1):
            raise self._broken("merge-base", done)
        return done.exit_code == 0

    async def commits_between(self, base: str, tip: str) -> list[str]:
        """See ports.Repo."""
        new = await self._required(tip)
        less = [f"^{await self._required(base)}"] if base else []
        command = self._argv(["rev-list", "--reverse", "--topo-order", new, *less])
        # A long history is a long list: what is kept of any other answer would be its end.
        raw = await self._runner.run_raw(command, timeout_s=LOCAL_S, environment=local_environment(), limit=MAX_PATCH)
        if raw.exit_code or raw.cut:
            raise Refused(f"the commits up to {new[:12]} cannot be listed.", next=f"git rev-list --count {new[:12]}")
        return raw.stdout.decode().split()

    async def authored(self, base: str, tip: str) -> list[Authored]:
        """See ports.Repo. A signing key is told by its fingerprint; whether it is trusted is the policy's question."""
        new = await self._required(tip)
        span = [f"--max-count={MAX_CHANGES + 1}", new, f"^{await self._required(base)}"] if base else ["-1", new]
        found = await self._log(span, LOCAL_S)
        if found is None or len(found) > MAX_CHANGES:
            raise Refused(
                f"the commits between {base[:12] or 'the beginning'} and {new[:12]} cannot be listed whole.",
                next=f"more than {MAX_CHANGES} at once cannot be confirmed: promote an earlier commit first",
            )
        return found

    async def authors(self, tip: str) -> list[Authored]:
        """See ports.Repo. Raises Refused when there are too many to list, or the history is too long to be read."""
        found = await self._log([await self._required(tip)], AUTHORS_S)
        newest: dict[tuple[str, ...], Authored] = {}
        for change in found or ():
            newest.setdefault((change.key, "", *change.people), change)
        if found is None or len(newest) > MAX_AUTHORS:
            raise Refused(
                f"who wrote what {tip[:12]} has cannot be told: more than {MAX_AUTHORS} people and keys, or no answer "
                f"within {AUTHORS_S:g} s.",
                next="promote the first time with `approver_not_author = false` in [promotion], and turn it on then",
            )
        return list(newest.values())

    async def _log(self, span: list[str], timeout_s: float) -> list[Authored] | None:
        """None: it cannot be listed whole."""
        command = self._argv([*LOG, *span, "--"])
        command[1:1] = NOBODY
        raw = await self._runner.run_raw(command, timeout_s=timeout_s, environment=local_environment(), limit=MAX_PATCH)
        if raw.exit_code or raw.cut or raw.timed_out:
            return None
        try:
            return list(commits_of(raw.stdout))
        except ValueError:
            return None

    async def patch(self, sha: str) -> str:
        """See ports.Repo. Of a merge only what no parent had: the rest came with the parents' commits."""
        options = ["--no-color", "--no-renames", "--no-ext-diff", "--no-textconv", "--full-index", "--cc"]
        options += [f"--unified={AROUND}", "--inter-hunk-context=0"]
        plain = ["-c", "core.quotePath=false", "-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false"]
        command = self._argv([*plain, "show", *options, "--format=", await self._required(sha)])
        # Raw: a scanner for secrets must see what a redactor would hide, and see all of it.
        raw = await self._runner.run_raw(command, timeout_s=LOCAL_S, environment=local_environment(), limit=MAX_PATCH)
        if raw.exit_code or raw.cut:
            kind = PatchTooLarge if raw.cut else Refused
            reason = f"it is larger than {MAX_PATCH} bytes" if raw.cut else f"git show ended with {raw.exit_code}"
            raise kind(f"the diff of {sha[:12]} cannot be read whole: {reason}.", next="split the commit")
        return raw.stdout.decode(errors="replace")

    async def messages(self, shas: Sequence[str]) -> list[tuple[str, str]]:
        """See gates.context.GateRepo."""
        if not all(SHA.fullmatch(sha) for sha in shas):
            raise UsageError("messages are asked for by whole names of commits.", next="git rev-parse HEAD")
        command = self._argv([*MESSAGES, *shas, "--"])
        raw = await self._runner.run_raw(command, timeout_s=LOCAL_S, environment=local_environment(), limit=MAX_PATCH)
        if raw.exit_code or raw.cut:
            raise Refused(f"the messages of {len(shas)} commits cannot be read whole.", next=f"git show {shas[0][:12]}")
        return messages_of(raw.stdout)

    async def contents(self, sha: str) -> list[tuple[str, tuple[str, ...], str]]:
        """See gates.context.GateRepo."""
        options = ["-c", "-r", "--root", "--raw", "-z", "--no-abbrev", "--no-commit-id", "--no-renames"]
        command = self._argv(["diff-tree", *options, await self._required(sha)])
        raw = await self._runner.run_raw(command, timeout_s=LOCAL_S, environment=local_environment(), limit=MAX_PATCH)
        if raw.exit_code or raw.cut:
            raise Refused(f"the files of {sha[:12]} cannot be listed.", next=f"git diff-tree -r {sha[:12]}")
        fields = raw.stdout.decode(errors="replace").split("\0")[:-1]
        return [one for at in range(0, len(fields), 2) if (one := content_of(fields[at], fields[at + 1])) is not None]

    async def blob(self, name: str) -> bytes | None:
        """See gates.context.GateRepo."""
        if not SHA.fullmatch(name):
            raise UsageError(f"{name!r} does not name a file's content.", next="git ls-tree -r HEAD")
        size = (await self._text(["cat-file", "-s", name])).strip()
        if int(size) > MAX_BLOB:
            return None
        command = self._argv(["cat-file", "blob", name])
        raw = await self._runner.run_raw(command, timeout_s=LOCAL_S, environment=local_environment(), limit=MAX_BLOB)
        if raw.exit_code or raw.cut:
            raise Refused(f"the content {name[:12]} of a file cannot be read.", next=f"git cat-file -s {name[:12]}")
        return raw.stdout

    async def changed(self, base: str, tip: str) -> list[FileChange]:
        """See gates.context.GateRepo."""
        old, new = await self._required(base), await self._required(tip)
        fork = await self._run(["merge-base", old, new], LOCAL_S)
        since = fork.stdout.strip() if fork.exit_code == 0 else old  # without common history: against what is there
        options = ["--name-status", "-z", "--no-renames", "--no-ext-diff"]
        command = self._argv(["diff", *options, since, new, "--"])
        raw = await self._runner.run_raw(command, timeout_s=LOCAL_S, environment=local_environment(), limit=MAX_PATCH)
        if raw.exit_code or raw.cut:
            raise Refused(
                f"the files between {base} and {tip[:12]} cannot be listed.",
                next=f"git diff --stat {base}...{tip[:12]}",
            )
        fields = raw.stdout.decode(errors="replace").split("\0")[:-1]
        return [FileChange(kind[:1], path) for kind, path in zip(fields[::2], fields[1::2], strict=True)]

    async def trailers(self, base: str, tip: str, key: str) -> list[str]:
        """See gates.context.GateRepo."""
        old, new = await self._required(base), await self._required(tip)
        form = f"--format=%(trailers:key={key},valueonly,unfold,separator=%x00)%x00"
        text = await self._text(["log", "--no-show-signature", form, new, f"^{old}"])
        return [value.strip() for value in text.split("\0") if value.strip()]

    async def note(self, notes: str, sha: str) -> bytes | None:
        """See gates.context.GateRepo."""
        done = await self._run(["notes", f"--ref={notes}", "list", await self._required(sha)], LOCAL_S)
        blob = done.stdout.strip()
        if done.exit_code or not SHA.fullmatch(blob):
            return None
        command = self._argv(["cat-file", "blob", blob])
        raw = await self._runner.run_raw(command, timeout_s=LOCAL_S, environment=local_environment(), limit=MAX_NOTE)
        if raw.exit_code or raw.cut:
            raise Refused(
                f"the note {notes} of {sha[:12]} cannot be read whole.", next=f"git notes --ref={notes} remove"
            )
        return raw.stdout

    async def read(self, ref: str, path: str) -> bytes | None:
        """See ports.Repo."""
        sha = await self._sha(ref)
        if sha is None:
            return None
        raw = await self._runner.run_raw(
            self._argv(["cat-file", "blob", f"{sha}:{path}"]), timeout_s=LOCAL_S, environment=local_environment()
        )
        return raw.stdout if raw.exit_code == 0 else None

    async def listed(self, ref: str, folder: str) -> list[str]:
        """See gates.context.GateRepo."""
        command = ["ls-tree", "-z", "--name-only", await self._required(ref), f"{folder.rstrip('/')}/"]
        done = await self._run(command, LOCAL_S)
        return done.stdout.split("\0")[:-1] if done.exit_code == 0 else []

    async def subtree(self, sha: str, path: str) -> str | None:
        """The tree hash of a folder in a commit: equal hashes mean equal contents. None: no such folder.

        "." is the whole tree: a project whose package.json stands at the top.
        """
        commit, inside = await self._required(sha), posixpath.normpath(path.strip("/") or ".")
        if inside == ".":
            return (await self._text(["rev-parse", "--verify", f"{commit}^{{tree}}"])).strip()
        done = await self._run(["ls-tree", "-d", "--format=%(objectname)", commit, inside], LOCAL_S)
        return done.stdout.strip() or None if done.exit_code == 0 else None

    async def export(self, sha: str, into: Path) -> None:
        """The tree of a commit as plain files. Links that point outside and device files are refused, not followed.

        `into` must be new or empty; a failure or a cancellation leaves a part of it, which the caller removes.
        """
        into.mkdir(parents=True, exist_ok=True)
        archive = into.with_name(f"{into.name}.tar")
        try:
            command = ["archive", "--format=tar", f"--output={archive}", await self._required(sha)]
            done = await self._run(command, FETCH_S)
            if done.exit_code:
                raise self._broken("archive", done)
            await asyncio.to_thread(_unpack, archive, into)
        except (tarfile.TarError, OSError) as error:
            raise StepFailed(f"the tree of {sha[:12]} cannot be exported: {error}.") from error
        finally:
            archive.unlink(missing_ok=True)

    async def _sha(self, ref: str) -> str | None:
        if not _sane(ref):
            return None
        # A branch is meant: git itself would let a tag of the same name come first.
        branch = [] if SHA.fullmatch(ref) or ref.startswith("refs/") else [f"refs/heads/{ref}"]
        for one in (*branch, ref):
            command = ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{one}^{{commit}}"]
            done = await self._run(command, LOCAL_S)
            found = done.stdout.strip()
            if done.exit_code == 0 and SHA.fullmatch(found):
                return found
        return None

    async def _required(self, ref: str) -> str:
        sha = await self._sha(ref)
        if sha is None:
            raise UsageError(f"there is no commit or ref {ref!r} in {without_password(self._url)}.", next="git push it")
        return sha

    async def _near(self, branch: str) -> list[str]:
        text = await self._text(["for-each-ref", "--format=%(refname:strip=2)", "--sort=-committerdate", "refs/heads"])
        names = text.split()
        near = difflib.get_close_matches(branch, names, n=NEAR_BRANCHES, cutoff=0.4)
        return (near + [name for name in names if name not in near])[:NEAR_BRANCHES]

    async def _text(self, arguments: list[str]) -> str:
        done = await self._run(arguments, LOCAL_S)
        if done.exit_code:
            raise self._broken(arguments[0], done)
        return done.stdout

    async def _ok(self, argv: list[str], wanted: str) -> None:
        done = await self._runner.run(argv, timeout_s=LOCAL_S, environment=local_environment())
        if done.exit_code:
            raise Refused(
                f"the mirror {self._git_dir} could not {wanted}: {_last_line(done)}.",
                next="install git, and check the state folder's free space and permissions",
            )

    def _argv(self, arguments: list[str]) -> list[str]:
        return ["git", *SAFE, f"--git-dir={self._git_dir}", *arguments]

    async def _run(
        self, arguments: list[str], timeout_s: float, environment: Mapping[str, str] | None = None
    ) -> Completed:
        return await self._runner.run(
            self._argv(arguments), timeout_s=timeout_s, environment=environment or local_environment()
        )

    def _broken(self, command: str, done: Completed) -> Refused:
        return Refused(
            f"git {command} on the mirror {self._git_dir} failed: {_last_line(done)}.",
            next=f"if the mirror is damaged, remove {self._git_dir} and repeat the command: it is fetched anew",
        )


def local_environment() -> dict[str, str]:
    """For a command that reads or writes a repository of ours."""
    # Replace refs and grafts would show another content under a known commit; user and system settings stay out.
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    return minimal_environment() | quiet | {"GIT_NO_REPLACE_OBJECTS": "1", "GIT_OPTIONAL_LOCKS": "0"}


def network_environment() -> dict[str, str]:
    """For a command that speaks to an origin."""
    # The operator's own way to the origin (ssh keys, agent, credential helpers, proxies) is used here and only here.
    passed = {
        k: v for k, v in os.environ.items() if k.startswith(("GIT_SSH", "SSH_", "GIT_SSL_")) or "proxy" in k.lower()
    }
    ssh = os.environ.get("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
    return minimal_environment() | passed | {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": ssh}


def _sane(ref: str) -> bool:
    return (
        bool(ref)
        and not ref.startswith("-")
        and not any(c.isspace() or c in "\0:^~?*[\\" for c in ref)
        and ".." not in ref
    )


def _last_line(done: Completed) -> str:
    if done.timed_out:
        return "it did not end within its deadline"
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
    return (fatal or lines or [f"exit code {done.exit_code}"])[0].rstrip(".")


def without_password(url: str) -> str:
    """An address, or a text with addresses in it, as it may be shown: no user, password or token."""
    return _TOKEN.sub(rf"\1{REDACTED}", _NAMED.sub(lambda named: _USER.sub("", named[0]), url))


def _unpack(archive: Path, into: Path) -> None:
    with tarfile.open(archive) as tar:
        # The `data` filter refuses absolute paths, paths that climb out, links that lead out, devices and setuid bits.
        tar.extractall(into, filter="data")
    # Folders get our umask, files do not; a run_as user reads both (what lies around an artifact is closed anyway).
    for folder, _, _ in os.walk(into):
        Path(folder).chmod(0o755)
