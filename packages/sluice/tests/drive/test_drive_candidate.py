"""What a candidate changes in who may sign, and by which rules, over real git repositories and real signatures."""

from __future__ import annotations

import pytest

from sluice.drive import Request
from sluice.hosts.signing import sign
from sluice.model.policy import Role
from sluice.model.promotion import document, expiry

ASK = Request("olga@host", "test")


@pytest.mark.parametrize("name", ["bob", "robert"])
async def test_who_is_split_in_two_by_the_candidate_is_one_person(town, name):
    """Bob had two keys; the candidate names one of them zoe's: two signatures, one approval."""
    before = town.spec.replace("[promotion]", "[promotion]\napprovals = 2").replace(
        "_not_author = true", "_not_author = false"
    )
    town.policy(before.replace('["{bob}"]', '["{bob}", "{mallory}"]').format(**town.keys))
    await town.proven()
    for who in ("bob", "mallory"):
        await town.signed(who)
    await town.refused("ApprovalMissing")
    await town.signed("ann")
    assert (await town.promote()).exit_code == 0
    town.prod.clock.elapsed += 601  # what was not acted upon is over
    zoe = '[signers.zoe]\nkeys = ["{mallory}"]\nmay = ["approve"]\n'
    town.policy(before.replace("signers.bob", f"signers.{name}").format(**town.keys) + zoe.format(**town.keys))
    await town.proven()
    for who in ("bob", "mallory"):
        await town.signed(who)
    await town.refused("ApprovalMissing")
    await town.signed("ann")
    assert (await town.promote()).exit_code == 0


async def merged_by_mallory(town):
    """After a promotion she merged her own key into the policy, and test proved that."""
    await town.proven()
    await town.signed()
    assert (await town.promote()).exit_code == 0
    mallory = f'[signers.mallory]\nkeys = ["{town.keys["mallory"]}"]\nmay = ["approve"]\n'
    town.policy(town.spec.format(**town.keys) + mallory)
    await town.proven()


async def test_a_candidate_that_changed_who_may_sign(town):
    """Mallory merged her own key: she cannot approve the promotion that would bring it into force; bob can."""
    await merged_by_mallory(town)
    await town.not_taken("PolicyChanged", who="mallory")
    await town.signed("bob")
    result = await town.promote()
    assert result.exit_code == 0
    assert result.record["promoted_policy_changes"] == ["signers.mallory"]


async def test_a_candidate_cannot_make_its_own_promotion_easier(town):
    """Fewer approvals, no rule about authors, an item gone from the checklist: what served asks for them still."""
    item = 'checklist = [{{id = "backup", text = "Backed up."}}]'  # braces as str.format wants them
    strict = town.spec.replace("[promotion]", "[promotion]\n" + item)
    strict = strict.replace('may = ["approve"]\n[signers.carl]', 'may = ["approve", "checklist"]\n[signers.carl]')
    town.policy(strict.format(**town.keys))
    await town.proven()
    sign_off = town.drive(town.prod)

    async def backed_up(plan):
        text = document(("shop", "prod"), plan.hash, plan.promotion, expiry(town.prod.clock.now(), 600), "backup")
        return text, await sign(town.runner, text.encode(), town.folder / "bob", Role.CHECKLIST)

    await sign_off.sign(ASK, Role.CHECKLIST, backed_up)
    await town.signed()
    assert (await town.promote()).exit_code == 0
    town.policy(town.spec.format(**town.keys).replace("approver_not_author = true", "approver_not_author = false"))
    await town.proven()
    await town.not_taken("ApprovalByAuthor", who="ann")
    await town.signed("bob")
    await town.refused("ChecklistOpen")


async def test_a_lost_note_of_what_serves_names_no_new_signers(town):
    """serving.json is gone: who may sign is still the word of what was promoted last."""
    await merged_by_mallory(town)
    town.prod.releases.set_serving(None, None)
    town.prod.pointed = None
    await town.not_taken("PolicyChanged", who="mallory")
