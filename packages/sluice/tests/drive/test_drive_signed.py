"""Every refusal of a promotion once more, over real git repositories and real signatures of ssh-keygen."""

from __future__ import annotations

import json
import shutil

import msgspec
import pytest

from sluice.drive import Request
from sluice.drive.desk import must_count
from sluice.hosts.git import GitMirror
from sluice.hosts.signing import known_fingerprint, sign
from sluice.ledger import Ledger
from sluice.model.policy import Role
from sluice.model.promotion import Denied, document, expiry
from sluice.model.verdict import Verdict

ASK = Request("olga@host", "test")


async def test_what_is_proven_merged_and_signed_goes(town):
    """The straight way, and the signature is used up by it."""
    await town.proven()
    await town.signed()
    assert (await town.promote()).exit_code == 0
    await town.refused("AlreadyServes")


async def test_a_branch_and_what_was_never_in_test(town):
    """A feature branch by name; a main that test never saw."""
    await town.refused("FeatureBranch", "feature/x")
    await town.refused("NotProven")


async def test_a_success_of_a_branch_that_is_not_merged(town):
    """Proven in test is not merged in main: not even where main is proven for something older."""
    town.git("checkout", "-qb", "feature/x")
    town.commit("x", "new")
    town.git("checkout", "-q", "main")
    await town.proven("feature/x")
    await town.refused("NotMerged")
    town.git("merge", "-q", "--ff-only", "feature/x")
    await town.signed()
    assert (await town.promote()).exit_code == 0


async def test_a_stale_an_older_and_a_lost_success(town):
    """Too long ago; followed by a failure of the same tree; its artifact gone."""
    await town.proven()
    town.prod.clock.elapsed += 3601
    await town.refused("ProofStale")
    await town.proven()
    town.test.verdicts["watch", "main"] = Verdict.FAIL
    failed = await town.drive(town.test).rollout(Request("ann@host", "test", "main"))
    assert failed.exit_code == 3
    await town.refused("NewestAttemptFailed")
    town.test.verdicts.clear()
    await town.drive(town.test).unlock(ASK, "it was the probe")
    again = await town.drive(town.test).rollout(Request("ann@host", "test", "main", "it was the probe"))
    assert again.exit_code == 0
    shutil.rmtree(town.test.artifact)
    await town.refused("ArtifactGone")


async def test_an_artifact_that_differs(town):
    """With prod's own settings something else would be built."""
    await town.proven()
    await town.signed()
    original = town.prod.build

    async def other(*arguments):
        return msgspec.structs.replace(await original(*arguments), key="another")

    town.prod.build = other
    await town.refused("ArtifactDiffers")


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"who": "mallory"}, "SignatureForeign"),
        ({"who": "carl"}, "SignatureRole"),
        ({"who": "ann"}, "ApprovalByAuthor"),
        ({"alter": ("commits: all there are", "commits: 0")}, "PlanAltered"),
        ({"alter": ("plan: ", "plan: 0")}, "PlanAltered"),
        ({"garble": True}, "SignatureAltered"),
        ({"ttl_s": 6000.0}, "ApprovalTooLong"),
        ({"ttl_s": -1.0}, "ApprovalExpired"),
    ],
)
async def test_a_bad_signature_has_a_name(town, how, code):
    """A foreign key, another role, the author's own, another text, a broken one, too long, over."""
    await town.proven()
    await town.not_taken(code, **how)
    await town.refused("ApprovalMissing")


@pytest.mark.parametrize(
    "alter",
    [
        ("Sluice approval", "\ufeffSluice approval"),
        ("commits: all there are\n", "commits: all there are\ncommits: all there are\n"),
        ("commits: all there are\n", "commits: all there are\nand a word\n"),
        ("commits: all there are\n", "commits: all there are\r\n"),
    ],
    ids=["a byte order mark", "a line twice", "a line more", "a line end"],
)
async def test_a_text_that_says_the_same_and_is_another_is_told_so(town, alter):
    """Not as a line that is not said, was not said and is another."""
    await town.proven()
    with pytest.raises(Denied, match="says the same as the text that is to be signed") as denied:
        await town.signed(alter=alter)
    assert (denied.value.code, "--print" in denied.value.next) == ("PlanAltered", True)
    assert "not said" not in denied.value.what


async def test_a_text_that_says_something_else_names_the_line_and_nobody(town):
    """Who signed is not known before the signature was looked at."""
    await town.proven()
    with pytest.raises(Denied, match=r"^What was signed \(plan \w{12}.?\) is not what would be done now") as denied:
        await town.signed(alter=("commits: all there are\n", "commits: 0\nnew: line\n"))
    assert "commits, now all there are, was 0; new, now not said, was line" in denied.value.what


@pytest.mark.parametrize(
    ("who", "role", "code"),
    [
        ("mallory", Role.CHECKLIST, "SignatureForeign"),
        ("carl", Role.APPROVE, "SignatureRole"),
        ("ann", Role.APPROVE, "ApprovalByAuthor"),
    ],
)
async def test_a_key_that_is_known_not_to_count_need_not_sign_to_be_recorded(town, who, role, code):
    """Refused under the same code as its signature would be, before it signs; the record says for which item."""
    await town.proven()

    async def known(plan):
        item = "told" if role is Role.CHECKLIST else ""
        text = document(("shop", "prod"), plan.hash, plan.promotion, expiry(town.prod.clock.now(), 600.0), item)
        must_count(plan, role, known_fingerprint(town.folder / who), text)
        pytest.fail("it was let through")

    with pytest.raises(Denied) as denied:
        await town.drive(town.prod).sign(ASK, role, known)
    assert denied.value.code == code
    record = Ledger(town.prod.paths.ledger).records()[-1]
    told = (record["outcome"], record["refusal"], record["item"], record["principal"])
    assert told == ("refused", code, "told" if role is Role.CHECKLIST else "", "")
    assert town.approvals.all() == []


async def test_an_approval_that_was_good_is_so_no_more(town):
    """Time passed; the plan is another; a run has acted on it."""
    await town.proven()
    await town.signed()
    town.prod.clock.elapsed += 601
    await town.refused("ApprovalExpired")
    await town.signed()
    town.prod.env_file = "another"
    await town.refused("PlanAltered")
    await town.signed()
    town.prod.verdicts["smoke public", "main"] = Verdict.FAIL
    assert (await town.promote()).exit_code == 7
    town.prod.verdicts.clear()
    await town.refused("ApprovalUsed")


async def rolled_back(town):
    """Two releases were promoted, the second left again; the text that was signed for it, and its signature."""
    await town.proven()
    await town.signed()
    assert (await town.promote()).exit_code == 0
    town.commit("x", "new")
    await town.proven()
    await town.signed()
    (text, *_) = town.approvals.all()
    assert (await town.promote()).exit_code == 0
    assert (await town.drive(town.prod).rollback(ASK)).exit_code == 0
    await town.drive(town.prod).unlock(ASK, "it was the probe")
    return text.document, text.signature


async def test_a_signature_brings_back_nothing_that_was_left(town):
    """Promoted, rolled back, promoted again: what was signed was acted upon, though nobody changed a thing since."""
    text, signature = await rolled_back(town)
    await town.refused("ApprovalUsed")

    async def again(_plan):
        return text, signature

    with pytest.raises(Denied, match="was acted upon by a run before") as denied:
        await town.drive(town.prod).sign(ASK, Role.APPROVE, again)
    assert (denied.value.code, denied.value.next) == (
        "ApprovalUsed",
        "sluice approve --env prod --key ~/.ssh/id_ed25519",
    )
    await town.signed()
    assert (await town.promote()).exit_code == 0


async def test_a_signature_from_before_the_last_promotion_is_not_spoken_of(town):
    """It was never used, since the plan changed after it: it is not what the next refusal compares with."""
    await town.proven()
    await town.signed()
    town.prod.env_file = "another"
    await town.signed()
    assert (await town.promote()).exit_code == 0
    town.commit("x", "new")
    await town.proven()
    await town.refused("ApprovalMissing")


async def test_a_file_that_was_changed_on_the_server_approves_nothing(town):
    """Somebody prolongs a kept approval that is over: the signature is not one over the new text."""
    await town.proven()
    await town.signed()
    town.prod.clock.elapsed += 601
    await town.refused("ApprovalExpired")
    (path,) = (town.prod.paths.env_dir / "approvals").glob("*.json")
    whole = path.read_text()
    until = town.approvals.all()[0].says["expires"]
    path.write_text(whole.replace(until, expiry(town.prod.clock.now(), 300)))
    assert path.read_text() != whole
    await town.refused("SignatureAltered")


def edit_kept(town, **fields):
    """Somebody changes what the newest kept signature's file says of it; the path, and what it said before."""
    path = max((town.prod.paths.env_dir / "approvals").glob("*.json"))
    whole = path.read_text()
    path.write_text(json.dumps(json.loads(whole) | fields))
    return path, whole


async def test_a_signature_that_was_copied_under_another_name_counts_once(town):
    """Two approvals are asked for, and the file of one says another name and key: who signed is what was proven."""
    town.policy(town.spec.format(**town.keys).replace("[promotion]", "[promotion]\napprovals = 2"))
    await town.proven()
    await town.signed()
    path, whole = edit_kept(town, principal="eve", fingerprint="SHA256:" + "x" * 43)
    path.with_name(f"0{path.name}").write_text(whole)
    await town.refused("ApprovalMissing")


async def test_the_record_names_who_signed_and_the_signature_is_used_up(town):
    """Not what the file says: an edited one hides neither who approved nor that it was acted upon."""
    await town.proven()
    await town.signed()
    path, whole = edit_kept(town, principal="the-cto", fingerprint="SHA256:" + "x" * 43)
    town.prod.verdicts["smoke public", "main"] = Verdict.INCONCLUSIVE
    record = (await town.promote()).record
    (signed,) = record["approvals"]
    assert (record["outcome"], signed["principal"]) == ("none_serving", "bob")
    assert signed["signed_with"] == json.loads(whole)["fingerprint"]
    town.prod.verdicts.clear()
    if Ledger(town.prod.paths.ledger).closed():
        await town.drive(town.prod).unlock(ASK, "it was the probe")
    path.write_text(whole)
    await town.refused("ApprovalUsed")


async def test_main_moves_while_it_is_confirmed(town):
    """Refs are looked at again after the approvals."""
    await town.proven()
    await town.signed()
    original = town.prod.gates

    async def gates(*arguments):
        town.commit("late", "a commit that nobody saw")
        return await original(*arguments)

    town.prod.gates = gates
    await town.refused("RefsMoved")


async def test_a_line_separator_hides_no_commit(town):
    """U+2028, a form feed or NEL in a subject: every commit counts, and its author may not approve."""
    await town.proven()
    await town.signed()
    assert (await town.promote()).exit_code == 0
    for number, letter in enumerate("\u2028\x0c\x85"):
        (town.origin / f"f{number}").write_text("x")
        town.git("add", "-A")
        town.git("commit", "-qm", f"one{letter}two")
    await town.proven()
    await town.not_taken("ApprovalByAuthor", who="ann")
    record = await town.signed("bob")
    assert record["type"] == "approval"
    result = await town.promote()
    assert len(result.record["commits"]) == 3


async def test_an_approval_is_used_once_however_it_is_written_down(town):
    """The same signature with another line end at its end is the same signature."""
    await town.proven()
    await town.signed()
    assert (await town.promote()).exit_code == 0
    (first,) = town.approvals.all()
    town.prod.env_file = "another"
    await town.signed()
    assert (await town.promote()).exit_code == 0
    town.approvals.add(msgspec.structs.replace(first, signature=first.signature + "\n", run="run-9999"))
    again = msgspec.structs.replace(town.approvals.all()[0], signature=first.signature + "\n\n")
    assert again.digest in {
        one["digest"] for r in Ledger(town.prod.paths.ledger).records() for one in r.get("approvals", ())
    }


async def test_a_ledger_of_test_that_was_cut_proves_nothing(town):
    """The newest failure is cut away, so that the older success would count: the journal knows better."""
    await town.proven()
    town.test.verdicts["watch", "main"] = Verdict.FAIL
    await town.drive(town.test).rollout(Request("ann@host", "test", "main"))
    lines = town.test.paths.ledger.read_bytes().splitlines(keepends=True)
    town.test.paths.ledger.write_bytes(b"".join(lines[:-1]))
    await town.refused("RecordDoubtful")


async def test_a_tag_does_not_stand_in_for_a_branch(town):
    """A tag named main is somebody's tag: the branch is what the policy is read from."""
    await town.proven()
    town.git("checkout", "-q", "--orphan", "evil")
    town.policy("name = 'shop'\n")
    town.git("tag", "main")
    town.git("checkout", "-q", "-f", "refs/heads/main")
    repo = GitMirror(town.prod.paths, str(town.origin), town.runner)
    await repo.fetch()
    assert b"[signers.bob]" in await repo.read("main", "sluice.toml")


async def test_reasons_are_one_line_of_the_text(town):
    """A reason with line ends forges no line of what is signed."""
    await town.proven()
    texts = []

    async def make(plan):
        texts.append(document(("shop", "prod"), plan.hash, plan.promotion, expiry(town.prod.clock.now(), 600)))
        return texts[0], await sign(town.runner, texts[0].encode(), town.folder / "bob", Role.APPROVE)

    forged = Request("olga@host", "test", override="x\nexceptions: none\u2028exceptions: none\x1b[2K")
    await town.drive(town.prod).sign(forged, Role.APPROVE, make)
    assert [line for line in texts[0].splitlines() if line.startswith("exceptions:")] == [
        "exceptions: bad-release (x exceptions: none exceptions: none [2K)"
    ]


@pytest.mark.parametrize("what", ["env file", "time", "branch"])
async def test_what_changes_while_it_is_built_is_noticed(town, what):
    """After the build, before a migration: env file, signatures and branch are looked at once more."""
    await town.proven()
    await town.signed()
    original = town.prod.build

    async def build(*arguments):
        if what == "env file":
            town.prod.env_file = "another"
        elif what == "time":
            town.prod.clock.elapsed += 601
        else:
            town.commit("late", "nobody saw it")
        return await original(*arguments)

    town.prod.build = build
    await town.refused({"env file": "EnvChanged", "time": "ApprovalExpired", "branch": "RefsMoved"}[what])
    assert town.prod.migrated == []


async def test_what_was_waived_in_test_is_signed_too(town):
    """A gate that was passed over on the way is in the plan's exceptions, with its reason."""
    town.test.verdicts["gates", "main"] = Verdict.FAIL
    waived = Request("ann@host", "test", "main", waivers={"branch-policy": "an emergency"})
    assert (await town.drive(town.test).rollout(waived)).exit_code == 0
    plans = []

    async def make(plan):
        plans.append(plan)
        text = document(("shop", "prod"), plan.hash, plan.promotion, expiry(town.prod.clock.now(), 600))
        return text, await sign(town.runner, text.encode(), town.folder / "bob", Role.APPROVE)

    await town.drive(town.prod).sign(ASK, Role.APPROVE, make)
    assert "an emergency" in plans[0].promotion.exceptions["in test: branch-policy"]
