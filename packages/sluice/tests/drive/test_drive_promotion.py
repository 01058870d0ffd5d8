"""Promotions: only what test proved, merged, confirmed by those who may; every refusal has its code and is recorded."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path

import msgspec
import pytest

from sluice.drive import Request, Sibling
from sluice.drive.promotion import plan_promotion
from sluice.drive.world import PromotionMeans
from sluice.engine import FORWARD, State
from sluice.hosts.approvals import FileApprovals
from sluice.hosts.signing import BadSignature, Signed
from sluice.ledger import Ledger
from sluice.model.errors import UsageError
from sluice.model.policy import ChecklistItem, PromotionSpec, Role, Signer
from sluice.model.promotion import Denial, Denied, document, expiry, proof_in
from sluice.model.release import Completed
from sluice.model.spec import EnvironmentName
from sluice.model.verdict import Verdict
from sluice.testing import SPEC, Killed, MemoryWorld, commit_of, killer

ASK = Request("olga@host", "test")
MAIN = Request("ann@host", "test", "main")
SIGNERS = {
    "bob": Signer(("ssh-ed25519 bob",), (Role.APPROVE, Role.CHECKLIST)),
    "eve": Signer(("ssh-ed25519 eve",), (Role.APPROVE,)),
    "ann": Signer(("ssh-ed25519 ann",), (Role.APPROVE,), ("Ann A.",)),
}
POLICY = msgspec.structs.replace(SPEC, signers=SIGNERS, promotion=PromotionSpec(approver_not_author=True))


class Signatures:
    """Stands in for ssh-keygen: a signature is `KEY over DIGEST of the text`."""

    def __init__(self) -> None:
        self.answers = {"test -w /data": 0}

    @staticmethod
    def sign(text, key):
        return f"{key} over {hash(text)}"

    async def verify(self, raw, signature, signers, role):
        key, _, digest = signature.partition(" over ")
        if digest != str(hash(raw.decode())):
            raise BadSignature("SignatureAltered", "altered")
        for name, signer in signers.items():
            if f"ssh-ed25519 {key}" in signer.keys:
                if role not in signer.may:
                    raise BadSignature("SignatureRole", "not for that")
                return Signed(name, f"SHA256:{key}")
        raise BadSignature("SignatureForeign", "nobody's")

    async def run(self, argv, *, timeout_s, **_options):
        words = " ".join(argv)
        return Completed(tuple(argv), self.answers.get(words, 1), "", f"{words}: no", 1, timed_out=timeout_s < 0)


async def nothing():
    """No doubt about the ledgers."""
    return ""


@dataclasses.dataclass
class Pair:
    """A test environment where `main` is proven, and the prod it is promoted to."""

    test: MemoryWorld
    prod: MemoryWorld
    tools: Signatures

    def policy(self, promotion=POLICY.promotion, signers=None):
        spec = msgspec.structs.replace(POLICY, promotion=promotion, signers=signers or SIGNERS)
        self.prod.specs["main"] = spec

    async def plan(self):
        return await plan_promotion(self.prod.world(), "", lambda _text: None)

    async def signed(self, key, *, role=Role.APPROVE, item="", ttl_s=3600.0, alter="", expires=""):
        async def sign(plan):
            until = expires or expiry(self.prod.clock.now(), ttl_s)
            text = document(("shop", "prod"), plan.hash, plan.promotion, until, item)
            signature = self.tools.sign(text, key)
            return text.replace("commits: 1", alter) if alter else text, signature

        return await self.prod.drive().sign(ASK, role, sign)

    async def promote(self, branch=""):
        return await self.prod.drive().promote(Request("olga@host", "test", branch))

    async def denied(self, code, branch=""):
        """The promotion is refused with this code, that is recorded, and prod is as it was."""
        before = self.prod.pointed
        result = await self.promote(branch)
        assert (result.exit_code, result.record["refusal"]) == (1, code), result.what
        assert result.record["type"] == "promotion"
        assert self.prod.pointed == before
        assert Ledger(self.prod.paths.ledger).verify().ok
        return result


@pytest.fixture
async def pair(tmp_path):
    """Proven in test, nothing in prod yet."""
    for name in ("test", "prod"):
        (tmp_path / name).mkdir()
    test = MemoryWorld(tmp_path / "test")
    assert (await test.drive().rollout(MAIN)).exit_code == 0
    tools = Signatures()
    prod = MemoryWorld(tmp_path / "prod", environment=EnvironmentName.PROD)
    prod.clock = test.clock
    prod.artifact = test.artifact
    approvals = FileApprovals(prod.paths.env_dir / "approvals")
    prod.promotion = PromotionMeans(Sibling(test.paths, test.releases, 5), approvals, tools.verify, tools, nothing)
    pair = Pair(test, prod, tools)
    pair.policy()
    return pair


def later(pair, seconds):
    """Time passes."""
    pair.prod.clock.elapsed += seconds


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


async def test_a_feature_branch_never_reaches_prod(pair):
    """Neither by promote nor by rollout, whatever was approved."""
    await pair.signed("bob")
    await pair.denied("FeatureBranch", "feature/good")
    result = await pair.prod.drive().rollout(Request("olga@host", "test", "feature/good"))
    assert (result.exit_code, result.record["refusal"]) == (1, "FeatureBranch")


async def test_what_is_not_merged_is_refused(pair):
    """A success of a branch in test says nothing about main, which lacks it."""
    pair.prod.branches.add("release")
    assert (await pair.test.drive().rollout(Request("ann@host", "test", "feature/good"))).exit_code == 0
    pair.prod.unmerged.add(commit_of("feature/good").sha)
    world = dataclasses.replace(pair.prod.world(), policy_ref="release")
    with pytest.raises(Denied) as denied:
        await plan_promotion(world, "", lambda _text: None)
    assert denied.value.code == "NotMerged"
    assert "merge feature/good into release" in denied.value.next


async def test_a_tree_that_test_never_saw_is_refused(pair):
    """Main moved on: what was proven is not what it holds now."""
    pair.prod.branches.add("release")
    world = dataclasses.replace(pair.prod.world(), policy_ref="release")
    with pytest.raises(Denied) as denied:
        await plan_promotion(world, "", lambda _text: None)
    assert denied.value.code == "NotProven"


async def test_the_newest_attempt_counts(pair):
    """An older success in test does not count once the same tree failed there, nor once it was rolled back from."""
    pair.test.verdicts["watch", "main"] = Verdict.FAIL
    failed = await pair.test.drive().rollout(dataclasses.replace(MAIN, override="try"))
    assert failed.exit_code == 3
    result = await pair.denied("NewestAttemptFailed")
    assert failed.run in result.what


async def test_what_test_rolled_back_from_is_refused(pair):
    """Somebody left this release in test by hand: its success is no proof any more."""
    assert (await pair.test.drive().rollout(Request("ann@host", "test", "feature/good"))).exit_code == 0
    assert (await pair.test.drive().rollout(MAIN)).exit_code == 0
    assert (await pair.test.drive().rollback(ASK)).exit_code == 0
    await pair.denied("NewestAttemptFailed")


@pytest.mark.parametrize("entry", ["begin", "intent:building", "observed:smoking_private", "intent:watching"])
async def test_an_attempt_that_did_not_end_is_waited_for(pair, entry):
    """The same tree went to test again, and that was killed or still runs: the older success says nothing meanwhile."""
    await pair.signed("bob")
    with pytest.raises(Killed):
        await pair.test.drive(killer(entry)).rollout(MAIN)
    result = await pair.denied("NewestAttemptOpen")
    assert "sluice resume --env test" in result.next
    await pair.test.drive().resume(ASK)
    assert (await pair.test.drive().rollout(MAIN)).exit_code == 0
    await pair.signed("bob")
    assert (await pair.promote()).exit_code == 0


async def test_a_rollback_that_did_not_end_is_waited_for(pair):
    """Somebody is just leaving what test proved."""
    assert (await pair.test.drive().rollout(Request("ann@host", "test", "feature/good"))).exit_code == 0
    assert (await pair.test.drive().rollout(MAIN)).exit_code == 0
    with pytest.raises(Killed):
        await pair.test.drive(killer("intent:switching")).rollback(ASK)
    await pair.denied("NewestAttemptOpen")


async def test_what_else_goes_on_in_test_is_nobodys_business(pair):
    """A rollout of another tree, killed half-way, says nothing of this one."""
    await pair.signed("bob")
    with pytest.raises(Killed):
        await pair.test.drive(killer("intent:watching")).rollout(Request("ann@host", "test", "feature/good"))
    assert (await pair.promote()).exit_code == 0


@pytest.mark.parametrize("outcome", ["done", "degraded", "rolled_back", "rollback_failed"])
def test_a_rollback_from_it_counts_however_it_ended(outcome):
    """Also one that left something behind, or came back to where it had begun: somebody saw a reason to leave.

    A refused one changed nothing, and what had died and was started again was not left.
    """
    good = {"type": "rollout", "tree": "t", "release": "r1", "run": "1", "outcome": "done", "decision": "go"}
    good |= {"smoke_result": "pass", "ended": "2026-11-23T10:00:00Z"}
    left = {"type": "rollback", "tree": "old", "release": "r0", "from_release": "r1", "run": "2"}
    now = "2026-11-23T11:00:00Z"
    again = {**left, "release": "r1", "outcome": "done", "decision": "rollback"}
    for no_reason in ({**left, "outcome": "refused", "decision": "refused"}, again):
        assert proof_in([good, no_reason], "t", now, 7200) == good
    with pytest.raises(Denied, match="rolled back from, in run 2"):
        proof_in([good, {**left, "outcome": outcome, "decision": "rollback"}], "t", now, 7200)


async def test_an_old_proof_is_stale(pair):
    """The policy says how old a success in test may be."""
    pair.policy(PromotionSpec(proof_ttl_s=60))
    later(pair, 61)
    await pair.denied("ProofStale")


async def test_an_artifact_that_is_gone_is_refused(pair):
    """What would be built anew is not what was proven."""
    pair.test.artifact.rmdir()
    await pair.denied("ArtifactGone")


async def test_another_artifact_is_refused(pair):
    """Prod's own settings must not change what is built."""
    await pair.signed("bob")
    pair.prod.digests = {"a": "other"}
    await pair.denied("ArtifactDiffers")


async def test_an_artifact_that_was_changed_on_disk_is_refused(pair):
    """What passed test is read again: when it is planned, and, with its key, once more when it is taken for prod."""
    await pair.signed("bob")
    pair.prod.altered = "tree/app.py is another"
    result = await pair.denied("ArtifactChanged")
    assert "tree/app.py is another" in result.what
    assert "build" not in pair.prod.log
    with pytest.raises(Denied) as denied:
        await pair.signed("bob")
    assert denied.value.code == "ArtifactChanged"
    pair.prod.altered = ""
    pair.prod.digests = {"a": "b", "content:own": "changed while the gates ran"}
    result = await pair.denied("ArtifactChanged")
    assert "content:own" in result.what
    assert "start" not in pair.prod.log


@pytest.mark.parametrize("digests", [{"a": "b", "content:own": "another"}, {"a": "b"}, {}])
async def test_a_release_that_names_other_contents_than_the_ledger_is_refused(pair, digests):
    """Its file lies beside what was changed; the record of the run that proved it is signed."""
    release = next(iter(pair.test.releases.all()))
    changed = msgspec.structs.replace(release.artifact, digests=digests)
    pair.test.releases.save(msgspec.structs.replace(release, artifact=changed))
    result = await pair.denied("ArtifactChanged")
    assert "the ledger" in result.what


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
    assert plan.promotion.policy_changed == ("signers.mallory",)
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


async def test_an_approval_is_no_sign_off(pair):
    """A text of one role never passes for the other."""
    pair.policy(PromotionSpec(checklist=(ChecklistItem("backup", "Backed up."),)))
    with pytest.raises(UsageError):
        await pair.signed("bob", role=Role.CHECKLIST)
    with pytest.raises(Denied) as denied:
        await pair.signed("bob", role=Role.APPROVE, item="backup")
    assert denied.value.code == "PlanAltered"


async def test_refs_are_looked_at_again(pair):
    """Main moved while the gates ran: what was approved is not its tip any more."""
    await pair.signed("bob")
    original = pair.prod.resolve

    async def moved(branch):
        commit = await original(branch)
        asked = "gates" in pair.prod.log
        return msgspec.structs.replace(commit, sha="f" * 40) if asked else commit

    pair.prod.resolve = moved
    await pair.denied("RefsMoved")


async def test_what_serves_already_is_not_promoted_again(pair):
    """The same tree with the same settings."""
    await pair.signed("bob")
    assert (await pair.promote()).exit_code == 0
    await pair.denied("AlreadyServes")


async def test_a_locked_prod_takes_no_promotion(pair):
    """A lock holds for promotions as for rollouts."""
    await pair.signed("bob")
    await pair.prod.drive().lock(ASK, "Black Friday")
    with pytest.raises(Exception, match="Black Friday"):
        await pair.promote()


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
    """One good release serves prod, the trail holds, and a signature is used up exactly when users were touched."""
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
    if record["decision"] == "refused":
        assert (await pair.promote()).exit_code == 0
    elif record["outcome"] != "done":
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
