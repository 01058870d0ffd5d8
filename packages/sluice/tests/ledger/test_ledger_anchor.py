"""The anchor on real repositories: what is cut or written anew on either side is named, and nothing is ever forced."""

from __future__ import annotations

import shutil

import pytest

from sluice.hosts import anchor as anchor_module
from sluice.hosts import anchor_git
from sluice.hosts.anchor import SEEN, GitAnchor
from sluice.hosts.anchor_git import Git
from sluice.ledger import Ledger
from sluice.ledger.signing import LedgerKey
from sluice.model.promotion import Denied

from .origin import REF, RUNNER, git


async def test_an_origin_out_of_reach_hinders_nothing_and_is_caught_up_with(place, tmp_path):
    """No repository there: a sentence, and how many records are not anchored; the next push brings them all."""
    nowhere = place.anchor_at(f"file://{tmp_path}/nowhere-key-sentinel-1.git")
    place.add(1, 2)
    told = await nowhere.push()
    assert told.startswith("The ledger's tail is not anchored at")
    assert "does not exist" in told or "not appear to be a git repository" in told
    found = await nowhere.compare()
    assert (found.anchored, found.ok) == (0, True)
    assert found.note
    place.add(3)
    assert await place.anchor.push() == ""
    assert (await place.anchor.compare()).anchored == 3
    assert git(place.origin, "rev-list", "--count", REF) == "3"


async def test_no_right_to_push_is_said_and_changes_nothing(place):
    """The origin refuses: the ledger goes on here, and what is not there is counted."""
    await place.anchored(1)
    hook = place.origin / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho no ledgers of key-sentinel-1 here >&2\nexit 1\n")
    hook.chmod(0o755)
    place.add(2, 3)
    told = await place.anchor.push()
    assert "no ledgers of" in told
    assert "sentinel" not in told
    found = await place.anchor.compare()
    assert (found.anchored, found.problems, found.note) == (1, (), "")
    hook.unlink()
    assert await place.anchor.push() == ""
    assert (await place.anchor.compare()).anchored == 3


async def test_a_deadline_ends_the_waiting(place, monkeypatch):
    """An origin that takes a connection and says nothing holds no run up."""
    place.add(1)
    monkeypatch.setattr(anchor_module, "ANCHOR_S", 0.2)
    monkeypatch.setenv("GIT_SSH_COMMAND", "sh -c 'exec cat /dev/zero >/dev/null' --")
    silent = place.anchor_at("ssh://nobody@127.0.0.1/shop.git")
    assert "did not" in await silent.push()
    assert "did not" in (await silent.compare()).note


async def test_a_tail_cut_here_is_named_by_the_anchor(place):
    """The chain that is left holds, the journal may be gone too: the origin still has what was cut."""
    await place.anchored(1, 2, 3, 4)
    place.keep(place.ledger.lines()[:2])
    assert place.ledger.verify().ok
    assert await place.codes() == [("tail-cut", 3)]
    assert await place.codes(offline=True) == [("tail-cut", 3)]
    head = place.head()
    assert "record 3 was cut" in await place.anchor.push()
    place.ledger.path.unlink()
    assert await place.codes() == [("tail-cut", 1)]
    assert place.head() == head


async def test_an_empty_state_folder_is_no_first_run_where_the_origin_has_records(place, tmp_path):
    """A wrong SLUICE_STATE: nothing is begun under another key. An origin without records, or out of reach, is."""
    empty = tmp_path / "another"
    git(tmp_path, "init", "-q", "--bare", str(empty))
    fresh = GitAnchor(empty, str(place.origin), RUNNER, empty / "ledger.jsonl", "shop/test")
    assert await fresh.remembered() is None
    await place.anchored(1, 2)
    found = await fresh.remembered()
    assert (found.code, found.number) == ("tail-cut", 1)
    assert "SLUICE_STATE" in found.sentence
    away = GitAnchor(empty, str(tmp_path / "away.git"), RUNNER, empty / "ledger.jsonl", "shop/test")
    assert await away.remembered() is None


async def test_a_tail_cut_and_written_anew_with_the_right_key_is_named(place):
    """Whoever holds the key can make a chain that holds; it is not the one that was anchored."""
    await place.anchored(1, 2, 3)
    place.keep(place.rewritten(place.ledger._key, first=2))
    assert place.ledger.verify().ok
    assert await place.codes() == [("ledger-rewritten", 2)]
    head = place.head()
    place.add(4)
    assert "record 2 was rewritten here" in await place.anchor.push()
    assert place.head() == head
    shutil.rmtree(place.mirror)
    place.mirror.mkdir()
    git(place.mirror, "init", "-q", "--bare")
    assert await place.codes() == [("ledger-rewritten", 2)]


async def test_a_whole_chain_signed_anew_with_another_key_is_named(place, tmp_path):
    """Key, chain and signatures replaced: here all holds, and the origin's first key is another."""
    await place.anchored(1, 2, 3)
    mallory = LedgerKey(tmp_path / "mallory")
    lines = place.rewritten(mallory)
    shutil.copy(mallory.path, place.ledger._key.path)
    shutil.copy(mallory.public_path, place.ledger._key.public_path)
    place.keep(lines)
    place.ledger = Ledger(place.ledger.path)
    place.anchor = place.anchor_at(str(place.origin))
    assert place.ledger.verify().ok
    assert await place.codes() == [("key-foreign", 1)]
    assert "these were written anew" in (await place.anchor.compare()).problems[0].sentence
    shutil.rmtree(place.mirror)
    git(place.folder, "init", "-q", "--bare", str(place.mirror))
    assert await place.codes() == [("key-foreign", 1)]
    assert "one of the two was written anew" in (await place.anchor.compare()).problems[0].sentence
    head = place.head()
    assert await place.anchor.push() != ""
    assert place.head() == head


async def test_an_anchor_forced_to_other_records_is_named_and_left(place, tmp_path):
    """Somebody with push rights wrote the origin's copy anew: the local one stands, and nothing is forced back."""
    await place.anchored(1, 2, 3)
    mallory = LedgerKey(tmp_path / "mallory")
    place.force(place.rewritten(mallory, first=2), mallory.make().line)
    forced = place.head()
    assert await place.codes() == [("anchor-rewritten", 1)]
    place.add(4)
    assert "left as it is" in await place.anchor.push()
    assert place.head() == forced
    place.force([*place.ledger.lines()[:1], b'{"n":2}', *place.ledger.lines()[2:]])
    assert await place.codes() == [("anchor-rewritten", 2)]


async def test_records_put_on_top_of_the_anchor_by_somebody_are_named(place):
    """A fast-forward by somebody else: the environment's key did not sign it."""
    await place.anchored(1, 2)
    place.force([*place.ledger.lines(), b'{"n":3,"type":"approval"}'])
    assert await place.codes() == [("anchor-rewritten", 3)]
    mallory = LedgerKey(place.folder / "mallory").make()
    place.force([*place.ledger.lines(), b'{"n":3,"type":"approval"}'], mallory.line)
    assert await place.codes() == [("anchor-rewritten", 3)]
    place.add(3)
    assert "record 3 was rewritten on the origin" in await place.anchor.push()
    shutil.rmtree(place.mirror)
    git(place.folder, "init", "-q", "--bare", str(place.mirror))
    assert await place.codes() == [("anchor-rewritten", 3)]


@pytest.mark.parametrize("left", [0, 1])
async def test_an_anchor_forced_back_is_named_and_not_filled_up_again(place, left):
    """The origin has fewer records than were brought there, or none: the mirror remembers."""
    await place.anchored(1, 2, 3)
    if left:
        git(place.origin, "update-ref", REF, f"{REF}~2")
    else:
        git(place.origin, "update-ref", "-d", REF)
    assert await place.codes() == [("anchor-cut", left + 1)]
    place.add(4)
    assert "was cut on the origin" in await place.anchor.push()
    assert git(place.origin, "for-each-ref", "--format=%(refname)", REF) == (REF if left else "")
    # A person puts back what the mirror has seen there; from then on it goes on by itself.
    git(place.mirror, "push", "-q", str(place.origin), f"{SEEN}shop/test:{REF}")
    assert await place.anchor.push() == ""
    assert await place.codes() == []
    assert (await place.anchor.compare()).anchored == 4


async def test_a_kill_after_the_push_is_no_finding(place):
    """The origin has a record the mirror does not remember: it is ours, and counts as anchored."""
    await place.anchored(1)
    before = git(place.mirror, "rev-parse", f"{SEEN}shop/test")
    await place.anchored(2)
    git(place.mirror, "update-ref", f"{SEEN}shop/test", before)
    assert (await place.anchor.compare()).anchored == 2
    await place.anchored(3)
    assert await place.codes() == []


async def test_the_origin_tells_a_release_manager_what_happened(place):
    """One commit a record, byte for byte, dated as it ended, with a line that `git log` shows; main is untouched."""
    await place.anchored(1, 2)
    assert git(place.origin, "log", "--reverse", "--format=%s|%cI", REF).splitlines() == [
        "1 rollout v1|2026-01-01T00:00:00+00:00",
        "2 rollout v2|2026-01-02T00:00:00+00:00",
    ]
    assert git(place.origin, "show", f"{REF}:record.json").encode() == place.ledger.lines()[1]
    assert git(place.origin, "show", f"{REF}:ledger.key.pub") == place.ledger.key().line
    assert git(place.origin, "for-each-ref", "--format=%(refname)") == REF
    copy = await place.anchor.origin(place.ledger.key())
    assert (copy.lines, copy.key) == (place.ledger.lines(), place.ledger.key())


async def test_an_origins_copy_that_does_not_hold_is_not_read(place):
    """Whoever decides by another environment's records gets true ones or none."""
    await place.anchored(1)
    key = place.ledger.key()
    with pytest.raises(Denied, match="cannot be read") as away:
        await place.anchor_at("/nowhere.git").origin(key)
    assert (away.value.code, "git ls-remote" in away.value.next) == ("ProofUnreachable", True)
    place.force([*place.ledger.lines(), b"{}"])
    with pytest.raises(Denied, match="does not hold") as forged:
        await place.anchor.origin(key)
    assert forged.value.code == "RecordDoubtful"


async def test_only_the_key_that_is_pinned_vouches_for_an_origins_copy(place, tmp_path):
    """The key beside the records is put there by whoever pushes: a chain of his own holds, and is not read."""
    await place.anchored(1, 2)
    pinned, mallory = place.ledger.key(), LedgerKey(tmp_path / "mallory")
    place.force(place.rewritten(mallory), mallory.make().line)
    far = GitAnchor(tmp_path / "far.git", str(place.origin), RUNNER, tmp_path / "none.jsonl", "shop/test")
    with pytest.raises(Denied, match="signed by another key") as foreign:
        await far.origin(pinned)
    assert (foreign.value.code, "test_ledger_key" in foreign.value.next) == ("RecordDoubtful", True)
    place.force(place.ledger.lines(), mallory.make().line)
    assert (await far.origin(pinned)).lines == place.ledger.lines()


async def test_what_was_read_of_an_origin_once_must_be_there_again(place, tmp_path):
    """Cut, deleted or rewritten by the very key since another host read it: refused; gone on: read, and remembered."""
    await place.anchored(1, 2)
    key = place.ledger.key()
    far = GitAnchor(tmp_path / "far.git", str(place.origin), RUNNER, tmp_path / "none.jsonl", "shop/test")
    assert len((await far.origin(key)).lines) == 2
    await place.anchored(3)
    assert [len((await far.origin(key)).lines) for _ in range(2)] == [3, 3]
    whole = place.head()
    git(place.origin, "update-ref", REF, f"{REF}~1")
    cut = place.head()
    place.force(place.rewritten(place.ledger._key, first=2))
    for head, words in ((cut, "record 3 was cut"), (place.head(), "record 2 was rewritten"), ("", "none of them")):
        git(place.origin, "update-ref", *([REF, head] if head else ["-d", REF]))
        with pytest.raises(Denied, match=words) as doubtful:
            await far.origin(key)
        assert doubtful.value.code == "RecordDoubtful"
    git(place.origin, "update-ref", REF, whole)
    assert len((await far.origin(key)).lines) == 3


async def test_what_cannot_be_remembered_is_not_read(place, tmp_path, monkeypatch):
    """A mirror that takes no note would not see the next cut; two readers at a time are no hindrance."""
    await place.anchored(1)
    key, mirror = place.ledger.key(), tmp_path / "far.git"
    far = GitAnchor(mirror, str(place.origin), RUNNER, tmp_path / "none.jsonl", "shop/test")
    git(tmp_path, "init", "-q", "--bare", str(mirror))
    lock = mirror / f"{SEEN}shop/test.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    with pytest.raises(Denied, match="cannot be read") as refused:
        await far.origin(key)
    assert refused.value.code == "ProofUnreachable"
    lock.unlink()
    remember = Git.remember

    async def beaten(self, ref, head, was):
        await remember(self, ref, head, was)
        await remember(self, ref, head, was)  # as git says it to the second of two

    monkeypatch.setattr(Git, "remember", beaten)
    assert (await far.origin(key)).lines == place.ledger.lines()
    assert git(mirror, "rev-parse", f"{SEEN}shop/test") == place.head()


async def test_a_ledger_is_given_back_by_its_anchor(place):
    """As the reference says: line by line from the commits, and all holds again."""
    await place.anchored(1, 2, 3)
    whole = place.ledger.path.read_bytes()
    place.keep(place.ledger.lines()[:1])
    commits = git(place.mirror, "log", "--reverse", "--format=%H", f"{SEEN}shop/test").split()
    place.ledger.path.write_text("".join(f"{git(place.mirror, 'show', f'{one}:record.json')}\n" for one in commits))
    assert place.ledger.path.read_bytes() == whole
    assert await place.codes() == []


async def test_a_ledger_begun_anew_on_purpose_is_anchored_beside_the_old_one(place):
    """A person renames the ref and drops the mirror's memory; without that nothing goes there."""
    await place.anchored(1, 2)
    for file in place.ledger.path.parent.iterdir():
        file.unlink()
    place.ledger = Ledger(place.ledger.path)
    place.anchor = place.anchor_at(str(place.origin))
    place.add(1)
    assert await place.codes() == [("key-foreign", 1)]
    git(place.origin, "update-ref", f"{REF}-2025", REF)
    git(place.origin, "update-ref", "-d", REF)
    git(place.mirror, "update-ref", "-d", f"{SEEN}shop/test")
    assert await place.anchor.push() == ""
    assert await place.codes() == []


@pytest.mark.parametrize("kind", ["blob", "tree", "tag"])
async def test_an_anchor_that_is_no_commit_is_named_and_breaks_nothing(place, kind):
    """Whoever may push can put a file there, a folder or a tag: a finding, before the first record and after others."""
    place.planted(kind)
    place.add(1)
    assert await place.codes() == [("anchor-rewritten", 1)]
    assert "left as it is" in await place.anchor.push()
    git(place.origin, "update-ref", "-d", REF)
    assert await place.anchor.push() == ""
    await place.anchored(2)
    planted = place.planted(kind)
    assert await place.codes() == [("anchor-rewritten", 1)]
    assert "left as it is" in await place.anchor.push()
    assert place.head() == planted
    with pytest.raises(Denied, match="record 1 was rewritten"):
        await place.anchor.origin(place.ledger.key())


async def test_a_push_says_whatever_hinders_it_and_raises_nothing(place, monkeypatch):
    """A ledger that cannot be read, or a fault of our own: one sentence, and the recorded run ends as it did."""
    await place.anchored(1)

    async def broken(*_arguments):
        raise IndexError("of our own")

    monkeypatch.setattr(Git, "heads", broken)
    assert (await place.anchor.push()).endswith("IndexError: of our own.")
    place.ledger.path.unlink()
    place.ledger.path.mkdir()
    assert "is not anchored at" in await place.anchor.push()


async def test_a_record_larger_than_any_is_not_taken_in(place, monkeypatch):
    """Whoever may push can push gigabytes: they are none of a record, and are not read into memory."""
    await place.anchored(1)
    monkeypatch.setattr(anchor_git, "MAX_RECORD", 64 * 1024)
    place.force([*place.ledger.lines(), b'{"n":2,"x":"' + b"x" * 64 * 1024 + b'"}'])
    taken = []
    run = Git.run

    async def counted(self, *arguments, **options):
        done = await run(self, *arguments, **options)
        taken.append(len(done.stdout))
        return done

    monkeypatch.setattr(Git, "run", counted)
    assert await place.codes() == [("anchor-rewritten", 2)]
    assert max(taken) < 64 * 1024


async def test_what_git_says_is_told_in_one_sentence_and_never_its_answer(place, monkeypatch):
    """An answer that is too long has a sentence of its own; of a long complaint the beginning is told."""
    await place.anchored(1)
    monkeypatch.setattr(anchor_git, "MAX_LEDGER", 200)
    assert "longer than" in await place.anchor.push()
    hook = place.origin / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nprintf 'no %010000d' 1 >&2\nexit 1\n")
    hook.chmod(0o755)
    monkeypatch.setattr(anchor_git, "MAX_LEDGER", 1 << 20)
    place.add(2)
    assert len(await place.anchor.push()) < anchor_git.MAX_SAID + 200


@pytest.mark.parametrize("offline", [False, True])
async def test_a_run_that_records_meanwhile_is_no_finding(place, monkeypatch, offline):
    """Between the questions a record is written here and brought there: what the origin has more is here by then."""
    await place.anchored(1)
    copy, running = Git.copy, place.anchor_at(str(place.origin))

    async def slowly(self, head):
        monkeypatch.setattr(Git, "copy", copy)
        place.add(2)
        assert await running.push() == ""
        return await copy(self, await self.ref(f"{SEEN}shop/test"))

    monkeypatch.setattr(Git, "copy", slowly)
    found = await place.anchor.compare(offline=offline)
    assert (found.problems, found.anchored) == ((), 2)


@pytest.mark.parametrize("memory", ["garbage", "1" * 40, ""])
async def test_a_memory_that_is_damaged_is_said(place, memory):
    """It counts as none: then a cut on the origin cannot show here, and that is no silence."""
    await place.anchored(1, 2)
    assert (await place.anchor.compare()).memory == ""
    ref = place.mirror / SEEN / "shop" / "test"
    ref.write_text(f"{memory}\n")
    for offline in (False, True):
        assert "is damaged" in (await place.anchor.compare(offline=offline)).memory
    ref.unlink()
    assert (await place.anchor.compare()).memory == ""
