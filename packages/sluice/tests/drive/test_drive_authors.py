"""Who approves is no author, over real commits and signatures; and since which commit secrets are looked for."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from sluice.config import load_service
from sluice.drive import Sibling
from sluice.drive.planning import plan_rollout
from sluice.drive.promotion import plan_promotion
from sluice.drive.steps import asked_for
from sluice.hosts import git as git_module
from sluice.hosts.git import GitMirror
from sluice.model.errors import ConfigError, Refused
from sluice.model.policy import BY_KEY, PromotionSpec
from sluice.model.promotion import Denied
from sluice.model.stricter import strictest

from .people import BOB, BY_KEYS, RULE, bobs

# ---------------------------------------------------------------- by all that a commit says


async def test_the_first_time_every_author_there_ever_was_counts(people, town):
    """Bob wrote an old commit, and somebody else the newest: he may not approve what users get for the first time."""
    people.change("Bob")
    people.change("Ann")
    people.change("Zoe")
    await town.proven()
    await town.not_taken("ApprovalByAuthor", who="bob")
    await town.not_taken("ApprovalByAuthor", who="ann")


async def test_later_only_what_is_new_counts(people, town):
    """What Bob wrote before the last promotion was approved by somebody else then."""
    people.change("Zoe")
    await people.promoted()
    people.change("Ann")
    await town.proven()
    await town.signed("bob")
    assert (await town.promote()).exit_code == 0
    people.change("Bob")
    people.change("Ann")
    await town.proven()
    await town.not_taken("ApprovalByAuthor", who="bob")


@pytest.mark.parametrize(
    "line",
    [
        "Co-authored-by: Bob <bob@example.org>",
        "co-authored-BY: bob",
        "Co-Authored-By: Somebody <x@example.org>\nCo-authored-by: B <BOB@Example.Org>\n\nand a word after it",
        "Co-authored-by : B <bob@example.org>",
        "Co-authored-by=bob",
        "* Co-authored-by: Bob <b@x>",
        "  - co-authored-by: Bob",
        "> Co-authored-by: Bob <b@x>",
        "co\u2010authored\u2010by\uff1a B\uff4fb",
        "Co-authored-by: Zed <z@x>, bob <b@x>",
        "Co-authored-by: ann, bob <b@x>",
        "Co-authored-by: Zed; Bob and Zoe",
        "Co-authored-by: bob (b@x)",
        "Co-authored-by: B (bob@example.org)",
        "Co-authored-by: Zed (Bob)",
        "Co-authored-by:bob<b@x>",
        "Co-authored-by: @bob",
        "Co-authored-by: bob\u00a0<b@x>",
    ],
)
async def test_a_co_author_is_an_author(people, town, line):
    """By name or by address, in capitals or not, wherever in the message it stands."""
    extra = 'authors = ["Bob", "bob@example.org"]\n'
    signer = town.spec.format(**town.keys).replace("[signers.carl]", f"{extra}[signers.carl]")
    town.policy(signer)
    await people.promoted()
    people.change("Zoe", message=f"Together\n\n{line}")
    await town.proven()
    await town.not_taken("ApprovalByAuthor", who="bob")


@pytest.mark.parametrize("line", ["Co-authored-by: Bobby <b@x>, Zoe", "co-authors: bob", "See: co-authored-by bob"])
async def test_another_name_is_nobody_elses(people, town, line):
    """A name that begins alike, a word that is no such line."""
    await people.promoted()
    people.change("Zoe", message=f"Together\n\n{line}")
    await town.proven()
    await town.signed("bob")


async def test_a_name_with_an_accent_is_the_same_however_it_is_written(people, town):
    """One sign, or a letter and its accent; and in the widths of another script."""
    town.policy(bobs(town, BOB, 'authors = ["Jos\u00e9"]\n'))
    await people.promoted()
    people.change("Jose\u0301")
    await town.proven()
    await town.not_taken("ApprovalByAuthor", who="bob")


async def test_a_crowd_of_co_authors_is_refused_by_its_commit(people, town):
    """A hundred and one are read, as a squash may have; of more than a thousand the refusal names the commit."""
    await people.promoted()
    lines = [f"Co-authored-by: P{n} <p{n}@x>" for n in range(101)]
    people.change("Zoe", message="Squash\n\n" + "\n".join([*lines, "Co-authored-by: Bob"]))
    await town.proven()
    await town.not_taken("ApprovalByAuthor", who="bob")
    people.change("Zoe", message="Squash\n\n" + "\n".join(lines * 10))
    await town.proven()
    with pytest.raises(Denied, match="more than 1000 co-authors") as denied:
        await town.signed("bob")
    assert denied.value.code == "AuthorUnknown"
    assert town.git("rev-parse", "main")[:12] in denied.value.what
    await town.refused("AuthorUnknown")


async def squashed(town, people):
    """Bob's branch was proven in test, and is in main as one commit of Ann's."""
    await people.promoted()
    town.git("checkout", "-qb", "feature/x")
    people.change("Bob")
    await town.proven("feature/x")
    town.git("checkout", "-q", "main")
    town.git("merge", "-q", "--squash", "feature/x")
    town.git("commit", "-qm", "Squash")


async def test_the_authors_of_a_squashed_branch_count(people, town):
    """What main has as Ann's is what test proved of Bob: he does not approve it; the commits shown stay main's."""
    await squashed(town, people)
    await town.not_taken("ApprovalByAuthor", who="bob")
    plan = await plan_promotion(town.world(town.prod), "", nobody)
    assert [one.author for one in plan.promotion.commits] == ["Ann"]
    assert [one.author for one in plan.promotion.authors] == ["Bob"]


async def test_a_squashed_branch_that_is_gone_is_proven_anew(people, town):
    """Nobody can tell who wrote what test proved: refused, and it says that main itself may go to test."""
    await squashed(town, people)
    town.git("branch", "-qD", "feature/x")
    git_dir = town.prod.paths.repo
    shutil.rmtree(git_dir, ignore_errors=True)  # the mirror is fetched anew: it never saw the branch
    with pytest.raises(Denied, match="who wrote that cannot be told") as denied:
        await town.signed("bob")
    assert (denied.value.code, "rollout --env test" in denied.value.next) == ("AuthorUnknown", True)
    await town.proven()
    await town.signed("bob")
    assert (await town.promote()).exit_code == 0


async def test_whoever_commits_what_another_wrote_is_asked_too(people, town):
    """The author's name was typed by whoever committed."""
    await people.promoted()
    people.change("Zoe", committer="bob")
    await town.proven()
    await town.not_taken("ApprovalByAuthor", who="bob")


async def test_the_author_of_a_merge_and_of_what_it_brings_in(people, town):
    """Both the merge commit and the commits of the branch count."""
    await people.promoted()
    town.git("checkout", "-qb", "feature/x")
    people.change("Bob")
    town.git("checkout", "-q", "main")
    people.change("Zoe")
    people.change("Zoe", merge="feature/x")
    await town.proven()
    await town.not_taken("ApprovalByAuthor", who="bob")


async def test_a_name_that_was_made_up_is_told_by_the_key(people, town):
    """Bob commits as somebody else, and signs as he always does."""
    await people.promoted()
    people.change("Zoe", key="bob")
    await town.proven()
    await town.not_taken("ApprovalByAuthor", who="bob")


async def test_what_true_does_not_prove(people, town):
    """Unsigned and under another name: nobody can tell, and `true` lets it pass; that is why there is "by-key"."""
    await people.promoted()
    people.change("Made Up")
    await town.proven()
    await town.signed("bob")
    assert (await town.promote()).exit_code == 0


BOBBY = 'authors = ["Bobby"]\n'


@pytest.mark.parametrize(
    "entries",
    [
        ('[signers.robert]\nkeys = ["{bob}"]\nmay = ["approve"]\n',),
        (
            '[signers.robert]\nkeys = ["{bob}"]\nmay = ["approve"]\n',
            '[signers.bob]\nkeys = ["{mallory}"]\nmay = ["checks"]\n',
        ),
    ],
    ids=["renamed", "renamed, and the name is another's"],
)
async def test_who_is_renamed_by_the_candidate_stays_an_author(people, town, entries):
    """The names Bob commits under are those of the entry that had his key, whatever it is called now."""
    town.policy(bobs(town, BOB, BOBBY))
    await people.promoted()
    town.policy(bobs(town, *entries))
    people.change("Bobby")
    await town.proven()
    await town.not_taken("ApprovalByAuthor", who="bob")


@pytest.mark.parametrize(
    ("now", "before", "both"),
    [(False, False, False), (True, False, True), (False, BY_KEY, BY_KEY), (BY_KEY, True, BY_KEY), (True, True, True)],
)
def test_the_stricter_of_two_rules(now, before, both):
    """By key is stricter than by name, and that than nothing."""
    rules = [PromotionSpec(approver_not_author=one) for one in (now, before)]
    assert strictest(*rules).approver_not_author == both


async def test_the_rule_is_said_in_what_is_signed(people, town):
    """Whoever signs reads that authors are told by their keys."""
    people.begin_anew(BY_KEYS)
    await town.proven()
    await town.signed("bob")
    (kept,) = town.approvals.all()
    assert "not by an author (by key)" in kept.document


def test_another_word_for_the_rule_is_an_error(town):
    """Only true, false and "by-key"."""
    text = town.spec.format(**town.keys).replace(RULE, 'approver_not_author = "by-name"')
    with pytest.raises(ConfigError, match=r"\$\.promotion\.approver_not_author"):
        load_service(text.encode(), "sluice.toml")


# ---------------------------------------------------------------- what the mirror tells


async def test_of_a_history_each_who_wrote_it_is_told_once(people, town):
    """The newest commit of each; a commit with an empty message and one with odd letters hide nobody."""
    for _ in range(3):
        people.change("Zoe")
    people.change("Bob", message="odd\u2028letters\x0c\x85\n\n\x1f")
    town.git("-c", "core.commentChar=;", "commit", "-q", "--allow-empty", "--allow-empty-message", "-m", "", author="Y")
    mirror = GitMirror(town.prod.paths, str(town.origin), town.runner)
    await mirror.fetch()
    told = await mirror.authors("main")
    assert [one.author for one in told] == ["Y", "Bob", "Zoe", "Ann"]
    assert told[2].subject == "Change 3"


async def test_a_history_of_too_many_people_is_refused(people, town, monkeypatch):
    """What cannot be told whole is no pass, and it says what to do."""
    monkeypatch.setattr(git_module, "MAX_AUTHORS", 1)
    people.change("Zoe")
    await town.proven()
    with pytest.raises(Refused, match="cannot be told") as refused:
        await town.signed("bob")
    assert "approver_not_author = false" in refused.value.next


# ---------------------------------------------------------------- since when secrets are looked for


async def test_since_when_secrets_are_looked_for(people, town):
    """Before a promotion since ever, in test and prod; then since the last one; of a branch since it left main."""
    assert await since_when(town) == {"prod": "", "main in test": "", "branch in test": ""}
    await people.promoted()
    promoted = town.git("rev-parse", "main")
    people.change("Zoe")
    assert await since_when(town) == {"prod": promoted, "main in test": promoted, "branch in test": ""}


async def since_when(town):
    """Where each kind of run begins to look."""
    await town.proven()
    town.git("branch", "-f", "feature/x", "main")
    both = [Sibling(one.paths, one.releases, 5) for one in (town.test, town.prod)]
    test = dataclasses.replace(town.world(town.test), siblings=lambda: both)
    prod = town.world(town.prod)
    plans = {
        "prod": (prod, await plan_promotion(prod, "", nobody)),
        "main in test": (test, await plan_rollout(test, "main", nobody)),
        "branch in test": (test, await plan_rollout(test, "feature/x", nobody)),
    }
    return {name: asked_for(world, plan, ("o", "h"), "", {}).since for name, (world, plan) in plans.items()}


def nobody(_text):
    """Told of progress."""
