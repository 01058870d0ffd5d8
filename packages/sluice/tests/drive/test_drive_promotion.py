"""Promotions: only what was confirmed, by those who may; every refusal has its code and is recorded."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path

import msgspec
import pytest

from sluice.drive.promotion import plan_promotion
from sluice.engine import FORWARD, State
from sluice.gates.waivers import BadWaiver
from sluice.ledger import Ledger
from sluice.model.errors import Locked, StepFailed, UsageError
from sluice.model.policy import ChecklistItem, PromotionSpec, Role, Signer
from sluice.model.promotion import Denial, Denied, document, expiry
from sluice.model.verdict import Verdict
from sluice.testing import Killed, commit_of, killer

from .pair import ASK, SIGNERS, later


async def test_what_was_proven_and_approved_reaches_prod(pair):
    """The artifact of test serves in prod; the record names the proof, the approver, key and digest."""
    await pair.signed("bob")
    result = await pair.promote()
    assert (result.outcome, result.exit_code) == (State.DONE, 0)
    record = result.record
    assert (record["type"], record["decision"], record["proof_run"]) == ("promotion", "go", "run-0001")
    assert record["artifact_key"] == f"key-{commit_of('main').tree}"
    assert [(one["principal"], one["role"], one["signed_with"]) for one in record["approvals"]] == [
        ("bob", "approve", "SHA256:bob")
    ]
    assert pair.prod.serving_release() == record["release"]
    kinds = [one["type"] for one in Ledger(pair.prod.paths.ledger).records()]
    assert kinds == ["approval", "promotion"]


async def test_nobody_approved(pair):
    """Without a signature there is no prod, and it says how to give one."""
    result = await pair.denied("ApprovalMissing")
    assert "0 of 1 approvals" in result.what
    assert "sluice approve" in result.what or "sluice approve" in str(result.record["gates"])


async def test_two_approvals_are_of_two_people(pair):
    """The same person twice is one approval."""
    pair.policy(PromotionSpec(approvals=2))
    await pair.signed("bob")
    later(pair, 2)
    await pair.signed("bob")
    await pair.denied("ApprovalMissing")
    await pair.signed("eve")
    assert (await pair.promote()).exit_code == 0


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"key": "bob", "alter": "commits: 0"}, "PlanAltered"),
        ({"key": "mallory"}, "SignatureForeign"),
        ({"key": "ann"}, "ApprovalByAuthor"),
        ({"key": "bob", "ttl_s": 90000.0}, "ApprovalTooLong"),
        ({"key": "bob", "ttl_s": -1.0}, "ApprovalExpired"),
        ({"key": "bob", "expires": "soon"}, "PlanAltered"),
        ({"key": "bob", "expires": "2031-01-01T00:00:00"}, "PlanAltered"),
    ],
)
async def test_a_signature_that_does_not_hold_is_not_taken_in(pair, how, code):
    """Each way to be wrong has its own code, which is recorded; the signature is not kept."""
    with pytest.raises(Denied) as denied:
        await pair.signed(**how)
    assert denied.value.code == code
    assert pair.prod.promotion.approvals.all() == []
    (record,) = Ledger(pair.prod.paths.ledger).records()
    assert (record["type"], record["outcome"], record["refusal"]) == ("approval", "refused", code)
    assert (record["owner"], record["principal"], record["reason"]) == (ASK.owner, "", denied.value.what)
    assert Ledger(pair.prod.paths.ledger).verify().ok


async def test_an_approval_ends(pair):
    """What was approved an hour ago is approved no more."""
    await pair.signed("bob")
    later(pair, 3601)
    await pair.denied("ApprovalExpired")


async def test_what_is_left_of_earlier_promotions_says_nothing(pair):
    """A used and a forgotten signature of other plans: the next plan has none, and that is what is said."""
    await pair.signed("bob")
    assert (await pair.promote()).exit_code == 0
    pair.prod.env_file = "another"
    await pair.denied("ApprovalMissing")
    await pair.signed("bob")
    pair.prod.env_file = "a third"
    await pair.denied("PlanAltered")
    later(pair, 3601)
    await pair.denied("ApprovalMissing")


async def test_an_approval_is_of_one_plan(pair):
    """The env file changed after the signature: what would be done now is not what was signed."""
    await pair.signed("bob")
    pair.prod.env_file = "another"
    await pair.denied("PlanAltered")


async def test_an_approval_is_acted_upon_once(pair):
    """After a promotion that was undone the world is as before, and the signature is used up all the same."""
    await pair.signed("bob")
    pair.prod.verdicts["smoke public", "main"] = Verdict.FAIL
    assert (await pair.promote()).exit_code == 7
    pair.prod.verdicts.clear()
    # Passing over that this tree is remembered as bad is another plan, which nobody signed.
    overridden = dataclasses.replace(ASK, override="it was the probe")
    for asked, code in ((ASK, "ApprovalUsed"), (overridden, "ApprovalMissing")):
        assert (await pair.prod.drive().promote(asked)).record["refusal"] == code


async def test_a_second_signature_of_one_person_carries_no_second_run(pair):
    """Bob signed the plan twice; a run acted on one of them, and the other was for the same run."""
    await pair.signed("bob")
    later(pair, 2)
    await pair.signed("bob")
    pair.prod.verdicts["smoke public", "main"] = Verdict.FAIL
    assert (await pair.promote()).exit_code == 7
    pair.prod.verdicts.clear()
    await pair.denied("ApprovalUsed")


@pytest.mark.parametrize(
    ("waivers", "code"),
    [({"no-secrets": "old"}, "WaiverForbidden"), ({"frieze": "x"}, "WaiverUnknown"), ({"freeze": ""}, "WaiverEmpty")],
)
async def test_a_waiver_that_cannot_be_taken_is_signed_by_nobody(pair, waivers, code):
    """It is refused with the plan: nobody reads and signs what is refused afterwards; the promotion records it."""
    with pytest.raises(BadWaiver) as refused:
        await plan_promotion(pair.prod.world(), "", lambda _text: None, waivers)
    assert refused.value.code == code
    result = await pair.prod.drive().promote(dataclasses.replace(ASK, waivers=waivers))
    assert (result.exit_code, result.record["refusal"]) == (1, code)


async def test_what_is_passed_over_is_signed_too(pair):
    """A waiver that the approver did not sign makes another plan; the one that was signed is in text and record."""
    waiving = dataclasses.replace(ASK, waivers={"freeze": "the fix cannot wait"})
    await pair.signed("bob")
    result = await pair.prod.drive().promote(waiving)
    assert result.record["refusal"] == "PlanAltered"
    pair.prod.verdicts["gates", "main"] = Verdict.PASS
    texts = []

    async def sign(plan):
        text = document(("shop", "prod"), plan.hash, plan.promotion, expiry(pair.prod.clock.now(), 3600), "")
        texts.append(text)
        return text, pair.tools.sign(text, "bob")

    await pair.prod.drive().sign(waiving, Role.APPROVE, sign)
    assert "exceptions: freeze (the fix cannot wait)" in texts[0]
    assert (await pair.prod.drive().promote(waiving)).exit_code == 0


async def test_a_refused_promotion_uses_no_approval_up(pair):
    """A gate that says no before anything was touched costs nobody a signature."""
    await pair.signed("bob")
    pair.prod.verdicts["gates", "main"] = Verdict.FAIL
    assert (await pair.promote()).exit_code == 1
    pair.prod.verdicts.clear()
    assert (await pair.promote()).exit_code == 0


async def test_who_a_candidate_names_may_not_wave_it_through(pair):
    """Signers that the candidate's own commits brought in sign only beside those who were named before."""
    await pair.signed("bob")
    assert (await pair.promote()).exit_code == 0
    pair.prod.env_file = "another"
    mallory = {**SIGNERS, "mallory": Signer(("ssh-ed25519 mallory",), (Role.APPROVE,))}
    pair.policy(signers=mallory)
    with pytest.raises(Denied) as denied:
        await pair.signed("mallory")
    assert denied.value.code == "PolicyChanged"
    plan = await pair.plan()
    assert list(plan.promotion.policy_changed) == ["signers.mallory"]
    await pair.signed("bob")
    assert (await pair.promote()).exit_code == 0


async def test_the_checklist_is_a_gate(pair):
    """An open item refuses; a person signs hers off by name, a machine looks itself."""
    items = (
        ChecklistItem("backup", "The database was backed up."),
        ChecklistItem("disk", "The disk takes writes.", command=("test", "-w", "/data")),
    )
    pair.policy(PromotionSpec(checklist=items))
    await pair.signed("bob")
    result = await pair.denied("ChecklistOpen")
    assert "backed up" in result.what
    with pytest.raises(Denied) as denied:
        await pair.signed("eve", role=Role.CHECKLIST, item="backup")
    assert denied.value.code == "SignatureRole"
    with pytest.raises(UsageError, match="'disk'"):
        await pair.signed("bob", role=Role.CHECKLIST, item="disk")
    await pair.signed("bob", role=Role.CHECKLIST, item="backup")
    pair.tools.answers["test -w /data"] = 1
    await pair.denied("ChecklistOpen")
    pair.tools.answers["test -w /data"] = 0
    done = await pair.promote()
    assert done.exit_code == 0
    assert {(one["role"], one["item"]) for one in done.record["approvals"]} == {
        ("approve", ""),
        ("checklist", "backup"),
    }


ROOM = ChecklistItem("room", "There is room.", command=("test", "-w", "/data"))
BACKUP = ChecklistItem("backup", "Backed up.")


async def test_a_command_of_the_candidate_is_not_run_before_it_is_approved(pair):
    """Nobody approved, or a person's item is open: the command is skipped, and the refusal is for what is missing."""
    pair.policy(PromotionSpec(checklist=(ROOM, BACKUP)))
    await pair.signed("bob", role=Role.CHECKLIST, item="backup")
    result = await pair.denied("ApprovalMissing")
    told = {one["name"]: (one["verdict"], one["detail"]) for one in result.record["gates"]}
    assert told["checklist-room"] == ("skipped", "There is room. Not asked before it is approved.")
    assert pair.tools.ran == []
    pair.policy(PromotionSpec(checklist=(ROOM, BACKUP, ChecklistItem("told", "They were told."))))
    await pair.signed("bob")
    await pair.signed("bob", role=Role.CHECKLIST, item="backup")
    await pair.denied("ChecklistOpen")
    assert pair.tools.ran == []
    await pair.signed("bob", role=Role.CHECKLIST, item="told")
    assert (await pair.promote()).exit_code == 0
    assert pair.tools.ran == ["test -w /data"]


async def test_a_command_that_does_not_end_leaves_its_item_open(pair):
    """Nobody knows what it would have said: refused under the item's code, with the command to try by hand."""
    slow = msgspec.structs.replace(ROOM, timeout_s=-1.0)  # the stand-in says of any time below none that it ran out
    pair.policy(PromotionSpec(checklist=(slow,)))
    await pair.signed("bob")
    result = await pair.denied("ChecklistOpen")
    assert "did not end within" in result.what
    assert result.next == "test -w /data"


async def test_a_command_that_was_promoted_before_is_asked_at_any_time(pair):
    """Word for word: who is to approve sees what it says; with one word more it waits for them."""
    pair.policy(PromotionSpec(checklist=(ROOM,)))
    await pair.signed("bob")
    assert (await pair.promote()).exit_code == 0
    pair.prod.env_file = "another"
    pair.tools.answers["test -w /data"] = 1
    await pair.denied("ChecklistOpen")
    assert pair.tools.ran == ["test -w /data"] * 2
    more = ChecklistItem("more", "More.", command=(*ROOM.command, "-a", "-w", "/"))
    pair.policy(PromotionSpec(checklist=(more,)))
    await pair.denied("ChecklistOpen")
    assert pair.tools.ran == ["test -w /data"] * 3


async def test_an_approval_is_no_sign_off(pair):
    """A text of one role never passes for the other."""
    pair.policy(PromotionSpec(checklist=(ChecklistItem("backup", "Backed up."),)))
    with pytest.raises(UsageError):
        await pair.signed("bob", role=Role.CHECKLIST)
    with pytest.raises(Denied) as denied:
        await pair.signed("bob", role=Role.APPROVE, item="backup")
    assert denied.value.code == "PlanAltered"


async def test_refs_are_looked_at_again(pair):
    """Main moved while the gates ran: what was approved is not its tip any more. What was asked is recorded."""
    await pair.signed("bob")
    original = pair.prod.resolve

    async def moved(branch):
        commit = await original(branch)
        asked = "gates" in pair.prod.log
        return msgspec.structs.replace(commit, sha="f" * 40) if asked else commit

    pair.prod.resolve = moved
    record = (await pair.denied("RefsMoved")).record
    assert [one["name"] for one in record["gates"]] == ["branch-policy", "approval"]
    assert [one["principal"] for one in record["approvals"]] == ["bob"]
    assert not record["touched"]


async def test_what_serves_already_is_not_promoted_again(pair):
    """The same tree with the same settings."""
    await pair.signed("bob")
    assert (await pair.promote()).exit_code == 0
    await pair.denied("AlreadyServes")


async def test_a_locked_prod_takes_no_promotion(pair):
    """A lock holds for promotions as for rollouts; that somebody tried is recorded, and nothing of it is used up."""
    await pair.signed("bob")
    lock = await pair.prod.drive().lock(ASK, "Black Friday")
    before = pair.prod.log.copy()
    with pytest.raises(Locked, match="Black Friday"):
        await pair.promote()
    assert pair.prod.log == before
    record = Ledger(pair.prod.paths.ledger).records()[-1]
    assert (record["n"], record["type"], record["outcome"]) == (lock["n"] + 1, "promotion", "refused")
    assert (record["refusal"], record["exit_code"], record["decision"]) == ("Locked", 6, "refused")
    assert ("Black Friday" in record["reason"], record["locked"]) == (True, "")
    await pair.prod.drive().unlock(ASK, "over")
    assert (await pair.promote()).exit_code == 0


async def test_a_promotion_that_breaks_is_rolled_back(pair):
    """Prod's own verification is part of the run."""
    await pair.signed("bob")
    assert (await pair.promote()).exit_code == 0
    first = pair.prod.serving_release()
    pair.prod.env_file = "another"
    await pair.signed("bob")
    pair.prod.verdicts["watch", "main"] = Verdict.FAIL
    result = await pair.promote()
    assert result.exit_code == 3
    assert pair.prod.serving_release() == first


@pytest.mark.parametrize(
    "entry",
    ["begin", *(f"{kind}:{state}" for state in FORWARD[:-1] for kind in ("intent", "observed")), "end"],
)
async def test_a_promotion_killed_anywhere_is_recovered(pair, entry):
    """One good release serves prod, the trail holds, and a signature is used up once the migration was announced."""
    await pair.signed("bob")
    assert (await pair.promote()).exit_code == 0
    pair.prod.env_file = "another"
    await pair.signed("bob")
    with pytest.raises(Killed):
        await pair.prod.drive(killer(entry)).promote(ASK)
    results = await pair.prod.drive().resume(ASK)
    assert len(results) == (0 if entry == "end" else 1)
    ledger = Ledger(pair.prod.paths.ledger)
    assert ledger.verify().ok
    assert set(pair.prod.running.values()) == {pair.prod.serving_release()}
    record = next(one for one in reversed(ledger.records()) if one["type"] == "promotion")
    confirmed = entry not in {"begin", "intent:planning", "observed:planning", "intent:gating"}
    assert bool(record["commit"]) == (entry not in {"begin", "intent:planning"})
    assert bool(record.get("approvals")) == confirmed
    touched = killed_in(entry) >= FORWARD.index(State.MIGRATING) or entry == "end"
    assert record.get("touched", False) == touched  # without a plan there is nothing of a promotion in it
    if not touched:
        assert (await pair.promote()).exit_code == 0
    elif record["outcome"] != "done":
        await pair.denied("ApprovalUsed")


def killed_in(entry):
    """Which step was announced last before this entry; an observation that is written ends its step and no more."""
    return FORWARD.index(State(entry.partition(":")[2])) if ":" in entry else -1


@pytest.mark.parametrize("what", ["ready", "smoke private", "migrate"])
async def test_a_run_that_may_have_migrated_has_used_its_signature_up(pair, what):
    """Refused before any user saw it, and the database may be another: the same signature takes no second run there."""
    await pair.signed("bob")
    assert (await pair.promote()).exit_code == 0
    pair.prod.env_file = "another"
    await pair.signed("bob")
    if what == "migrate":
        pair.prod.broken["migrate"] = StepFailed("the database is away")
    pair.prod.verdicts[what, "main"] = Verdict.INCONCLUSIVE
    result = await pair.promote()
    assert (result.outcome, result.record["decision"], result.record["touched"]) == (State.REFUSED, "refused", True)
    pair.prod.broken.clear()
    pair.prod.verdicts.clear()
    await pair.denied("ApprovalUsed")


def test_expiry_is_in_whole_seconds():
    """The text is read by people; the time in it is UTC."""
    assert expiry("2030-01-01T00:00:00.500000000Z", 60) == "2030-01-01T00:01:00Z"
    assert dt.datetime.fromisoformat(expiry("2030-01-01T00:00:00Z", 1)).tzinfo is not None


def test_every_denial_is_explained():
    """The reference has each code, and what to do."""
    page = (Path(__file__).parents[4] / "docs/reference/promotion.md").read_text()
    codes = {*Denial, "SignatureAltered", "SignatureForeign", "SignatureRole"}
    assert [code for code in sorted(codes) if f"| `{code}` |" not in page] == []
