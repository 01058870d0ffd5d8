"""Who approves is no author, by the keys that signed the commits alone; over real commits and signatures."""

from __future__ import annotations

import pytest

from sluice.model.promotion import Denied

from .people import BOB, BY_KEYS, RULE, bobs


async def test_by_key_every_commit_is_signed_by_somebody_else(people, town):
    """All of Ann's, signed: bob may approve, ann may not, the first time and later."""
    people.begin_anew(BY_KEYS)
    people.change("Ann", key="ann")
    await town.proven()
    await town.not_taken("ApprovalByAuthor", who="ann")
    await people.promoted()
    people.change("Ann", key="carl")
    await people.promoted()


@pytest.mark.parametrize(
    ("key", "code"), [("", "AuthorUnknown"), ("mallory", "AuthorUnknown"), ("bob", "ApprovalByAuthor")]
)
@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
async def test_by_key_an_unsigned_a_foreign_and_the_own_signature(people, town, first, key, code):
    """A made-up name without a signature, a key nobody has, the approver's own: in the middle of what is promoted."""
    people.begin_anew(BY_KEYS)
    if not first:
        await people.promoted()
    people.change("Made Up", key=key)
    people.change("Ann", key="ann")
    await town.proven()
    await town.not_taken(code, who="bob")


async def test_by_key_a_merge_has_to_be_signed_too(people, town):
    """The button of a forge signs with no key of [signers]: nobody can tell what such a merge holds."""
    people.begin_anew(BY_KEYS)
    await people.promoted()
    town.git("checkout", "-qb", "feature/x")
    people.change("Ann", key="ann")
    town.git("checkout", "-q", "main")
    people.change("Ann", key="ann")
    people.change("Ann", merge="feature/x")
    await town.proven()
    await town.not_taken("AuthorUnknown", who="bob")


async def test_by_key_co_authors_are_looked_at_all_the_same(people, town):
    """A line in a message is no proof, but it says enough."""
    people.begin_anew(BY_KEYS)
    await people.promoted()
    people.change("Ann", key="ann", message="Together\n\nCo-authored-by: bob <b@example.org>")
    await town.proven()
    await town.not_taken("ApprovalByAuthor", who="bob")


async def test_by_key_a_key_that_the_candidate_itself_names_shows_nothing(people, town):
    """A second key under another name, merged together with what it signed: it was nobody's at the last promotion."""
    people.begin_anew(BY_KEYS)
    await people.promoted()
    (town.origin / "sluice.toml").write_text(
        town.spec.format(**town.keys).replace(RULE, BY_KEYS)
        + f'[signers.mallory]\nkeys = ["{town.keys["mallory"]}"]\nmay = ["checks"]\n'
    )
    people.change("Ann", key="ann")
    people.change("Mallory", key="mallory")
    await town.proven()
    await town.not_taken("AuthorUnknown", who="bob")


@pytest.mark.parametrize("name", ["bob", "robert"])
async def test_by_key_a_key_that_was_the_approvers_stays_theirs(people, town, name):
    """The candidate gives Bob's second key, which signed it, to another name, and may rename himself: it is his."""
    two = BOB.replace('["{bob}"]', '["{bob}", "{mallory}"]')
    people.begin_anew(RULE)
    (town.origin / "sluice.toml").write_text(bobs(town, two).replace(RULE, BY_KEYS))
    people.change("Ann", key="ann")
    await people.promoted()
    zoe = '[signers.zoe]\nkeys = ["{mallory}"]\nmay = ["checks"]\n'
    (town.origin / "sluice.toml").write_text(bobs(town, BOB.replace("bob]", f"{name}]"), zoe).replace(RULE, BY_KEYS))
    people.change("Zed", key="mallory")
    await town.proven()
    await town.not_taken("ApprovalByAuthor", who="bob")


async def test_a_candidate_cannot_take_the_stricter_rule_back(people, town):
    """What was promoted last asked for keys: so does the promotion that would ask no more."""
    people.begin_anew(BY_KEYS)
    await people.promoted()
    (town.origin / "sluice.toml").write_text(town.spec.format(**town.keys).replace(RULE, ""))
    people.change("Ann")
    await town.proven()
    await town.not_taken("AuthorUnknown", who="bob")


async def test_a_refusal_says_what_to_do(people, town):
    """Which commit, why it shows nothing, and both ways out."""
    people.begin_anew(BY_KEYS)
    people.change("Made Up")
    await town.proven()
    with pytest.raises(Denied) as denied:
        await town.signed("bob")
    assert "bears no SSH signature that holds" in denied.value.what
    assert "commit --amend -S" in denied.value.next
