"""The ledgers in an auditor's clone: judged with nothing of the host, and remembered from look to look."""

from __future__ import annotations

import pytest

from sluice.hosts.anchor_clone import AUDITED, audit_clone
from sluice.hosts.anchor_git import PREFIX
from sluice.ledger.signing import LedgerKey
from sluice.model.errors import Refused, UsageError

from .origin import REF, RUNNER, git


async def test_a_clone_verifies_without_any_state_of_the_host(place, clone):
    """Chain, signatures and key come with the ref; what the clone saw stays in it for the next time."""
    await place.anchored(1, 2)
    (audit,) = await audit_clone(clone, RUNNER, offline=False)
    assert (audit.name, audit.verdict.records, audit.verdict.ok) == ("shop/test", 2, True)
    assert audit.key == place.ledger.key().fingerprint
    (again,) = await audit_clone(clone, RUNNER, offline=True)
    assert (again.verdict.records, again.anchoring) == (2, None)


async def test_a_clone_names_an_origin_that_was_forced(place, clone, tmp_path):
    """Even where host and origin agree on another story, the clone remembers the first one."""
    await place.anchored(1, 2, 3)
    await audit_clone(clone, RUNNER, offline=False)
    mallory = LedgerKey(tmp_path / "mallory")
    place.force(place.rewritten(mallory), mallory.make().line)
    for _ in range(2):
        (audit,) = await audit_clone(clone, RUNNER, offline=False)
        assert [(p.code.value, p.number) for p in audit.anchoring.problems] == [("anchor-rewritten", 1)]
    git(place.origin, "update-ref", "-d", REF)
    (audit,) = await audit_clone(clone, RUNNER, offline=False)
    assert [(p.code.value, p.number) for p in audit.anchoring.problems] == [("anchor-cut", 1)]


async def test_a_copy_that_does_not_hold_in_itself_is_named_in_a_clone(place, clone):
    """A record nobody signed is found by whoever fetches it."""
    await place.anchored(1)
    place.force([*place.ledger.lines(), b'{"n":2}'])
    for _ in range(2):  # what does not hold is not remembered either
        (audit,) = await audit_clone(clone, RUNNER, offline=False)
        assert (audit.verdict.code, audit.verdict.number) == ("record-changed", 2)
    assert git(clone, "for-each-ref", REF, AUDITED) == ""


async def test_a_folder_that_is_no_clone_is_refused(place, tmp_path):
    """So is a clone whose origin is away, unless it is judged alone."""
    with pytest.raises(UsageError, match="no clone"):
        await audit_clone(tmp_path, RUNNER, offline=True)
    git(tmp_path, "init", "-q", str(tmp_path / "lonely"))
    with pytest.raises(Refused, match="cannot be read"):
        await audit_clone(tmp_path / "lonely", RUNNER, offline=False)
    assert await audit_clone(tmp_path / "lonely", RUNNER, offline=True) == []


@pytest.mark.parametrize("kind", ["blob", "tree", "tag"])
async def test_what_is_no_commit_is_named_in_a_clone_too(place, clone, kind):
    """Seen first it does not hold in itself; seen after records, the origin was rewritten."""
    place.planted(kind)
    (audit,) = await audit_clone(clone, RUNNER, offline=False)
    assert (audit.verdict.code, audit.verdict.number) == ("record-changed", 1)
    git(place.origin, "update-ref", "-d", REF)
    await place.anchored(1)
    await audit_clone(clone, RUNNER, offline=False)
    place.planted(kind)
    (audit,) = await audit_clone(clone, RUNNER, offline=False)
    assert [(p.code.value, p.number) for p in audit.anchoring.problems] == [("anchor-rewritten", 1)]


async def test_a_name_that_is_no_text_is_a_ledger_like_any_other(place, clone):
    """Git takes any bytes for a name; whoever pushed it stops no audit."""
    await place.anchored(1)
    packed = place.origin / "packed-refs"
    packed.write_bytes(f"{place.head()} {REF}".encode() + b"-\xff\xfe\n")
    audits = await audit_clone(clone, RUNNER, offline=False)
    assert [audit.name.encode(errors="surrogateescape") for audit in audits] == [b"shop/test", b"shop/test-\xff\xfe"]


async def test_a_ledger_under_another_environments_name_is_named(place, clone):
    """What test recorded proves nothing of prod; a ledger that was put aside under its own name still holds."""
    place.add(1)
    place.ledger.append({"type": "rollout", "run": "run-2", "service": "shop", "environment": "test"})
    await place.anchor.push()
    for name in ("shop/prod", "shop/test-2025"):
        git(place.origin, "update-ref", f"refs/sluice/ledger/{name}", place.head())
    found = {one.name: one.verdict.code for one in await audit_clone(clone, RUNNER, offline=False)}
    assert found == {"shop/test": "", "shop/prod": "record-elsewhere", "shop/test-2025": ""}


@pytest.mark.parametrize("mirror", [False, True])
async def test_a_fetch_by_hand_does_not_let_a_clone_forget(place, clone, tmp_path, mirror):
    """The ref itself follows the origin in a mirror clone, and where it is fetched by hand: the memory does not."""
    await place.anchored(1, 2, 3)
    if mirror:
        git(tmp_path, "clone", "-q", "--mirror", str(place.origin), str(tmp_path / "mirror"))
    folder = tmp_path / "mirror" if mirror else clone
    await audit_clone(folder, RUNNER, offline=False)
    git(place.origin, "update-ref", REF, f"{REF}~2")
    git(folder, "fetch", "-q", "origin", "+refs/sluice/ledger/*:refs/sluice/ledger/*")
    (audit,) = await audit_clone(folder, RUNNER, offline=False)
    assert [(p.code.value, p.number) for p in audit.anchoring.problems] == [("anchor-cut", 2)]
    (alone,) = await audit_clone(folder, RUNNER, offline=True)
    assert (alone.verdict.records, alone.anchoring) == (3, None)  # older than what was seen is no finding by itself
    mallory = LedgerKey(tmp_path / "mallory")
    place.force(place.rewritten(mallory), mallory.make().line)
    git(folder, "fetch", "-q", "origin", "+refs/sluice/ledger/*:refs/sluice/ledger/*")
    for offline in (False, True):
        (audit,) = await audit_clone(folder, RUNNER, offline=offline)
        assert [(p.code.value, p.number) for p in audit.anchoring.problems] == [("anchor-rewritten", 1)]


@pytest.mark.parametrize("planted", [True, False])
async def test_no_fetch_of_a_mirror_clone_moves_or_removes_its_memory(place, tmp_path, planted):
    """It takes every ref as the origin has it: also one that somebody pushed under the memory's name, or nobody."""
    await place.anchored(1, 2, 3)
    folder = tmp_path / "mirror"
    git(tmp_path, "clone", "-q", "--mirror", str(place.origin), str(folder))
    await audit_clone(folder, RUNNER, offline=False)
    mallory = LedgerKey(tmp_path / "mallory")
    place.force(place.rewritten(mallory), mallory.make().line)
    if planted:
        git(place.origin, "update-ref", f"{AUDITED}shop/test", place.head())
    git(folder, "fetch", "-q", "--prune")
    (audit,) = await audit_clone(folder, RUNNER, offline=False)
    assert [(p.code.value, p.number) for p in audit.anchoring.problems] == [("anchor-rewritten", 1)]
    git(folder, "reflog", "expire", "--expire=now", "--all")
    git(folder, "gc", "-q", "--prune=now")
    for _ in range(2):
        (audit,) = await audit_clone(folder, RUNNER, offline=False)
        assert [p.code.value for p in audit.anchoring.problems] == ["anchor-rewritten"]


@pytest.mark.parametrize("holds", [True, False])
async def test_what_was_fetched_between_two_looks_was_seen_too(place, clone, holds):
    """Where it goes on from what was seen and is signed; what anybody put there for a while accuses nobody."""
    await place.anchored(1, 2)
    await audit_clone(clone, RUNNER, offline=False)
    before = place.head()
    if holds:
        await place.anchored(3)
    else:
        place.force([*place.ledger.lines(), b'{"n":3}'])
    git(clone, "fetch", "-q", "origin", "+refs/sluice/ledger/*:refs/sluice/ledger/*")
    git(place.origin, "update-ref", REF, before)
    (audit,) = await audit_clone(clone, RUNNER, offline=False)
    found = [(p.code.value, p.number) for p in audit.anchoring.problems]
    assert found == ([("anchor-cut", 3)] if holds else [])


async def test_what_was_fetched_by_hand_first_is_what_the_clone_saw(place, clone):
    """Before any look: the origin then has less, and that shows; offline it is judged as it is."""
    await place.anchored(1, 2)
    git(clone, "fetch", "-q", "origin", "refs/sluice/ledger/*:refs/sluice/ledger/*")
    (alone,) = await audit_clone(clone, RUNNER, offline=True)
    assert (alone.verdict.records, alone.verdict.ok, alone.anchoring) == (2, True, None)
    git(place.origin, "update-ref", REF, f"{REF}~1")
    (audit,) = await audit_clone(clone, RUNNER, offline=False)
    assert [(p.code.value, p.number) for p in audit.anchoring.problems] == [("anchor-cut", 2)]


async def test_a_branch_that_is_named_like_a_ledger_is_none(place, clone):
    """Somebody's branch refs/heads/refs/sluice/ledger/…: not judged, and nothing of it is written into the clone."""
    await place.anchored(1)
    git(place.origin, "update-ref", f"refs/heads/{PREFIX}evil/test", place.head())
    assert [audit.name for audit in await audit_clone(clone, RUNNER, offline=False)] == ["shop/test"]
    assert "evil" not in git(clone, "for-each-ref")


async def test_a_shallow_clone_of_the_ref_is_no_accusation(place, clone):
    """What came before is not in it: that is said, with the command that brings it, and no record was removed."""
    await place.anchored(1, 2, 3)
    git(clone, "fetch", "-q", "--depth", "1", f"file://{place.origin}", f"+{REF}:{REF}")
    for offline in (False, True):
        with pytest.raises(Refused, match="git fetch --unshallow"):
            await audit_clone(clone, RUNNER, offline=offline)
    git(clone, "fetch", "-q", "--unshallow", f"file://{place.origin}", f"+{REF}:{REF}")
    (audit,) = await audit_clone(clone, RUNNER, offline=False)
    assert (audit.verdict.ok, audit.verdict.records) == (True, 3)
