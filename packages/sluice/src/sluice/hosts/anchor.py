"""The anchor on the origin, by git: fast-forward-only pushes of `refs/sluice/ledger/SERVICE/ENV` through the mirror.

Nothing is ever forced: an origin that is ahead of this ledger or holds another one is said and left as it is. What the
mirror has seen there stays in a ref of its own, so that an origin which was forced back is noticed too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sluice.hosts.git import SAFE, SHA, local_environment, network_environment, without_password
from sluice.ledger import Anchoring, Copy, Ledger, Problem, PublicKey, Tampering, Verification, verify_records
from sluice.ledger.anchor import KEY_FILE, RECORD_FILE, common, import_stream, judge_anchor, judge_origin
from sluice.model.errors import Refused, SluiceError, UsageError
from sluice.model.promotion import Denial, Denied
from sluice.runner import LocalRunner, RawOutput

ANCHOR_S = 30  # for all of it: a run waits no longer for an origin that does not answer; the next one catches up
MAX_LEDGER = 512 * 1024 * 1024  # a hundred thousand records of 5 KB; git's answer is held in memory once
PREFIX = "refs/sluice/ledger/"
SEEN, NEXT = "refs/sluice/anchored/", "refs/sluice/next/"  # in the mirror alone


class Unreachable(Exception):
    """The origin, or the copy of it here, cannot be asked; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Audit:
    """One ledger as a clone of the repository holds it."""

    name: str  # SERVICE/ENV
    key: str  # fingerprint
    verdict: Verification
    anchoring: Anchoring | None
    seen: int = 0  # records that the clone had before this look


class Git:
    """git on one repository, and what it has of ledgers."""

    def __init__(self, git_dir: Path, url: str, runner: LocalRunner) -> None:
        """`url`: the origin's, or the name of a remote."""
        self.git_dir, self.url, self._runner = git_dir, url, runner

    async def run(self, *arguments: str, network: bool = False, stdin: bytes = b"") -> RawOutput:
        """Unredacted: records were redacted before they were written, and must come back byte for byte."""
        return await self._runner.run_raw(
            ["git", *SAFE, f"--git-dir={self.git_dir}", *arguments],
            timeout_s=ANCHOR_S,
            environment=network_environment() if network else local_environment(),
            stdin=stdin,
            limit=MAX_LEDGER,
        )

    async def need(self, *arguments: str, network: bool = False, stdin: bytes = b"") -> bytes:
        """As `run`. Raises Unreachable when it fails."""
        done = await self.run(*arguments, network=network, stdin=stdin)
        if done.exit_code or done.cut:
            raise Unreachable(f"git {arguments[0]}: {self.said(done)}")
        return done.stdout

    def said(self, done: RawOutput) -> str:
        """The line of git's output that says what went wrong, without what must not be shown."""
        if done.timed_out:
            return f"it did not end within {ANCHOR_S} s"
        lines = [line.strip() for line in (done.stderr + done.stdout).decode(errors="replace").splitlines()]
        telling = [line for line in lines if line.startswith(("fatal:", "error:", "!", "remote:"))]
        said = next(iter(telling or [line for line in lines if line]), f"exit code {done.exit_code}")
        return self._runner.redactor(without_password(" ".join(said.split()))).rstrip(".")

    async def ref(self, name: str) -> str:
        """The commit a ref of this repository names, or ""."""
        done = await self.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        return done.stdout.decode().strip() if done.exit_code == 0 else ""

    async def heads(self, pattern: str) -> dict[str, str]:
        """What the origin's refs name. Raises Unreachable."""
        told = await self.need("ls-remote", "--refs", "--", self.url, pattern, network=True)
        return dict(reversed(line.split("\t", 1)) for line in told.decode().splitlines() if "\t" in line)  # type: ignore[misc]

    async def bring(self, ref: str, head: str) -> None:
        """Have the origin's commits of this ref here, under no ref. Raises Unreachable."""
        if (await self.run("cat-file", "-e", f"{head}^{{commit}}")).exit_code == 0:
            return
        quiet = ("--quiet", "--no-tags", "--no-auto-gc", "--no-write-fetch-head", "--no-recurse-submodules")
        await self.need("fetch", *quiet, "--", self.url, ref, network=True)

    async def copy(self, head: str) -> Copy:
        """The ledger whose last commit this is. Raises Unreachable when it cannot be read."""
        if not head:
            return Copy()
        if not SHA.fullmatch(head):
            raise Unreachable("what should be a commit is none")
        listed = await self.need("rev-list", "--reverse", "--first-parent", head)
        commits = listed.decode().split()
        wanted = [f"{commits[0]}:{KEY_FILE}", *(f"{commit}:{RECORD_FILE}" for commit in commits)]
        raw = await self.need("cat-file", "--batch", stdin="\n".join([*wanted, ""]).encode())
        blobs = _blobs(raw, len(wanted))
        return Copy(head, [_line(blob) for blob in blobs[1:]], _key(blobs[0]))

    async def remember(self, ref: str, head: str, was: str) -> None:
        """Let a ref of this repository name another commit. Raises Unreachable."""
        await self.need("update-ref", ref, head, was or "0" * len(head))


def _blobs(raw: bytes, count: int) -> list[bytes]:
    """The answers of `git cat-file --batch`; what is missing or no file is empty, which no record is."""
    found, at = [], 0
    for _ in range(count):
        end = raw.index(b"\n", at)
        words = raw[at:end].split()
        at = end + 1
        if len(words) == 3 and words[2].isdigit():
            size = int(words[2])
            found.append(raw[at : at + size] if words[1] == b"blob" else b"")
            at += size + 1
        else:
            found.append(b"")
    return found


def _line(blob: bytes) -> bytes:
    return blob[:-1] if blob.endswith(b"\n") else blob + b"\n"  # without its newline it is another line than any


def _key(blob: bytes) -> PublicKey | None:
    try:
        return PublicKey.parse(blob.decode("ascii"))
    except ValueError:
        return None


def _words(failure: Exception) -> str:
    return str(failure) or f"it did not answer within {ANCHOR_S} s"


class GitAnchor:
    """Brings one environment's ledger to the origin, and holds the two against each other."""

    def __init__(self, git_dir: Path, url: str, runner: LocalRunner, ledger: Path, name: str) -> None:
        """`name`: SERVICE/ENV. Touches nothing."""
        self._git = Git(git_dir, url, runner)
        self._ledger = Ledger(ledger)
        self._ref, self._seen, self._next = PREFIX + name, SEEN + name, NEXT + name

    async def push(self) -> str:
        """Bring every record the origin does not have there. What hindered it, in a sentence, or "". Never raises.

        The environment's lock must be held: nobody else appends meanwhile.
        """
        lines = self._ledger.lines()
        try:
            async with asyncio.timeout(ANCHOR_S):
                key = self._ledger.key()
                problem = await self._push(lines, key) if lines and key else None
        except TimeoutError:
            return f"The ledger's tail is not anchored: {self._where} did not answer within {ANCHOR_S} s."
        except (Unreachable, SluiceError, OSError) as failure:
            return f"The ledger's tail is not anchored at {self._where}: {failure}."
        if problem is not None:
            return f"The ledger was not anchored at {self._where}, which was left as it is: {problem.sentence}."
        return ""

    @property
    def _where(self) -> str:
        return without_password(self._git.url)

    async def _push(self, lines: list[bytes], key: PublicKey) -> Problem | None:
        git = self._git
        origin, seen, found = await self._look(lines, key)
        if found.problems:
            return found.problems[0]
        head = origin.head
        if missing := lines[len(origin.lines) :]:
            stream = import_stream(missing, head, self._next, key)
            made = await git.need("fast-import", "--quiet", "--done", "--force", stdin=stream)
            head = made.decode().split()[-1]
            # Without a plus sign: what is no fast-forward is refused there.
            await git.need("push", "--quiet", "--no-verify", "--", git.url, f"{head}:{self._ref}", network=True)
        if head != seen:
            await git.remember(self._seen, head, seen)
        return None

    async def _look(self, lines: list[bytes], key: PublicKey | None) -> tuple[Copy, str, Anchoring]:
        """The origin's copy, the commit last seen there, and how the ledger stands to both. Raises Unreachable."""
        git = self._git
        await git.need("init", "--quiet", "--bare", "--template=", str(git.git_dir))
        seen = await git.ref(self._seen)
        remembered = await git.copy(seen)
        head = (await git.heads(self._ref)).get(self._ref, "")
        if head == seen:
            origin = remembered
        else:
            if head:
                await git.bring(self._ref, head)
            origin = await git.copy(head)
        return origin, seen, judge_anchor(lines, origin, remembered, key)

    async def compare(self, *, offline: bool = False) -> Anchoring:
        """Hold the ledger against the origin, or (`offline`) against what was seen there last. Moves nothing.

        An origin that cannot be asked is a note, not a problem. Raises StateCorrupted when the key is damaged.
        """
        lines, key = self._ledger.lines(), self._ledger.key()
        note = "the origin was not asked (--offline)"
        if not offline:
            try:
                async with asyncio.timeout(ANCHOR_S):
                    return (await self._look(lines, key))[2]
            except TimeoutError:
                note = f"{self._where} did not answer within {ANCHOR_S} s"
            except Unreachable as failure:
                note = f"{self._where}: {failure}"
        return await self._by_memory(lines, key, note)

    async def _by_memory(self, lines: list[bytes], key: PublicKey | None, note: str) -> Anchoring:
        try:
            origin = await self._git.copy(await self._git.ref(self._seen))
        except Unreachable as failure:
            return Anchoring(0, note=f"{note}; the mirror has no memory of it: {failure}")
        found = judge_anchor(lines, origin, origin, key)
        return Anchoring(found.anchored, found.problems, note)

    async def origin(self, key: PublicKey) -> Copy:
        """The origin's copy, judged by itself: what promotion reads of an environment on another server.

        `key` is the one an operator vouches for; the key that lies beside the records is anybody's who may push. What
        holds is remembered in the mirror, so that an origin which is cut or forced back later is noticed here.
        Raises Denied: ProofUnreachable when it cannot be asked; RecordDoubtful when it holds fewer or other records
        than were seen there, or one that the key has not signed.
        """
        try:
            async with asyncio.timeout(ANCHOR_S):
                return await self._vouched(key)
        except (TimeoutError, Unreachable) as failure:
            raise Denied(
                Denial.PROOF_UNREACHABLE,
                f"The ledger at {self._where} ({self._ref}) cannot be read: {_words(failure)}.",
                next="check the way to the origin (git ls-remote), then repeat the command",
            ) from failure

    async def _vouched(self, key: PublicKey) -> Copy:
        git = self._git
        await git.need("init", "--quiet", "--bare", "--template=", str(git.git_dir))
        seen = await git.ref(self._seen)
        remembered = replace(await git.copy(seen), key=None)
        head = (await git.heads(self._ref)).get(self._ref, "")
        if head and head != seen:
            await git.bring(self._ref, head)
        copy = replace(remembered if head == seen else await git.copy(head), key=key)
        problem = judge_origin(copy, remembered, None) or next(iter(verify_records(copy.lines, key).problems), None)
        if problem is not None:
            foreign = "compare test_ledger_key in host.toml with envs/test/ledger.key.pub on that host"
            service, _, environment = self._ref.removeprefix(PREFIX).partition("/")
            looked = (
                f"in a clone of the repository: sluice log verify --clone . --service {service} --env {environment}"
            )
            raise Denied(
                Denial.RECORD_DOUBTFUL,
                f"The ledger at {self._where} ({self._ref}) does not hold: {problem.sentence}.",
                next=foreign if problem.code is Tampering.FOREIGN_KEY else looked,
            )
        if head != seen:
            await self._note(head, seen)
        return copy

    async def _note(self, head: str, seen: str) -> None:
        """Remember what holds, unless another command remembered what it saw meanwhile."""
        try:
            await self._git.remember(self._seen, head, seen)
        except Unreachable:
            if await self._git.ref(self._seen) == seen:
                raise


async def audit_clone(folder: Path, runner: LocalRunner, wanted: Sequence[str] = (), *, offline: bool) -> list[Audit]:
    """Every ledger in a clone of the service's repository, by itself and against the clone's remote `origin`.

    The clone remembers what it saw: `refs/sluice/ledger/…` go forward in it, never back. `wanted`: SERVICE/ENV names;
    none: all. Raises UsageError when the folder is no clone, and Refused when it cannot be read.
    """
    found = await runner.run(["git", "-C", str(folder), "rev-parse", "--absolute-git-dir"], timeout_s=ANCHOR_S)
    if found.exit_code:
        raise UsageError(f"{folder} is no clone of a repository.", next="name the folder of a clone")
    git = Git(Path(found.stdout.strip()), "origin", runner)
    try:
        async with asyncio.timeout(ANCHOR_S):
            return await _audit(git, set(wanted), offline=offline)
    except (TimeoutError, Unreachable) as failure:
        raise Refused(
            f"The ledgers in {folder} cannot be read: {_words(failure)}.",
            next="check the way to the clone's remote, or judge what the clone has: --offline",
        ) from failure


async def _audit(git: Git, wanted: set[str], *, offline: bool) -> list[Audit]:
    listed = await git.need("for-each-ref", "--format=%(refname) %(objectname)", PREFIX)
    own = dict(line.split() for line in listed.decode().splitlines())
    theirs = {} if offline else await git.heads(f"{PREFIX}*")
    return [
        await _one(git, ref, own.get(ref, ""), None if offline else theirs.get(ref, ""))
        for ref in sorted(own.keys() | theirs.keys())
        if not wanted or ref.removeprefix(PREFIX) in wanted
    ]


async def _one(git: Git, ref: str, own: str, head: str | None) -> Audit:
    name, mine = ref.removeprefix(PREFIX), await git.copy(own)
    if head is None:
        return Audit(name, _shown(mine.key), verify_records(mine.lines, mine.key), None)
    if head:
        await git.bring(ref, head)
    origin = await git.copy(head)
    problem = judge_origin(origin, mine, None)
    anchoring = Anchoring(common(mine.lines, origin.lines), (problem,) if problem else ())
    # What the clone saw first is what it trusts; the origin's own word counts where it saw nothing yet.
    judged, key = mine if problem else origin, mine.key or origin.key
    verdict = verify_records(judged.lines, key)
    if problem is None and verdict.ok and head != own:
        await git.remember(ref, head, own)
    return Audit(name, _shown(key), verdict, anchoring, len(mine.lines))


def _shown(key: PublicKey | None) -> str:
    return key.fingerprint if key else "no key"
