"""What proves a promotion: the newest attempt in test, merged, and the very artifact it left."""

from __future__ import annotations

import dataclasses
import json

import msgspec
import pytest

from sluice.drive import Request
from sluice.drive.confirmation import plan_data, plan_text
from sluice.drive.promotion import plan_promotion
from sluice.drive.unchanged import forged
from sluice.ledger import Ledger
from sluice.model.errors import ConfigError, UsageError
from sluice.model.policy import PromotionSpec, Role, Signer
from sluice.model.promotion import Denied, document, proof_in
from sluice.model.verdict import Verdict
from sluice.testing import Killed, commit_of, killer

from .pair import ASK, MAIN, later


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
    # The same rollout would be refused as bad: what is to be typed says why it is not.
    assert result.next.startswith("sluice rollout --env test --branch main --override 'WHY'")
    pair.test.verdicts.clear()
    await pair.test.drive().unlock(ASK, "it was the probe")
    assert (await pair.test.drive().rollout(dataclasses.replace(MAIN, override="WHY"))).exit_code == 0
    assert (await pair.plan()).promotion is not None


async def test_what_test_rolled_back_from_is_refused(pair):
    """Somebody left this release in test by hand: its success is no proof any more."""
    assert (await pair.test.drive().rollout(Request("ann@host", "test", "feature/good"))).exit_code == 0
    assert (await pair.test.drive().rollout(MAIN)).exit_code == 0
    assert (await pair.test.drive().rollback(ASK)).exit_code == 0
    await pair.denied("NewestAttemptFailed")


@pytest.mark.parametrize("entry", ["observed:building", "observed:smoking_private", "intent:watching"])
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


@pytest.mark.parametrize("entry", ["begin", "observed:planning", "intent:building"])
@pytest.mark.parametrize("branch", ["main", "feature/good"])
async def test_a_run_without_an_artifact_is_no_attempt(pair, entry, branch):
    """It may be refused yet, as any gate refuses: nobody's planning stops a promotion."""
    await pair.signed("bob")
    with pytest.raises(Killed):
        await pair.test.drive(killer(entry)).rollout(dataclasses.replace(MAIN, branch=branch))
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


@pytest.mark.parametrize(
    ("ended", "code", "said"),
    [
        ("2026-11-23T13:59:00Z", "ProofStale", r"2.97 hours from now, in run 1: its clock is ahead"),
        ("2026-11-23T11:06:00Z", "ProofStale", r"5.03 minutes from now"),
        ("2026-11-23T10:58:00Z", "ProofStale", r"2.97 minutes ago, in run 1; the policy takes 20 seconds"),
        ("2026-11-23T10:59:00", "RecordDoubtful", r"does not say when it ended \('2026-11-23T10:59:00'\)"),
        ("yesterday", "RecordDoubtful", "does not say when it ended"),
        (None, "RecordDoubtful", "does not say when it ended"),
    ],
)
def test_a_proof_that_nobody_knows_the_age_of_is_none(ended, code, said):
    """One from the future would be fresh for too long; what is no time is told, and is no fault of Sluice's own.

    Clocks of two hosts may differ a little.
    """
    good = {"type": "rollout", "tree": "t", "release": "r1", "run": "1", "outcome": "done", "decision": "go"}
    good |= {"smoke_result": "pass"}
    now = "2026-11-23T11:00:58Z"
    with pytest.raises(Denied, match=said) as denied:
        proof_in([{**good, "ended": ended}], "t", now, 20)
    assert denied.value.code == code
    ahead = {**good, "ended": "2026-11-23T11:05:57Z"}
    assert proof_in([ahead], "t", now, 20) == ahead


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
    assert "says something else than was recorded" in result.what


async def test_the_file_of_what_serves_is_held_against_the_ledger(pair):
    """By its policy signatures are judged too: whoever writes the state folder must not name who may approve."""
    await pair.signed("bob")
    assert (await pair.promote()).exit_code == 0
    pair.prod.env_file = "another"
    release, _ = pair.prod.releases.serving()
    mallory = {**release.spec.signers, "mallory": release.spec.signers["bob"]}
    pair.prod.releases.save(
        msgspec.structs.replace(release, spec=msgspec.structs.replace(release.spec, signers=mallory))
    )
    result = await pair.denied("RecordDoubtful")
    assert "says something else than was recorded" in result.what


async def test_another_version_that_knows_other_keys_finds_the_file_as_it_was(pair):
    """What is compared is what the file holds, not what is read out of it: a key with a default came or went."""
    await pair.signed("bob")
    assert (await pair.promote()).exit_code == 0
    for world in (pair.prod, pair.test):
        release = world.releases.all()[-1]
        path = world.paths.releases_dir / f"{release.id}.json"
        told = json.loads(path.read_bytes())
        del told["spec"]["run"]["stop_grace_s"]  # a version that did not know it wrote this, and recorded it so
        records = Ledger(world.paths.ledger).records()
        path.write_bytes(json.dumps(told).encode())
        run = next(one for one in records if one.get("release") == release.id)
        assert forged([{**run, "release_digest": world.releases.digest(release.id)}], world.releases, release.id) == ""
        assert "something else" in forged(records, world.releases, release.id)


class NoCommit(dict):
    """The specifications of a repository that lost what was promoted."""

    def get(self, where, otherwise=None):
        if where.startswith("commit "):
            raise ConfigError(f"{where} has no sluice.toml.")
        return super().get(where, otherwise)


async def left_behind(pair):
    """Two promotions, and prod went back to the first: gives the release that was promoted last and was left."""
    for env_file in ("fingerprint", "another"):
        pair.prod.env_file = env_file
        await pair.signed("bob")
        assert (await pair.promote()).exit_code == 0
    assert (await pair.prod.drive().rollback(ASK)).exit_code == 0
    await pair.prod.drive().unlock(ASK, "it was looked into")
    return pair.prod.releases.all()[-1]


async def test_what_was_promoted_last_and_is_in_no_file_and_in_no_commit_is_no_empty_policy(pair):
    """Nobody can say what it asked for: refused until its file is back."""
    last = await left_behind(pair)
    (pair.prod.paths.releases_dir / f"{last.id}.json").unlink()
    pair.prod.specs = NoCommit(pair.prod.specs)
    result = await pair.denied("PolicyChanged")
    assert "known neither by its file nor by commit" in result.what


async def test_where_the_file_of_what_was_promoted_last_is_forged_git_has_its_policy(pair):
    """Prod went back to the release before; the file of what it left names an approver whom its commit does not."""
    last = await left_behind(pair)
    mallory = {**last.spec.signers, "mallory": Signer(("ssh-ed25519 mallory",), (Role.APPROVE,))}
    pair.prod.releases.save(msgspec.structs.replace(last, spec=msgspec.structs.replace(last.spec, signers=mallory)))
    pair.policy(signers=mallory)
    with pytest.raises(Denied) as denied:
        await pair.signed("mallory")
    assert denied.value.code == "PolicyChanged"
    assert (await pair.plan()).promotion.before[0].release == last.id


async def test_the_file_of_what_was_proven_is_held_against_the_ledger(pair):
    """A release of test that says other commands than those which were proven proves nothing."""
    (release,) = pair.test.releases.all()
    other = msgspec.structs.replace(release.spec, run=msgspec.structs.replace(release.spec.run, command=("x",)))
    pair.test.releases.save(msgspec.structs.replace(release, spec=other))
    await pair.denied("ArtifactChanged")


async def test_what_serves_already_is_named_by_the_commit_that_serves(pair):
    """A merge may bring main to a commit with the same files: the sentence names the one that users are on."""
    await pair.signed("bob")
    assert (await pair.promote()).exit_code == 0
    original = pair.prod.resolve

    async def resolve(branch):
        return msgspec.structs.replace(await original(branch), sha="f" * 40)

    pair.prod.resolve = resolve
    result = await pair.denied("AlreadyServes")
    served = pair.prod.releases.serving()[0].commit.sha[:12]
    assert f"(commit {served}), which has the same files as ffffffffffff, serves already" in result.what


async def test_what_waits_in_test_unmerged_is_named_where_main_serves_already(pair):
    """Whoever promotes may have meant the branch that test serves: nothing says that there is nothing to do."""
    await pair.signed("bob")
    assert (await pair.promote()).exit_code == 0
    assert (await pair.denied("AlreadyServes")).next == "nothing: sluice status --env prod"
    assert (await pair.test.drive().rollout(Request("ann@host", "test", "feature/good"))).exit_code == 0
    sha = commit_of("feature/good").sha
    pair.prod.unmerged.add(sha)
    result = await pair.denied("AlreadyServes")
    assert f"feature/good ({sha[:12]}), which test serves, goes nowhere before it is merged into main" in result.next


async def test_a_commit_that_serves_and_is_in_no_branch_any_more(pair):
    """Nobody can say what would change; how to bring it back is said."""
    await pair.signed("bob")
    assert (await pair.promote()).exit_code == 0
    pair.prod.env_file = "another"
    sha = pair.prod.releases.serving()[0].commit.sha
    pair.prod.broken["contains"] = UsageError("no such commit")
    result = await pair.denied("HistoryGone")
    assert f"git push origin {sha}:refs/tags/" in result.next


async def test_what_a_branch_that_was_forced_back_takes_away_is_shown_and_signed(pair):
    """No commit is new, and one that serves goes: plan, text and data for programs say so."""
    await pair.signed("bob")
    assert (await pair.promote()).exit_code == 0
    pair.prod.env_file = "another"
    served = pair.prod.releases.serving()[0].commit.sha
    pair.prod.unmerged.add(served)
    plan = await pair.plan()
    assert "taken back      1" in plan_text(plan, "prod")
    assert plan_data(plan, "prod")["taken_back"] == [served]
    assert "commits taken back: 1\n" in document(("shop", "prod"), plan.hash, plan.promotion, "2031-01-01T00:00:00Z")


async def test_a_signature_for_nothing_is_recorded_too(pair):
    """There was no plan to sign: the attempt, who made it, and why it was refused are in the ledger."""
    pair.test.artifact.rmdir()
    with pytest.raises(Denied):
        await pair.signed("bob")
    (record,) = Ledger(pair.prod.paths.ledger).records()
    assert (record["type"], record["outcome"], record["refusal"]) == ("approval", "refused", "ArtifactGone")
    assert (record["owner"], record["plan"], record["commit"]) == (ASK.owner, "", "")
