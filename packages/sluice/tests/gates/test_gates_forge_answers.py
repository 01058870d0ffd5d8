"""What the gates make of a forge's pull requests and statuses, asked over real HTTP."""

from __future__ import annotations

import pytest

from sluice.gates.proof import checks_passed
from sluice.gates.summary import pr_summary
from sluice.model.policy import GatesSpec, Proof, SummarySource
from sluice.model.verdict import Verdict

from .forge_server import SUMMARY, forge, pull, status

PULL = GatesSpec(summary=(SummarySource.PULL_REQUEST,))


async def summary(origin, server, kind, tmp_path, policy=PULL, **changes):
    """The gate, over the forge."""
    context = await origin.context(policy=policy, forge=forge(server, kind, tmp_path))
    server.pulls = [pull(kind, **({"sha": context.commit.sha} | one)) for one in changes.pop("pulls", [{}])]
    return await pr_summary(context)


async def test_an_open_pull_request_with_a_summary_passes(origin, server, kind, tmp_path):
    """The evidence is its number, its target and the commit."""
    origin.commit({"a": "1"})
    finding = await summary(origin, server, kind, tmp_path)
    assert finding.verdict is Verdict.PASS
    assert "Pull request 7" in finding.detail


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"state": "closed"}, "PullClosed"),
        ({"state": "merged"}, "PullMerged"),
        ({"base": "develop"}, "PullOtherBase"),
        ({"draft": True}, "PullDraft"),
        ({"sha": "f" * 40}, "PullOtherCommit"),
        ({"body": ""}, "SummaryEmpty"),
        ({"body": None}, "SummaryEmpty"),
        ({"body": "<!-- say something --> 123"}, "SummaryEmpty"),
        ({"body": "Fixes it."}, "SummaryShort"),
        ({"branch": "feature/other"}, "PullMissing"),
    ],
)
async def test_what_a_pull_request_may_lack(origin, server, kind, tmp_path, changes, code):
    """Each lack has its own code, its own sentence and its own fix."""
    finding = await summary(origin, server, kind, tmp_path, pulls=[changes])
    assert finding.verdict is Verdict.FAIL
    assert finding.metrics["codes"] == [code]
    assert finding.fix


async def test_the_bare_template_is_no_summary(origin, server, kind, tmp_path):
    """Ticked boxes, headings and comments of the template say nothing of this change; one sentence more does."""
    template = "# What changes\n\n<!-- for whom? -->\n\n- [ ] I ran the tests, all of them, on this machine\n"
    origin.git("checkout", "--quiet", "main")
    origin.commit({".github/pull_request_template.md": template})
    origin.git("checkout", "--quiet", "feature/x")
    ticked = template.replace("[ ]", "[x]")
    finding = await summary(origin, server, kind, tmp_path, pulls=[{"body": ticked}])
    assert finding.metrics["codes"] == ["SummaryTemplate"]
    finding = await summary(origin, server, kind, tmp_path, pulls=[{"body": ticked + SUMMARY}])
    assert finding.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("https://forge.example/team/rooms/issues/123", "SummaryEmpty"),
        ("![a picture of the new room](https://forge.example/x.png)", "SummaryEmpty"),
        ("<details><summary></summary></details><br/><br/>", "SummaryEmpty"),
        ("Signed-off-by: Ann Example <ann@people.example>\nCo-authored-by: Bob Example <b@x>", "SummaryEmpty"),
        ("[//]: # (a hidden comment of many letters)", "SummaryEmpty"),
        ("a" * 28, "SummaryShort"),
        ("Say what changes for whom in one sentence", "SummaryTemplate"),
        ("Tell the operators what to do afterwards", "SummaryTemplate"),
    ],
)
async def test_what_says_nothing_is_no_summary(origin, server, kind, tmp_path, body, code):
    """An address, a picture, empty markup, who signed, a hidden line, a key held down, any of several templates."""
    origin.git("checkout", "--quiet", "main")
    several = {
        ".github/PULL_REQUEST_TEMPLATE/feature.md": "Say what changes for whom in one sentence\n",
        ".github/pull_request_template.txt": "Tell the operators what to do afterwards\n",
    }
    origin.commit(several)
    origin.git("checkout", "--quiet", "feature/x")
    finding = await summary(origin, server, kind, tmp_path, pulls=[{"body": body}])
    assert finding.metrics["codes"] == [code]
    linked = f"{body}\n\nPeople see [who is in a room](https://x.example/y) before they join."
    assert (await summary(origin, server, kind, tmp_path, pulls=[{"body": linked}])).verdict is Verdict.PASS


async def test_the_nearest_of_several_pull_requests_is_told(origin, server, kind, tmp_path):
    """An old closed one does not hide what is wrong with the open one, and a good one is enough."""
    lacking = [{"state": "closed"}, {"number": 8, "draft": True}]
    finding = await summary(origin, server, kind, tmp_path, pulls=lacking)
    assert finding.metrics["codes"] == ["PullDraft"]
    finding = await summary(origin, server, kind, tmp_path, pulls=[*lacking, {"number": 9}])
    assert finding.verdict is Verdict.PASS


async def test_a_forge_that_cannot_be_asked_is_an_error(origin, server, kind, tmp_path):
    """That nobody knows is not that there is none; and another place of the policy may have the summary."""
    server.plan = lambda _path, _query: (502, {}, {})
    finding = await summary(origin, server, kind, tmp_path)
    assert finding.verdict is Verdict.ERROR
    assert finding.metrics["codes"] == ["ForgeUnreachable"]
    both = GatesSpec(summary=(SummarySource.PULL_REQUEST, SummarySource.FRAGMENT))
    assert (await summary(origin, server, kind, tmp_path, both)).verdict is Verdict.ERROR
    assert finding.fix
    origin.commit({"changes/rooms.md": SUMMARY})
    assert (await summary(origin, server, kind, tmp_path, both)).verdict is Verdict.PASS


async def test_a_token_that_others_can_read_hides_no_other_proof(origin, server, kind, tmp_path):
    """It is an error with a code of its own, and no reason not to look for a fragment or a note."""
    client = forge(server, kind, tmp_path)
    (tmp_path / "token").chmod(0o644)
    both = GatesSpec(
        summary=(SummarySource.PULL_REQUEST, SummarySource.FRAGMENT), checks=(("true",),), checks_status=("ci",)
    )
    context = await origin.context(policy=both, forge=client)
    finding = await pr_summary(context)
    assert (finding.verdict, finding.metrics["codes"]) == (Verdict.ERROR, ["ForgeToken", "FragmentMissing"])
    assert "chmod 600" in finding.fix
    finding = await checks_passed(context)
    assert (finding.verdict, finding.metrics["codes"]) == (Verdict.ERROR, ["ChecksNoNote", "ForgeToken"])
    origin.commit({"changes/rooms.md": SUMMARY})
    assert (await pr_summary(await origin.context(policy=both, forge=client))).verdict is Verdict.PASS


async def proof(origin, server, kind, tmp_path, **policy):
    """The gate `checks-passed`, over the forge."""
    spec = GatesSpec(checks_proof=Proof.STATUS, **policy)
    return await checks_passed(await origin.context(policy=spec, forge=forge(server, kind, tmp_path)))


@pytest.mark.parametrize(
    ("told", "named", "expected"),
    [
        ([("ci", "success")], (), (Verdict.PASS, None)),
        ([("ci", "success"), ("lint", "failure")], ("ci",), (Verdict.PASS, None)),
        ([("ci", "success"), ("lint", "failure")], (), (Verdict.FAIL, "ChecksFailed")),
        ([("ci", "success"), ("lint", "pending")], (), (Verdict.INCONCLUSIVE, "ChecksPending")),
        ([("ci", "success"), ("lint", "error")], (), (Verdict.FAIL, "ChecksFailed")),
        ([("ci", "success"), ("lint", "warning")], (), (Verdict.FAIL, "ChecksFailed")),
        ([("ci", "warning")], ("ci",), (Verdict.FAIL, "ChecksFailed")),
        ([("ci", "success"), ("docs", "skipped")], (), (Verdict.PASS, None)),
        ([("ci", "skipped")], (), (Verdict.FAIL, "ChecksNoStatus")),
        ([("ci", "success")], ("lint",), (Verdict.FAIL, "ChecksNoStatus")),
        ([], (), (Verdict.FAIL, "ChecksNoStatus")),
        ([("ci", "skipped")], ("ci",), (Verdict.FAIL, "ChecksNoStatus")),
    ],
)
async def test_commit_statuses_are_judged(origin, server, kind, tmp_path, told, named, expected):
    """Named contexts must all have succeeded; without names every one there is, and at least one."""
    server.statuses = [status(kind, context, state, n) for n, (context, state) in enumerate(told, 1)]
    finding = await proof(origin, server, kind, tmp_path, checks_status=named)
    (code,) = finding.metrics.get("codes", [None])
    assert (finding.verdict, code) == expected


async def test_either_proof_is_enough(origin, server, kind, tmp_path):
    """Without a note the forge is asked; where it cannot be asked, nobody knows."""
    server.statuses = [status(kind, "ci", "success")]
    policy = GatesSpec(checks=(("true",),), checks_status=("ci",))
    context = await origin.context(policy=policy, forge=forge(server, kind, tmp_path))
    assert (await checks_passed(context)).verdict is Verdict.PASS
    server.plan = lambda _path, _query: (500, {}, {})
    finding = await checks_passed(context)
    assert finding.verdict is Verdict.ERROR
    assert finding.metrics["codes"] == ["ChecksNoNote", "ForgeUnreachable"]
    server.plan, server.statuses = None, [status(kind, "ci", "failure")]
    finding = await checks_passed(context)
    assert finding.verdict is Verdict.FAIL
    assert "Nobody recorded" in finding.detail
    assert "ci" in finding.detail


async def test_a_success_that_nobody_named_proves_no_checks(origin, server, kind, tmp_path):
    """A robot that looks at licences ran none of the policy's commands; without named contexts nobody is asked."""
    server.statuses = [status(kind, "license/cla", "success")]
    policy = GatesSpec(checks=(("true",),))
    finding = await checks_passed(await origin.context(policy=policy, forge=forge(server, kind, tmp_path)))
    assert finding.verdict is Verdict.FAIL
    assert finding.metrics["codes"] == ["ChecksNoNote"]
    assert server.seen == []


async def test_a_note_alone_by_policy_asks_no_forge(origin, server, kind, tmp_path):
    """With checks_proof = "note" the forge's word counts for nothing."""
    server.statuses = [status(kind, "ci", "success")]
    policy = GatesSpec(checks=(("true",),), checks_proof=Proof.NOTE)
    finding = await checks_passed(await origin.context(policy=policy, forge=forge(server, kind, tmp_path)))
    assert finding.verdict is Verdict.FAIL
    assert server.seen == []
