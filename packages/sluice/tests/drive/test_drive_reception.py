"""Signatures are handed in by people, who take their time."""

from __future__ import annotations

import pytest

from sluice.ledger import Ledger
from sluice.model.policy import Role
from sluice.model.promotion import Denied, document, expiry

from .pair import ASK


async def handed_in(pair, meanwhile):
    """Bob reads the text, and something happens before he signs it."""

    async def sign(plan):
        text = document(("shop", "prod"), plan.hash, plan.promotion, expiry(pair.prod.clock.now(), 3600))
        await meanwhile()
        return text, pair.tools.sign(text, "bob")

    return await pair.prod.drive().sign(ASK, Role.APPROVE, sign)


async def test_who_reads_before_they_sign_keep_nobody_waiting(pair):
    """A question on somebody's terminal holds no environment: users may need a rollback before it is answered."""
    await pair.signed("bob")
    assert (await pair.promote()).exit_code == 0
    first = pair.prod.serving_release()
    pair.prod.env_file = "another"
    await pair.signed("bob")
    assert (await pair.promote()).exit_code == 0
    pair.prod.env_file = "a third"

    async def rolled_back():
        assert (await pair.prod.drive().rollback(ASK)).exit_code == 0

    with pytest.raises(Denied) as denied:
        await handed_in(pair, rolled_back)
    assert pair.prod.serving_release() == first
    # What serves is another now, so that text was of another plan.
    assert denied.value.code == "PlanAltered"


async def test_what_changed_while_it_was_read_is_recorded_and_not_kept(pair):
    """The text is of a plan that would not be done any more; one that is of this plan still is taken in."""

    async def changed():
        pair.prod.env_file = "another"

    async def nothing():
        pass

    with pytest.raises(Denied, match="not what would be done now"):
        await handed_in(pair, changed)
    record = Ledger(pair.prod.paths.ledger).records()[-1]
    assert (record["type"], record["outcome"], record["refusal"]) == ("approval", "refused", "PlanAltered")
    assert pair.prod.promotion.approvals.all() == []
    assert (await handed_in(pair, nothing))["outcome"] == "signed"
