"""What git has of a ledger on the origin: one commit a record, read back byte for byte."""

from __future__ import annotations

from pathlib import Path

from sluice.hosts.git import SAFE, SHA, local_environment, network_environment, without_password
from sluice.ledger import Copy, PublicKey
from sluice.ledger.anchor import KEY_FILE, RECORD_FILE
from sluice.runner import LocalRunner, RawOutput

ANCHOR_S = 30  # for all of it: a run waits no longer for an origin that does not answer; the next one catches up
MAX_LEDGER = 512 * 1024 * 1024  # a hundred thousand records of 5 KB; git's answer is held in memory once
# Of the gates, two smokes and the watch two hundred findings of 600 letters each are 0.5 MiB, measurements apart.
MAX_RECORD = 4 * 1024 * 1024
MAX_SAID = 300  # letters of what git says went wrong; the origin may say anything in between
PREFIX = "refs/sluice/ledger/"
NOTE = "audited"  # the setting of a clone that names the last commit it saw of a ledger
NO_RECORD = b""  # the line of what is none


class Unreachable(Exception):
    """The origin, or the copy of it here, cannot be asked; the sentence says why."""


def words(failure: Exception) -> str:
    """Why the origin cannot be asked, of an Unreachable or a TimeoutError."""
    return str(failure) or f"it did not answer within {ANCHOR_S} s"


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
        if done.cut and not done.exit_code:
            return f"its answer is longer than {MAX_LEDGER >> 20} MiB"
        lines = [line.strip() for line in done.stderr.decode(errors="replace").splitlines()]
        telling = [line for line in lines if line.startswith(("fatal:", "error:", "!", "remote:"))]
        said = next(iter(telling or [line for line in lines if line]), f"exit code {done.exit_code}")
        return self._runner.redactor(without_password(" ".join(said.split())))[:MAX_SAID].rstrip(".")

    async def ref(self, name: str) -> str:
        """The commit a ref of this repository names, or ""."""
        done = await self.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        return done.stdout.decode().strip() if done.exit_code == 0 else ""

    async def broken(self, name: str) -> bool:
        """Whether there is such a ref in this repository, and it names nothing that is here."""
        if await self.ref(name):
            return False
        told = await self.run("for-each-ref", "--format=%(refname)", name)
        return told.exit_code == 0 and bool(told.stdout.strip() or told.stderr.strip())

    async def names(self, prefix: str) -> dict[str, str]:
        """What this repository's refs under a prefix name, by the rest of their names. Raises Unreachable."""
        listed = await self.need("for-each-ref", "--format=%(objectname) %(refname)", prefix)
        pairs = (line.partition(" ") for line in listed.decode(errors="surrogateescape").split("\n") if line)
        return {name.removeprefix(prefix): head for head, _, name in pairs}

    async def heads(self, pattern: str) -> dict[str, str]:
        """What the origin's refs of ledgers name. Raises Unreachable."""
        told = await self.need("ls-remote", "--refs", "--", self.url, pattern, network=True)
        pairs = (line.partition("\t") for line in told.decode(errors="surrogateescape").split("\n"))
        # A pattern also matches the end of a longer name: refs/heads/refs/sluice/ledger/… is somebody's branch.
        return {name: head for head, _, name in pairs if name.startswith(PREFIX)}

    async def has(self, head: str) -> bool:
        """Whether this commit is here."""
        return (await self.run("cat-file", "-e", f"{head}^{{commit}}")).exit_code == 0

    async def bring(self, ref: str, head: str) -> None:
        """Have the origin's commits of this ref here, under no ref. Raises Unreachable."""
        if await self.has(head):
            return
        quiet = ("--quiet", "--no-tags", "--no-auto-gc", "--no-write-fetch-head", "--no-recurse-submodules")
        await self.need("fetch", *quiet, "--", self.url, ref, network=True)

    async def copy(self, head: str) -> Copy:
        """The ledger whose last commit this is; of what is no commit, one line that is no record.

        Raises Unreachable when it cannot be read.
        """
        if not head:
            return Copy()
        if not SHA.fullmatch(head):
            raise Unreachable("what should be a commit is none")
        listed = await self.need("rev-list", "--reverse", "--first-parent", head)
        commits = listed.decode().split()
        if commits[-1:] != [head]:  # a file, a folder or a tag: whoever may push can put one there
            return Copy(head, [NO_RECORD])
        if commits[0] in self._cut_off():
            raise Unreachable(f"{self.git_dir} is a shallow clone and has only the end of it; git fetch --unshallow")
        wanted = [f"{commits[0]}:{KEY_FILE}", *(f"{commit}:{RECORD_FILE}" for commit in commits)]
        key, *records = await self._files(wanted)
        return Copy(head, [_line(record) for record in records], _key(key))

    def _cut_off(self) -> set[str]:
        """The commits whose parents a shallow clone left out."""
        try:
            common = (self.git_dir / "commondir").read_text().strip()  # of a worktree: where the clone itself is
        except OSError:
            common = "."
        try:
            return set((self.git_dir / common / "shallow").read_text().split())
        except OSError:
            return set()

    async def _files(self, names: list[str]) -> list[bytes]:
        """What stands under these names; what is missing, no file or larger than any record is empty."""
        listed = await self.need("cat-file", "--batch-check", stdin="\n".join([*names, ""]).encode())
        told = [_small(line) for line in listed.split(b"\n")[: len(names)]]
        wanted = [name for name in told if name]
        raw = await self.need("cat-file", "--batch", stdin=b"".join(name + b"\n" for name in wanted))
        contents = iter(_contents(raw, len(wanted)))
        return [next(contents) if name else NO_RECORD for name in told]

    async def last(self, ref: str) -> bytes:
        """The record of the commit that a ref of this repository names; of none, what is no record."""
        done = await self.run("cat-file", "blob", f"{ref}:{RECORD_FILE}")
        return _line(done.stdout) if done.exit_code == 0 else NO_RECORD

    async def noted(self) -> dict[str, str]:
        """The commits that this repository's own settings name, by the ledger. Raises Unreachable."""
        done = await self.run("config", "--local", "--null", "--get-regexp", rf"^sluice\..*\.{NOTE}$")
        if done.exit_code not in (0, 1):  # 1: there is none
            raise Unreachable(f"git config: {self.said(done)}")
        pairs = (one.partition("\n") for one in done.stdout.decode(errors="surrogateescape").split("\0") if one)
        return {key.removeprefix("sluice.").removesuffix(f".{NOTE}"): head for key, _, head in pairs}

    async def note(self, name: str, head: str) -> None:
        """Let this repository's own settings name a commit of a ledger. Raises Unreachable."""
        await self.need("config", "--local", f"sluice.{name}.{NOTE}", head)

    async def remember(self, ref: str, head: str, was: str) -> None:
        """Let a ref of this repository name another commit. Raises Unreachable."""
        await self.need("update-ref", ref, head, was or "0" * len(head))


def _small(told: bytes) -> bytes:
    """The object that a line of `git cat-file --batch-check` speaks of where a record can be in it, else b""."""
    name, kind, size = parts if len(parts := told.split()) == 3 else (b"", b"", b"0")
    return name if kind == b"blob" and int(size) <= MAX_RECORD else b""


def _contents(raw: bytes, count: int) -> list[bytes]:
    """The answers of `git cat-file --batch` for files that are there."""
    found, at = [], 0
    for _ in range(count):
        begin = raw.index(b"\n", at) + 1
        at = begin + int(raw[at:begin].split()[2])
        found.append(raw[begin:at])
        at += 1
    return found


def _line(blob: bytes) -> bytes:
    if blob.endswith(b"\n"):
        return blob[:-1]
    return blob + b"\n" if blob else NO_RECORD  # without its newline it is another line than any


def _key(blob: bytes) -> PublicKey | None:
    try:
        return PublicKey.parse(blob.decode("ascii"))
    except ValueError:
        return None
