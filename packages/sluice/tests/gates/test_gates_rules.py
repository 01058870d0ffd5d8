"""Branch policy, the policy branch's tip, the env file, and that no gate hides another."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import string

import msgspec
import pytest

from sluice.gates import run, secrets
from sluice.gates.branch import branch_policy, contains_main
from sluice.gates.context import Asked
from sluice.gates.environment import server_env
from sluice.gates.placeholder import is_placeholder
from sluice.gates.run import GATES, run_gates
from sluice.gates.standing import RULES, switched_on
from sluice.model.errors import ProbeBroken
from sluice.model.policy import DocsRule, GatesSpec, SummarySource
from sluice.model.spec import EnvironmentName
from sluice.model.verdict import Verdict


@pytest.mark.parametrize("branch", ["feature/X", "fix/x", "feature/x/y", "x-feature/x", "feature/"])
async def test_a_branch_outside_the_policy_is_refused(origin, branch):
    """The whole name must match; the sentence names the policy and how to rename."""
    context = await origin.context()
    commit = dataclasses.replace(context, commit=renamed(context, branch))
    finding = await branch_policy(commit)
    assert finding.verdict is Verdict.FAIL
    assert "git branch -m" in finding.fix


def renamed(context, branch):
    """The same commit under another branch name."""
    return msgspec.structs.replace(context.commit, branch=branch)


async def test_a_feature_branch_never_goes_to_prod(origin):
    """A branch the policy allows in test is refused in prod all the same."""
    context = dataclasses.replace(await origin.context(), environment=EnvironmentName.PROD)
    finding = await branch_policy(context)
    assert finding.verdict is Verdict.FAIL
    assert "Never prod from a feature branch" in finding.detail


@pytest.mark.parametrize(("branch", "verdict"), [("feature/x", Verdict.PASS), ("main", Verdict.SKIPPED)])
async def test_good_branches(origin, branch, verdict):
    """A feature branch passes; the policy's own branch is accepted, said to be skipped, with the reason."""
    finding = await branch_policy(await origin.context(branch))
    assert finding.verdict is verdict
    assert finding.detail


async def test_a_branch_behind_main_must_be_brought_up(origin):
    """The evidence counts what is missing, and the fix says how; after a merge it passes."""
    origin.git("checkout", "--quiet", "main")
    origin.commit({"b.txt": "1\n"})
    origin.commit({"b.txt": "2\n"})
    origin.git("checkout", "--quiet", "feature/x")
    finding = await contains_main(await origin.context())
    assert finding.verdict is Verdict.FAIL
    assert "2 of its commits" in finding.detail
    assert "rebase origin/main" in finding.fix
    origin.git("merge", "--quiet", "main")
    assert (await contains_main(await origin.context())).verdict is Verdict.PASS


@pytest.mark.parametrize("value", ["", "  ", "changeme", "CHANGE_ME", "<secret>", "xxx", "XXXXXX", "${TOKEN}", "todo"])
def test_placeholders(value):
    """What example files write is not a value."""
    assert is_placeholder(value)


@pytest.mark.parametrize("value", ["1", "true", "xx", "postgres://db/x", "change-me-not-really-3f9"])
def test_values(value):
    """Short and odd values are values."""
    assert not is_placeholder(value)


async def test_the_env_file_is_judged_by_name(origin):
    """Missing, empty and placeholder names are listed, the policy's too; no value appears."""
    context = await origin.context()
    env_file = origin.root / "test.env"
    env_file.write_text("TOKEN=changeme\nOTHER=very-much-a-value\nEMPTY=\n")
    finding = await server_env(dataclasses.replace(context, policy=GatesSpec(required_env=("EMPTY", "LACKS", "OTHER"))))
    assert finding.verdict is Verdict.FAIL
    assert "missing: LACKS; empty or a placeholder: EMPTY, TOKEN" in finding.detail
    assert "very-much-a-value" not in f"{finding}"


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604])
async def test_an_env_file_others_can_read_is_refused(origin, mode):
    """The permissions are a gate of their own, with the command that mends them."""
    context = await origin.context()
    (origin.root / "test.env").chmod(mode)
    finding = await server_env(context)
    assert finding.verdict is Verdict.FAIL
    assert "chmod 600" in finding.fix


async def test_a_missing_env_file_is_refused(origin):
    """The finding names the file."""
    context = await origin.context()
    (origin.root / "test.env").unlink()
    finding = await server_env(context)
    assert finding.verdict is Verdict.FAIL
    assert "test.env" in finding.detail


async def test_all_gates_run_and_are_timed(origin):
    """Every finding in its fixed order, each also told as it came; a gate without rules is skipped and says why."""
    origin.commit({"a.txt": "x\n"})
    told = []
    findings = await run_gates(await origin.context(), told.append)
    assert [f.name for f in findings] == list(GATES)
    skipped = {f.name: f.detail for f in findings if f.verdict is Verdict.SKIPPED}
    assert set(skipped) == {"checks-passed", "pr-summary", "docs-changed", "freeze", "disk-space", "way-back"}
    # Whatever a policy without rules switches off has its line there; the other two are the host's: no disk is
    # measured here, and nothing serves.
    assert {gate for gate in GATES if not switched_on(gate, GatesSpec())} == set(skipped) - {"disk-space", "way-back"}
    assert set(RULES) <= set(GATES)
    assert all(skipped.values())
    assert {f.verdict for f in findings if f.name not in skipped} == {Verdict.PASS}
    assert sorted(f.name for f in told) == sorted(GATES)
    assert max(f.ms for f in findings) > 0


async def test_a_gate_that_breaks_says_so_and_hides_no_other(origin):
    """A defect of a gate is the verdict `error` without the text of the defect, beside the others' verdicts."""

    class Torn:
        def check(self):
            raise ZeroDivisionError("sentinel-value")

    context = dataclasses.replace(await origin.context(), env_file=Torn())
    findings = {f.name: f for f in await run_gates(context, lambda _: None)}
    assert findings["server-env"].verdict is Verdict.ERROR
    assert "sentinel-value" not in findings["server-env"].detail
    assert findings["server-env"].metrics["codes"] == ["GateBroken"]
    assert findings["server-env"].fix
    assert findings["branch-policy"].verdict is Verdict.PASS


async def test_a_gate_that_hangs_is_an_error_with_a_code_and_a_fix(origin, monkeypatch):
    """Its time is over and the others are told all the same."""

    async def never():
        await asyncio.Event().wait()

    monkeypatch.setattr(run, "GATE_DEADLINE_S", 0.5)
    context = await origin.context(overlaps=never)
    finding = {f.name: f for f in await run_gates(context, lambda _: None)}["host-isolation"]
    assert finding.verdict is Verdict.ERROR
    assert finding.metrics["codes"] == ["GateTimeout"]
    assert "ask again" in finding.fix


async def test_no_gate_shows_a_name_that_is_a_secret(origin):
    """What no-secrets does not say, the gates that name files do not say either; other files they name."""
    name = "gh" + "p_" + "".join(random.Random(7).choices(string.ascii_letters + string.digits, k=36))
    origin.commit({f"src/{name}.py": "x = 1\n", f"news/{name}.md": "short", "src/plain.py": "x = 1\n"})
    policy = GatesSpec(
        docs=(DocsRule(code=("src/**",), docs=("docs/**",)),), summary=(SummarySource.FRAGMENT,), fragments="news"
    )
    findings = {one.name: one for one in await run_gates(await origin.context(policy=policy), lambda _: None)}
    assert [findings[gate].verdict for gate in ("no-secrets", "docs-changed", "pr-summary")] == [Verdict.FAIL] * 3
    assert name not in f"{findings}"
    assert "a file's name, src/plain.py changed" in findings["docs-changed"].detail


async def test_no_gate_shows_a_name_that_nobody_could_look_at(origin, monkeypatch):
    """Where no-secrets broke, any new name may be a secret; the gates that name files judge them all the same."""

    async def breaks(_context, _batch):
        raise ProbeBroken("the secret scanner did not end well")

    monkeypatch.setattr(secrets, "_ask", breaks)
    origin.commit({"src/may-be-one.py": "x = 1\n"})
    policy = GatesSpec(docs=(DocsRule(code=("src/**",), docs=("docs/**",)),))
    findings = {one.name: one for one in await run_gates(await origin.context(policy=policy), lambda _: None)}
    assert findings["no-secrets"].verdict is Verdict.ERROR
    assert findings["docs-changed"].verdict is Verdict.FAIL
    assert "may-be-one" not in f"{findings}"


async def test_no_name_of_a_file_or_branch_writes_on_the_terminal(origin):
    """Line ends, escapes and marks that turn the writing are blanks, in whatever a candidate or a waiver says."""
    name = "src/x\x1b[2K\nok  no-secrets\u202e.py"
    origin.commit({name: "x"})
    policy = GatesSpec(docs=(DocsRule(code=("src/**",), docs=("docs/**",)),))
    context = await origin.context(policy=policy, asked=Asked("a\x1b[31mnn", waivers={"docs-changed": "be\x07cause\n"}))
    told = []
    for finding in await run_gates(context, told.append):
        assert finding.detail.isprintable(), finding
    (shown,) = [one for one in told if one.name == "docs-changed"]
    assert shown.detail.startswith(
        "Waived by a [31mnn: be cause. The gate said fail: src/x [2K ok no-secrets .py changed"
    )
    assert shown.metrics["waived"]["reason"] == "be cause"
