"""Before anything begins the ledger is held against all that remembers it: what was taken out may be what locks."""

from __future__ import annotations

import dataclasses
import datetime as dt
import subprocess

import pytest

from sluice.drive import Drive, Request
from sluice.hosts.anchor import SEEN, GitAnchor
from sluice.ledger import Ledger
from sluice.model.errors import Locked, StateCorrupted
from sluice.runner import LocalRunner
from sluice.testing import MemoryWorld

ANN = Request("ann", "flag", "feature/good")
SOON = dt.datetime(2099, 1, 1, tzinfo=dt.UTC)
COMMANDS = {
    "rollout": lambda drive: drive.rollout(ANN),
    "rollback": lambda drive: drive.rollback(ANN),
    "resume": lambda drive: drive.resume(ANN),
    "lock": lambda drive: drive.lock(ANN, "why"),
    "unlock": lambda drive: drive.unlock(ANN, "why"),
    "freeze": lambda drive: drive.freeze(ANN, SOON, "why"),
    "unfreeze": lambda drive: drive.unfreeze(ANN, "why"),
}


def git(where, *arguments) -> None:
    """As a person types it."""
    subprocess.run(["git", "-C", str(where), *arguments], check=True)


class Kept:
    """An environment with one good release, locked; its ledger is anchored by real git, or is not."""

    def __init__(self, folder, *, anchored: bool) -> None:
        self.memory = MemoryWorld(folder)
        self.origin, self.mirror = folder / "origin.git", self.memory.paths.repo
        self.origin.mkdir()
        git(self.origin, "init", "-q", "--bare")
        runner = LocalRunner(self.memory.redactor)
        self.anchor = GitAnchor(self.mirror, str(self.origin), runner, self.memory.paths.ledger, "shop/test")
        self.anchored = anchored

    def drive(self) -> Drive:
        """A new command's."""
        means = {"anchor": self.anchor.push, "remembered": self.anchor.remembered} if self.anchored else {}
        return Drive(dataclasses.replace(self.memory.world(), **means), self.memory.reports.append)

    async def locked(self) -> list[bytes]:
        """The lines of a rollout and of a lock after it."""
        assert (await self.drive().rollout(Request("ann", "flag", "main"))).exit_code == 0
        await self.drive().lock(ANN, "an incident")
        with pytest.raises(Locked):
            await self.drive().rollout(ANN)
        return self.memory.paths.ledger.read_bytes().splitlines(keepends=True)

    def beside(self, *names: str) -> None:
        """Remove these files beside the ledger."""
        for name in names:
            self.memory.paths.ledger.with_name(name).unlink()

    async def refused(self, name: str, code: str) -> None:
        """The command is refused with this finding: nothing is written, made or moved."""
        folder, before = self.memory.paths.env_dir, self.memory.log.copy()
        files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        with pytest.raises(StateCorrupted, match=code) as refused:
            await COMMANDS[name](self.drive())
        assert "log verify" in refused.value.next
        assert self.memory.log == before
        left = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock"}
        assert left == {path: content for path, content in files.items() if path.name != "lock"}


@pytest.mark.parametrize("name", COMMANDS)
async def test_a_removed_ledger_opens_no_environment_and_gets_no_new_key(tmp_path, name):
    """With the key or without, its note too: the journal of the rollout remembers that there was one."""
    kept = Kept(tmp_path, anchored=False)
    await kept.locked()
    kept.beside("ledger.jsonl")
    await kept.refused(name, "tail-cut")
    kept.beside("ledger.key", "ledger.key.pub", "ledger.head")
    await kept.refused(name, "tail-cut")
    assert not kept.memory.paths.ledger.with_name("ledger.key").exists()


async def test_a_lock_cut_from_the_end_still_locks(tmp_path):
    """No journal knows a lock: its note does here, and of an anchored ledger the mirror, without asking the origin."""
    bare, anchored = Kept(tmp_path / "bare", anchored=False), Kept(tmp_path / "anchored", anchored=True)
    lines = await bare.locked()
    bare.memory.paths.ledger.write_bytes(lines[0])
    await bare.refused("rollout", "tail-cut")
    lines = await anchored.locked()
    anchored.origin.rename(tmp_path / "away.git")
    anchored.memory.paths.ledger.write_bytes(lines[0])
    anchored.beside("ledger.head")
    for name in COMMANDS:
        await anchored.refused(name, "tail-cut")
    anchored.beside("ledger.jsonl", "ledger.key", "ledger.key.pub")
    for path in anchored.memory.paths.journal_dir.iterdir():
        path.unlink()
    await anchored.refused("rollout", "tail-cut")


async def test_a_key_that_is_lost_stops_a_run_before_it_begins(tmp_path):
    """The public half still proves every record; the next one could not be signed, so nothing is begun."""
    kept = Kept(tmp_path, anchored=False)
    await kept.drive().rollout(ANN)
    kept.beside("ledger.key")
    before = kept.memory.log.copy()
    with pytest.raises(StateCorrupted, match="is not there any more"):
        await kept.drive().rollout(ANN)
    assert kept.memory.log == before


@pytest.mark.parametrize("anchored", [False, True])
async def test_a_ledger_is_begun_anew_on_purpose_as_the_reference_says(tmp_path, anchored):
    """Ledger, key, note and journals put aside, the mirror told to forget: record 1 of a new ledger, and anchored."""
    kept = Kept(tmp_path, anchored=anchored)
    await kept.locked()
    aside = tmp_path / "aside"
    aside.mkdir()
    for path in [*kept.memory.paths.env_dir.glob("ledger.*"), kept.memory.paths.journal_dir]:
        path.rename(aside / path.name)
    kept.memory.paths.prepare()
    if anchored:
        await kept.refused("rollout", "tail-cut")
        ref = "refs/sluice/ledger/shop/test"
        git(kept.origin, "update-ref", f"{ref}-2025", ref)
        git(kept.origin, "update-ref", "-d", ref)
        git(kept.mirror, "update-ref", "-d", f"{SEEN}shop/test")
    result = await kept.drive().rollout(ANN)
    assert (result.exit_code, result.record["n"]) == (0, 1)
    assert Ledger(kept.memory.paths.ledger).verify().ok
    if anchored:
        assert (await kept.anchor.compare()).anchored == 1


@pytest.mark.parametrize("name", ["rollout", "lock", "freeze"])
async def test_a_torn_line_that_was_set_aside_is_said(tmp_path, name):
    """Whichever command mends the file says where the rest of it is."""
    kept = Kept(tmp_path, anchored=False)
    await kept.drive().rollout(Request("ann", "flag", "main"))
    with kept.memory.paths.ledger.open("ab") as file:
        file.write(b'{"half":')
    await COMMANDS[name](kept.drive())
    notes = [report.text for report in kept.memory.reports if report.event == "note"]
    assert [text for text in notes if "torn by a crash" in text and "it is kept in ledger.jsonl.torn-" in text]
