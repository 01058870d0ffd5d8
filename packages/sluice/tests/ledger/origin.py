"""A ledger, its mirror and its origin, all real repositories in one folder, and what somebody may do to them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from sluice.hosts.anchor import GitAnchor
from sluice.hosts.anchor_git import PREFIX
from sluice.journal import canonical
from sluice.ledger import GENESIS, Ledger, record_hash
from sluice.ledger.signing import LedgerKey
from sluice.model.secret import Redactor, Secret
from sluice.runner import LocalRunner

REF = f"{PREFIX}shop/test"
RUNNER = LocalRunner(Redactor([Secret("key-sentinel-1")]))


def git(where: Path, *arguments: str, stdin: str = "") -> str:
    """Run git with nobody's configuration."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", "-c", "user.name=T", "-c", "user.email=t@example.org", *arguments]
    done = subprocess.run(command, cwd=where, check=True, capture_output=True, text=True, env=environment, input=stdin)
    return done.stdout.strip()


class Place:
    """A ledger here, a mirror here, and an origin elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.origin, self.mirror = folder, folder / "origin.git", folder / "repo.git"
        git(folder, "init", "-q", "--bare", str(self.origin))
        self.ledger = Ledger(folder / "env" / "ledger.jsonl")
        self.ledger.path.parent.mkdir()
        self.anchor = self.anchor_at(str(self.origin))

    def anchor_at(self, url: str) -> GitAnchor:
        """The ledger's anchor at some address."""
        return GitAnchor(self.mirror, url, RUNNER, self.ledger.path, "shop/test")

    def add(self, *runs: int) -> None:
        """Records of rollouts."""
        for run in runs:
            ended = f"2026-01-0{run}T00:00:00.000Z"
            self.ledger.append({"type": "rollout", "run": f"run-{run}", "version": f"v{run}", "ended": ended})

    async def anchored(self, *runs: int) -> None:
        """Records of rollouts, each brought to the origin."""
        for run in runs:
            self.add(run)
            assert await self.anchor.push() == ""

    def head(self) -> str:
        """The commit the origin's ref names."""
        return git(self.origin, "rev-parse", REF)

    def keep(self, lines) -> None:
        """Write the ledger file, as whoever owns the account would: the note of its last record goes too."""
        self.ledger.path.with_name("ledger.head").unlink(missing_ok=True)
        self.ledger.path.write_bytes(b"".join(line + b"\n" for line in lines))

    def rewritten(self, key: LedgerKey, first: int = 1) -> list[bytes]:
        """The chain signed anew by a key, from record `first` on with another owner."""
        public, previous, lines = key.make(), GENESIS, []
        for place, line in enumerate(self.ledger.lines(), 1):
            record = {**json.loads(line), "previous": previous, "ledger_key": public.fingerprint}
            if place >= first:
                record["owner"] = "mallory"
            record["hash"] = record_hash(record)
            record["signature"] = key.sign(record["hash"].encode())
            previous = record["hash"]
            lines.append(canonical(record))
        return lines

    def force(self, lines: list[bytes], key_line: str = "") -> None:
        """What somebody with push rights can do: put other records where the anchor is."""
        parent: list[str] = []
        for line in lines:
            blob = git(self.origin, "hash-object", "-w", "--stdin", stdin=f"{line.decode()}\n")
            key = git(self.origin, "hash-object", "-w", "--stdin", stdin=f"{key_line or self.ledger.key().line}\n")
            names = f"100644 blob {key}\tledger.key.pub\n100644 blob {blob}\trecord.json\n"
            tree = git(self.origin, "mktree", stdin=names)
            parent = ["-p", git(self.origin, "commit-tree", tree, *parent, "-m", "forced")]
        git(self.origin, "update-ref", REF, parent[1])

    def planted(self, kind: str) -> str:
        """What somebody with push rights can do: put a file, a folder or a tag of a file where the anchor is."""
        blob = git(self.origin, "hash-object", "-w", "--stdin", stdin="x\n")
        tag = f"object {blob}\ntype blob\ntag x\ntagger T <t@example.org> 0 +0000\n\nx\n"
        made = {
            "blob": blob,
            "tree": git(self.origin, "mktree", stdin=f"100644 blob {blob}\trecord.json\n"),
            "tag": git(self.origin, "hash-object", "-w", "-t", "tag", "--stdin", stdin=tag),
        }
        git(self.origin, "update-ref", REF, made[kind])
        return made[kind]

    async def codes(self, **options) -> list[tuple[str, int]]:
        """What verify finds, by name and number."""
        verdict = self.ledger.verify()
        found = await self.anchor.compare(**options)
        return [(problem.code.value, problem.number) for problem in (*verdict.problems, *found.problems)]
