"""What is kept after a good run, and that tidying up never costs one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.drive import pruning
from sluice.drive.pruning import needed
from sluice.drive.world import Sibling
from sluice.hosts.releases import FileReleases
from sluice.hosts.state import StatePaths
from sluice.journal import read_all
from sluice.ledger import Ledger
from sluice.model.errors import StepFailed
from sluice.model.release import Artifact, Release
from sluice.model.verdict import Verdict
from sluice.testing import ASKED, SPEC, Killed, MemoryWorld, Request, commit_of, killer


def release(number, *, verified=True):
    """A release of that number."""
    return Release(
        f"r{number:03d}", "shop", "test", commit_of("main"), Artifact("k", "/a", "t"), SPEC, "f", "", "", verified
    )


def ids(releases):
    """Their ids."""
    return [one.id for one in releases]


@given(
    verified=st.lists(st.booleans(), min_size=1, max_size=30),
    keep=st.integers(1, 8),
    left=st.sets(st.integers(0, 29)),
    touched=st.sets(st.integers(0, 29)),
    serving=st.integers(0, 29),
)
def test_what_serves_what_is_touched_and_the_last_good_ones_are_always_kept(verified, keep, left, touched, serving):
    """For any history: nothing needed is given up, and what is kept beyond that has a bound."""
    releases = [release(n, verified=good) for n, good in enumerate(verified)]
    named = {f"r{n:03d}" for n in touched}
    kept = set(ids(needed(releases, f"r{serving:03d}", {f"r{n:03d}" for n in left}, named, keep)))
    known = set(ids(releases))
    must = ({f"r{serving:03d}"} | named) & known
    assert must <= kept <= known
    others = sorted(one for one in kept - must)
    assert len(others) <= keep - 1
    back = [n for n, good in enumerate(verified) if good and n not in left and n != serving]
    assert {f"r{n:03d}" for n in back[len(back) - (keep - 1) :]} <= kept


async def test_only_the_last_releases_are_kept_and_every_one_to_go_back_to_is_there(tmp_path):
    """After each good run the runtime is told the newest `keep` releases, what serves among them."""
    memory = MemoryWorld(tmp_path, keep=2)
    memory.branches |= {"a", "b", "c"}
    for branch in ("a", "b", "c"):
        assert (await memory.drive().rollout(Request("ann", "test", branch))).exit_code == 0
    assert memory.kept == ["run-0002", "run-0003"]
    assert (await memory.drive().rollback(ASKED)).exit_code == 0
    # What was left is not gone back to; the run that left it is the last good one, so it names it still.
    assert memory.kept == ["run-0001", "run-0002", "run-0003"]
    assert ids(memory.releases.all()) == ["run-0001", "run-0002", "run-0003"]


async def test_another_environments_releases_are_kept_and_so_is_what_its_unfinished_run_needs(tmp_path):
    """The artifacts are the service's: one environment's tidying never takes another's away."""
    memory = MemoryWorld(tmp_path, keep=1)
    other = StatePaths(tmp_path, "shop", "prod")
    other.prepare()
    theirs = FileReleases(other)
    theirs.save(release(7))
    own = memory.world().siblings
    beside = MemoryWorld(tmp_path / "elsewhere")
    with pytest.raises(Killed):
        await beside.drive(killer("intent:watching")).rollout(Request("ann", "test", "feature/bad"))
    for path in beside.paths.journal_dir.iterdir():
        (other.journal_dir / path.name.replace("run-0001", "run-0900")).write_bytes(path.read_bytes())
    siblings = [*own(), Sibling(other, theirs, 2)]
    assert ids(pruning.needed_by(siblings[1], read_all(other.journal_dir, repair=False))) == ["r007", "run-0001"]


async def test_a_run_that_does_not_come_through_prunes_nothing(tmp_path):
    """Tidying up belongs to a good end; what a bad one left is evidence."""
    memory = MemoryWorld(tmp_path)
    await memory.drive().rollout(Request("ann", "test", "main"))
    memory.log.clear()
    memory.verdicts["watch", "feature/bad"] = Verdict.FAIL
    assert (await memory.drive().rollout(Request("ann", "test", "feature/bad"))).exit_code == 3
    assert "prune" not in memory.log


@pytest.mark.parametrize("failure", [StepFailed("the disk is odd"), OSError(5, "Input/output error"), KeyError("ours")])
async def test_a_pruning_that_fails_is_a_note_and_never_an_exit_code(tmp_path, failure):
    """The release serves and is recorded; only a sentence says that something was not tidied up."""
    memory = MemoryWorld(tmp_path)
    memory.broken["prune"] = failure
    result = await memory.drive().rollout(ASKED)
    assert result.exit_code == 0
    assert any("not cleaned up" in report.text for report in memory.reports)
    assert memory.reports[-1].event == "result"


async def test_a_damaged_memory_of_another_environment_prunes_nothing(tmp_path):
    """What cannot be read is no reason to remove."""
    memory = MemoryWorld(tmp_path)
    other = StatePaths(tmp_path, "shop", "prod")
    other.prepare()
    (other.releases_dir / "r001.json").write_text("torn")
    siblings = [*memory.world().siblings(), Sibling(other, FileReleases(other), 2)]
    world = memory.world()
    object.__setattr__(world, "siblings", lambda: siblings)
    drive = memory.drive()
    drive._world = world
    assert (await drive.rollout(ASKED)).exit_code == 0
    assert "prune" not in memory.log
    assert any("r001.json is damaged" in report.text for report in memory.reports)


async def test_journals_are_bounded_and_an_unfinished_one_stays(tmp_path, monkeypatch):
    """The oldest ended ones go, the ledger keeps their records, and `log verify` still holds."""
    monkeypatch.setattr(pruning, "KEPT_JOURNALS", 3)
    memory = MemoryWorld(tmp_path)
    memory.branches |= {f"b{n}" for n in range(6)}
    for n in range(6):
        assert (await memory.drive().rollout(Request("ann", "test", f"b{n}"))).exit_code == 0
    records = read_all(memory.paths.journal_dir, repair=False)
    assert [record.run for record in records] == ["run-0004", "run-0005", "run-0006"]
    ledger = Ledger(memory.paths.ledger)
    assert len(ledger.records()) == 6
    assert ledger.verify({record.run: record.recorded for record in records}).ok
    with pytest.raises(Killed):
        await memory.drive(killer("intent:starting")).rollout(ASKED)
    everything = read_all(memory.paths.journal_dir, repair=False)
    monkeypatch.setattr(pruning, "KEPT_JOURNALS", 0)
    assert [path.stem for path in pruning.beyond_the_bound(everything)] == ["run-0004", "run-0005", "run-0006"]
