"""A candidate makes its own promotion no easier: what the policies before it ask for, it has to keep."""

from __future__ import annotations

import pytest

from sluice.drive import Request
from sluice.ledger import Ledger

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
    """Nobody can say what it asked for: refused until its file is back."""
    town = taken_back
    town.commit("x", "y")
    await town.proven()
    last = max(release.id for release in town.prod.releases.all())
    (town.prod.paths.env_dir / "releases" / f"{last}.json").unlink()
    await town.refused("PolicyChanged")
