"""Waivers at the gates: judged all the same, named for good, and refused where nobody may pass."""

from __future__ import annotations

import dataclasses

import pytest

from sluice.gates.context import Asked
from sluice.gates.run import GATES, run_gates
from sluice.gates.waivers import BadWaiver, must_be_waivable, sentence, taken, waived
from sluice.model.errors import ExitCode
from sluice.model.policy import FreezeWindow, GatesSpec
from sluice.model.spec import EnvironmentName
from sluice.model.verdict import Finding, Verdict, worst

TEST, PROD = EnvironmentName.TEST, EnvironmentName.PROD
BY_ANN = Asked("ann", waivers={"freeze": "the fix cannot\nwait"})


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE])
def test_a_waived_finding_keeps_what_the_gate_said(verdict):
    """Reason, name, the verdict it had and its evidence stay; a broken probe is named as one."""
    found = waived(Finding("freeze", verdict, detail="Frozen by 'weekend'.", fix="wait", metrics={"n": 1}), BY_ANN)
    assert found.verdict is Verdict.WAIVED
    assert found.detail.startswith("Waived by ann: the fix cannot wait. The gate ")
    assert "Frozen by 'weekend'." in found.detail
    assert ("could not be judged" in found.detail) == (verdict is Verdict.ERROR)
    told = {"by": "ann", "reason": "the fix cannot wait", "verdict": verdict.value}
    assert found.metrics == {"n": 1, "waived": told}
    assert found.fix == "wait"
    (record,) = taken([found, Finding("no-secrets", Verdict.PASS)])
    assert record == {"gate": "freeze", **told, "evidence": found.detail}
    assert sentence(record) == f"freeze, by ann: the fix cannot wait (it said {verdict.value})"


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.SKIPPED])
def test_what_passed_has_nothing_to_waive(verdict):
    """The finding stays as it is and says so; nothing is recorded as passed over."""
    found = waived(Finding("freeze", verdict, detail="No window."), BY_ANN)
    assert found.verdict is verdict
    assert found.detail == "No window. There was nothing to waive."
    assert taken([found]) == []


def test_a_waiver_is_for_its_gate_alone():
    """Another gate's failure stands."""
    found = Finding("docs-changed", Verdict.FAIL)
    assert waived(found, BY_ANN) == found
    assert worst([waived(Finding("freeze", Verdict.FAIL), BY_ANN)]) is Verdict.PASS
    assert worst([waived(Finding("freeze", Verdict.FAIL), BY_ANN), found]) is Verdict.FAIL


@pytest.mark.parametrize(
    ("waivers", "policy", "environment", "code"),
    [
        ({"no-secrets": "they are old"}, GatesSpec(), TEST, "WaiverForbidden"),
        ({"freeze": "why not"}, GatesSpec(never_waive=("freeze",)), TEST, "WaiverForbidden"),
        ({"bad-release": "it is good"}, GatesSpec(never_waive=()), TEST, "WaiverForbidden"),
        ({"branch-policy": "hurry"}, GatesSpec(), PROD, "WaiverForbidden"),
        ({"contains-main": "hurry"}, GatesSpec(), PROD, "WaiverForbidden"),
        ({"frieze": "a typo"}, GatesSpec(), TEST, "WaiverUnknown"),
        ({"freeze": " \n"}, GatesSpec(), TEST, "WaiverEmpty"),
        ({"freeze": "x" * 501}, GatesSpec(), TEST, "WaiverEmpty"),
    ],
)
def test_waivers_that_are_refused(waivers, policy, environment, code):
    """Each with its own code, before any gate is asked; exit code 1, the world as it was."""
    with pytest.raises(BadWaiver) as caught:
        must_be_waivable(waivers, GATES, policy, environment)
    assert caught.value.code == code
    assert caught.value.exit_code is ExitCode.REFUSED
    assert caught.value.next


def test_waivers_that_are_taken():
    """What the policy does not forbid may be waived with a reason."""
    good = dict.fromkeys(set(GATES) - {"no-secrets", "bad-release"}, "because")
    must_be_waivable(good, GATES, GatesSpec(), TEST)
    must_be_waivable({"no-secrets": "it is a sample"}, GATES, GatesSpec(never_waive=()), TEST)


async def test_a_waived_gate_runs_all_the_same(origin):
    """Of two gates that fail and one whose probe breaks, two are waived: all three are judged, one still fails."""

    async def broken():
        raise ZeroDivisionError

    origin.commit({"a": "1"})
    context = await origin.context(
        policy=GatesSpec(freeze=(FreezeWindow(name="always"),), required_env=("LACKS",)),
        disk=broken,
        asked=Asked("ann", waivers={"freeze": "an outage", "disk-space": "the disk is fine"}),
    )
    told = []
    findings = {f.name: f for f in await run_gates(context, told.append)}
    assert findings["freeze"].verdict is Verdict.WAIVED
    assert "Frozen by 'always'" in findings["freeze"].detail
    assert findings["disk-space"].metrics["waived"]["verdict"] == "error"
    assert "ZeroDivisionError" in findings["disk-space"].detail
    assert findings["server-env"].verdict is Verdict.FAIL
    assert {f.name: f.verdict for f in told} == {name: f.verdict for name, f in findings.items()}
    assert max(f.ms for f in findings.values()) > 0


async def test_nobody_is_named_where_nobody_asked(origin):
    """A waiver without a name says so instead of inventing one."""
    context = dataclasses.replace(await origin.context(), asked=Asked(waivers={"freeze": "because"}))
    policy = GatesSpec(freeze=(FreezeWindow(name="always"),))
    findings = {f.name: f for f in await run_gates(dataclasses.replace(context, policy=policy), lambda _: None)}
    assert findings["freeze"].detail.startswith("Waived by nobody named")
