"""A candidate makes its own promotion no easier: what the policies before it ask for, it has to keep."""

from __future__ import annotations

import pytest

from sluice.drive import Request
from sluice.drive.confirmation import plan_data, plan_text
from sluice.drive.planning import plan_rollout
from sluice.drive.promotion import plan_promotion
from sluice.drive.steps import asked_for
from sluice.gates.waivers import BadWaiver
from sluice.ledger import Ledger
from sluice.model.policy import ChecklistItem, PromotionSpec
from sluice.model.stricter import strictest

ASK = Request("olga@host", "test")


def policy_of(town, *changes, more=""):
    """The town's policy with texts replaced and something added."""
    text = town.spec
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return (text + more).format(**town.keys)


async def promoted(town, who="bob"):
    """What is on main reached prod."""
    await town.proven()
    await town.signed(who)
    await gone(town)


async def gone(town):
    """What was confirmed goes."""
    result = await town.promote()
    assert result.exit_code == 0, result.what


MALLORY = '[signers.mallory]\nkeys = ["{mallory}"]\nmay = ["approve"]\n'


async def rolled_back(town):
    """Prod serves again what it served before."""
    result = await town.drive(town.prod).rollback(ASK)
    assert result.exit_code == 0, result.what
    await town.drive(town.prod).unlock(ASK, "it was looked into")


# ---------------------------------------------------------------- which policies count


@pytest.fixture
async def taken_back(town):
    """Mallory might sign; then she might not, and proof held for a minute; then prod was rolled back."""
    town.policy(policy_of(town, more=MALLORY))
    await promoted(town)
    town.policy(policy_of(town, ("proof_ttl_s = 3600", "proof_ttl_s = 60")))
    await promoted(town)
    await rolled_back(town)
    return town


async def test_after_a_rollback_a_signer_who_was_removed_since_does_not_sign(taken_back):
    """What serves names her; what was promoted last does not, and both must."""
    town = taken_back
    town.policy(policy_of(town, more=f"{MALLORY}# again\n"))
    await town.proven()
    await town.not_taken("PolicyChanged", who="mallory")


async def test_after_a_rollback_the_stricter_rules_go_on(taken_back):
    """The promotion that asked for a fresh proof was left; the one after it still needs one."""
    town = taken_back
    town.policy(policy_of(town, more=f"{MALLORY}# again\n"))
    await town.proven()
    town.prod.clock.elapsed += 61
    await town.refused("ProofStale")
    await promoted(town)
    changed = Ledger(town.prod.paths.ledger).records()[-1]["promoted_policy_changes"]
    assert sorted(changed) == ["promotion.proof_ttl_s", "signers.mallory"]


async def test_a_lost_release_of_the_last_promotion_is_no_empty_policy(taken_back):
    """Its commit still says what it asked for: whom it took away does not sign."""
    town = taken_back
    town.policy(policy_of(town, more=f"{MALLORY}# again\n"))
    await town.proven()
    last = max(release.id for release in town.prod.releases.all())
    (town.prod.paths.env_dir / "releases" / f"{last}.json").unlink()
    await town.not_taken("PolicyChanged", who="mallory")


# ---------------------------------------------------------------- the checklist

HUMAN = ChecklistItem("backup", "Backed up.")
MACHINE = ChecklistItem("backup", "Backed up.", command=("true",))
OTHER = ChecklistItem("room", "There is room.", command=("test", "-w", "/"))


@pytest.mark.parametrize(
    ("now", "before", "both"),
    [
        ([MACHINE], [[HUMAN]], [HUMAN]),
        ([HUMAN], [[MACHINE]], [MACHINE]),
        ([], [[HUMAN]], [HUMAN]),
        ([OTHER, MACHINE], [[HUMAN]], [OTHER, HUMAN]),
        ([OTHER], [[MACHINE], [HUMAN]], [OTHER, HUMAN]),
        ([OTHER], [[HUMAN], [MACHINE]], [OTHER, HUMAN]),
    ],
)
def test_an_item_that_was_there_stays_as_it_was(now, before, both):
    """Redefined, taken out, in two policies; a new one is added."""
    specs = [PromotionSpec(checklist=tuple(items)) for items in (now, *before)]
    assert list(strictest(*specs).checklist) == both


async def test_a_person_is_asked_though_the_candidate_lets_a_command_answer(town):
    """The same id with `true` for a command: a person has to sign it off for this promotion still."""
    item = '[promotion]\nchecklist = [{{id = "backup", text = "Backed up."}}]'
    carl = ('may = ["checks"]', 'may = ["checks", "checklist"]')
    town.policy(policy_of(town, carl, ("[promotion]", item)))
    await town.proven()
    await town.signed_off("backup", "carl")
    await town.signed()
    await gone(town)
    town.policy(policy_of(town, carl, ("[promotion]", item.replace('."}}', '.", command = ["true"]}}'))))
    await town.proven()
    await town.signed()
    await town.refused("ChecklistOpen")
    await town.signed_off("backup", "carl")
    await gone(town)


# ---------------------------------------------------------------- what the gates are told


async def test_the_gates_are_told_of_the_policies_before(taken_back):
    """Those of what was promoted last and of what serves; of a rollout there are none."""
    town = taken_back
    town.commit("x", "y")
    await town.proven()
    world = town.world(town.prod)
    plan = await plan_promotion(world, "", lambda _text: None)
    before = asked_for(world, plan, ("olga", "ssh-key"), "", {}).before
    assert [(one.promotion.proof_ttl_s, "mallory" in one.signers) for one in before] == [(60, False), (3600, True)]
    test = town.world(town.test)
    rollout = await plan_rollout(test, "main", lambda _text: None)
    assert asked_for(test, rollout, ("olga", "ssh-key"), "", {}).before == ()


# ---------------------------------------------------------------- waivers, and what is shown of the rest

FREEZE = 'freeze = [{{name = "later", since = "2031-01-01T00:00", until = "2031-02-01T00:00"}}]'
NEVER = 'never_waive = ["no-secrets", "freeze"]'


async def test_a_gate_that_was_never_waived_is_not_waived_by_the_candidate_that_allows_it(town):
    """The candidate takes the gate from never_waive: its own promotion passes over it no more than before."""
    town.policy(policy_of(town, ("[promotion]", f"[gates]\n{NEVER}\n[promotion]")))
    await promoted(town)
    town.policy(policy_of(town))
    await town.proven()
    asked = Request("olga@host", "test", waivers={"freeze": "it cannot wait"})
    with pytest.raises(BadWaiver):
        await town.signed(asked=asked)
    result = await town.drive(town.prod).promote(asked)
    assert (result.exit_code, result.record["refusal"]) == (1, "WaiverForbidden")
    # Once that is promoted, the gate may be waived.
    await promoted(town)
    town.commit("x", "y")
    await town.proven()
    await town.signed(asked=asked)
    assert (await town.drive(town.prod).promote(asked)).exit_code == 0


async def test_what_the_policy_was_and_would_be_is_shown_and_signed(town):
    """A freeze that the candidate takes out stands in the plan and in the text, with its window."""
    town.policy(
        policy_of(town, ("[promotion]", f"[gates]\n{FREEZE}\n[promotion]"), ("duration_s = 1", "duration_s = 2"))
    )
    await promoted(town)
    town.policy(policy_of(town))
    await town.proven()
    await town.signed()
    text = max(town.approvals.all(), key=lambda one: one.run).document
    plan = await plan_promotion(town.world(town.prod), "", lambda _text: None)
    window = 'without {"name":"later","kind":"deny","zone":"UTC",'
    assert "policy changes: gates.freeze, watch.duration_s\n" in text
    assert f"policy gates.freeze: {window}" in text
    assert "policy watch.duration_s: 2.0 -> 1.0\n" in text
    shown = " ".join(plan_text(plan, "prod").split())
    assert f"policy changes gates.freeze: {window}" in shown
    assert "policy changes watch.duration_s: 2.0 -> 1.0" in shown
    assert plan_data(plan, "prod")["policy_changes"]["watch.duration_s"] == "2.0 -> 1.0"
