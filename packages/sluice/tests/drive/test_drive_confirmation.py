"""The confirmation of a promotion: what will change, what judges it, who approves, wherever it is shown or signed."""

from __future__ import annotations

import dataclasses
import io
import json

import pytest
from rich.console import Console

from sluice.cli.render import JsonScreen, LineScreen
from sluice.drive import Request
from sluice.drive.confirmation import COLUMNS, plan_data, plan_text
from sluice.drive.facts import steps_of
from sluice.drive.promotion import exceptions_of, plan_promotion
from sluice.engine import Kind
from sluice.gates.run import GATES
from sluice.gates.standing import in_promotion
from sluice.ledger import Ledger
from sluice.model.errors import Refused
from sluice.model.policy import DocsRule, GatesSpec, Role, Signer
from sluice.model.promotion import Approval, Denied, document, must_be_of_plan
from sluice.model.stricter import approvers_of

ASK = Request("olga@host", "test")
WAIVING = dataclasses.replace(ASK, waivers={"disk-space": "the new disk comes tonight"})


async def planned(town, asked=ASK):
    """What would be promoted now."""
    exceptions = exceptions_of(town.world(town.prod), asked.waivers, asked.override)
    return await plan_promotion(town.world(town.prod), "", lambda _text: None, exceptions)


def lines_of(plan):
    """The signed text's `key: value` lines."""
    text = document(("shop", "prod"), plan.hash, plan.promotion, "2026-01-01T00:00:00Z")
    return dict(line.split(": ", 1) for line in text.splitlines()[1:])


async def test_the_signed_text_names_the_gates_and_the_approvers(town):
    """Those that will judge, are waived, were asked of the branch, or are switched off by the policy; and people."""
    await town.proven()
    says = lines_of(await planned(town, WAIVING))
    assert says["gates"] == "contains-main, no-secrets, server-env, freeze, bad-release, host-isolation, way-back"
    assert says["gates waived"] == "disk-space"
    assert says["gates judged before the merge"] == "branch-policy"
    assert says["gates switched off by the policy"] == "checks-passed, pr-summary, docs-changed"
    assert says["checklist"] == "none"
    head = town.git("rev-parse", "main", "main^{tree}").split()
    assert [says["commit"], says["tree"]] == head
    assert says["approvals"] == "1 of: bob, ann, not by an author"
    assert says["exceptions"] == "disk-space (the new disk comes tonight)"


CHECKLIST = """[promotion]
checklist = [
  {{id = "told", text = "The people who use it were told."}},
  {{id = "room", text = "There is room.", command = ["test", "-w", "/var/lib/a b"]}},
]"""


async def test_the_signed_text_has_the_words_of_the_checklist(town):
    """Nobody reads that something is signed off before anybody signed it; whoever signs an item reads what it says."""
    town.policy(town.spec.format(**town.keys).replace("[promotion]", CHECKLIST.format()))
    await town.proven()
    plan = await planned(town)
    says = lines_of(plan)
    told = "The people who use it were told. (a person signs it off)"
    room = "There is room. (a command judges it: test -w '/var/lib/a b')"
    assert (says["checklist told"], says["checklist room"]) == (told, room)
    text = document(("shop", "prod"), plan.hash, plan.promotion, "2026-01-01T00:00:00Z", "told")
    assert f"item: told\nitem says: {told}\n" in text
    shown = " ".join(plan_text(plan, "prod").split())
    assert f"checklist told: {told} checklist room: {room}" in shown
    for said in (says["commit"], says["tree"]):
        assert said in shown
    assert plan_data(plan, "prod")["checklist"] == {"told": told, "room": room}


async def test_a_tag_that_is_set_after_the_approval_leaves_it_good(town):
    """The commit has another name and is the same: what was signed names it by its hash."""
    await town.proven()
    await town.signed()
    before = await planned(town)
    town.git("tag", "-a", "-m", "x", "v1.0.0")
    after = await planned(town)
    assert (before.promotion.to_version, after.promotion.to_version) != ("v1.0.0", before.promotion.to_version)
    assert (after.promotion.to_version, after.hash) == ("v1.0.0", before.hash)
    assert (await town.promote()).exit_code == 0


@pytest.mark.parametrize("line", ["commit: ", "tree: "])
async def test_a_text_of_another_commit_is_not_taken(town, line):
    """Whatever version it names."""
    await town.proven()
    await town.not_taken("PlanAltered", alter=(line, f"{line}0"))


async def test_a_gate_that_the_policy_switches_off_is_another_plan(town):
    """Whoever signed while a gate judged has not signed that it does not."""
    town.policy(town.spec.format(**town.keys).replace("[promotion]", '[gates]\nchecks_proof = "status"\n[promotion]'))
    await town.proven()
    await town.signed()
    judged = lines_of(await planned(town))
    assert "checks-passed" in judged["gates"]
    town.policy(town.spec.format(**town.keys))
    await town.proven()
    assert "checks-passed" in lines_of(await planned(town))["gates switched off by the policy"]
    await town.refused("PlanAltered")


@pytest.mark.parametrize("old", ["gates: contains-main", "gates waived: none", "approvals: 1 of: bob"])
async def test_a_text_with_other_gates_or_approvers_is_not_taken(town, old):
    """It is compared as it stands: one name less and it is another promise."""
    await town.proven()
    await town.not_taken("PlanAltered", alter=(old, old.rpartition(" ")[0] + " nothing"))


async def test_the_promotion_itself_shows_the_confirmation_before_it_goes_on(town):
    """Once, after the plan was made and before a gate is asked: text for people, data for programs, approvers too."""
    await town.proven()
    await town.signed()
    town.prod.reports.clear()
    assert (await town.promote()).exit_code == 0
    events = [(one.event, one.step) for one in town.prod.reports]
    (at,) = [place for place, (event, _) in enumerate(events) if event == "confirmation"]
    assert at < events.index(("finding", "gating"))
    shown = town.prod.reports[at]
    for word in ("nothing serves", "commits", "schema", "policy changes", "gates", "1 of: bob, ann", "bob (SHA256:"):
        assert word in shown.text, shown.text
    assert list(shown.data["gates"]) == list(GATES)
    assert [one["principal"] for one in shown.data["approved_by"]] == ["bob"]
    assert shown.data["approvers"] == ["bob", "ann"]
    assert shown.data["plan"] == Ledger(town.prod.paths.ledger).records()[-1]["plan"]


async def test_a_refused_promotion_shows_who_has_not_approved(town):
    """Whoever is refused for want of an approval saw what it would have been of."""
    await town.proven()
    await town.refused("ApprovalMissing")
    (shown,) = [one for one in town.prod.reports if one.event == "confirmation"]
    assert "nobody yet" in shown.text
    assert shown.data["approved_by"] == []


async def test_the_confirmation_has_no_secret(town):
    """A reason with a secret in it is redacted in the text and in the data."""
    await town.proven()
    secret = dataclasses.replace(ASK, waivers={"disk-space": "key sentinel-secret-value"})
    await town.drive(town.prod).promote(secret)
    (shown,) = [one for one in town.prod.reports if one.event == "confirmation"]
    assert "sentinel-secret-value" not in shown.text + str(shown.data)


async def test_nothing_that_others_wrote_moves_the_cursor_of_who_reads_it(town):
    """Escapes, returns and marks of direction in a subject, an author and a reason are blanks, and no line is lost."""
    await town.proven()
    await town.signed()
    assert (await town.promote()).exit_code == 0
    (town.origin / "e").write_text("x")
    town.git("add", "-A")
    town.git("commit", "-qm", "harmless\x1b[1A\x1b[2K\r  commits         0 \u202eevil\u2066", author="An\x1b[31mn")
    await town.proven()
    town.prod.reports.clear()
    await town.drive(town.prod).promote(dataclasses.replace(ASK, waivers={"disk-space": "a\x1b[2Kb\u200fc\rd"}))
    (shown,) = [one for one in town.prod.reports if one.event == "confirmation"]
    assert all(line.isprintable() for line in shown.text.split("\n"))
    lines = shown.text.split("\n")
    at = lines.index("  commits         1")
    sha = town.git("rev-parse", "main")[:12]
    assert lines[at + 1 :] == [f"    {sha}  An [31mn: harmless [1A [2K commits 0 evil"]
    assert any(line.endswith("disk-space: a [2Kb c d") for line in lines), shown.text


async def test_a_rollout_shows_none(town):
    """Nobody confirms what goes to test."""
    await town.proven()
    assert [one for one in town.test.reports if one.event == "confirmation"] == []


async def test_the_text_fits_a_terminal(town):
    """No line is longer than 80 columns, the steps are all there, and no name is broken."""
    town.commit("long", "A change whose subject line stays short")
    await town.proven()
    plan = await planned(town, WAIVING)
    text = plan_text(plan, "prod")
    labelled = text.partition("\n")[2].partition("  commits")[0]
    assert max(len(line) for line in labelled.splitlines()) < COLUMNS
    whole = " ".join(labelled.split())
    assert " > ".join(step.replace("_", " ") for step in steps_of(Kind.PROMOTION)) in whole
    assert all(gate in text for gate in GATES)
    assert plan_data(plan, "prod")["exceptions"] == WAIVING.waivers


def test_how_gates_stand_follows_the_policy():
    """Rules switch a gate on; a waiver counts before everything; an operator's freeze is judged without windows too."""
    off = in_promotion(GatesSpec(), ())
    assert (off["docs-changed"], off["freeze"], off["branch-policy"]) == ("off", "required", "merged")
    on = in_promotion(GatesSpec(docs=(DocsRule(("src/**",), ("docs/**",)),), checks=(("make", "check"),)), {"freeze"})
    assert (on["docs-changed"], on["checks-passed"], on["freeze"]) == ("merged", "required", "waived")
    assert list(on) == list(GATES)


def test_approvers_are_those_of_both_policies():
    """A person only the candidate names is none; a key is the same with another comment."""
    bob, eve = (Signer((f"ssh-ed25519 AAAA{name} x",), (Role.APPROVE,)) for name in ("bob", "eve"))
    carl = Signer(("ssh-ed25519 AAAAcarl",), (Role.CHECKLIST,))
    before = {"robert": Signer(("ssh-ed25519 AAAAbob another comment",), (Role.APPROVE,)), "carl": carl}
    assert approvers_of({"bob": bob, "eve": eve, "carl": carl}, before) == ("bob",)
    assert approvers_of({"bob": bob, "eve": eve, "carl": carl}) == ("bob", "eve")


async def test_nobody_signs_where_nothing_is_promoted_to(town):
    """A confirmation is of a promotion; of test there is none."""
    with pytest.raises(Refused, match="not promoted to"):
        await plan_promotion(town.world(town.test), "", lambda _text: None)


async def test_both_screens_show_it(town):
    """Plain lines for people, one object for programs; brackets in a reason are letters and no colours."""
    await town.proven()
    await town.drive(town.prod).promote(dataclasses.replace(ASK, waivers={"disk-space": "see [red]ticket[/red] 7"}))
    (shown,) = [one for one in town.prod.reports if one.event == "confirmation"]
    people, programs = io.StringIO(), io.StringIO()
    LineScreen(Console(file=people, width=80))(shown)
    JsonScreen(programs)(shown)
    assert people.getvalue() == shown.text + "\n"
    assert "see [red]ticket[/red] 7" in people.getvalue()
    told = json.loads(programs.getvalue())
    assert (told["event"], told["data"]["gates"]["disk-space"]) == ("confirmation", "waived")


def test_a_long_line_is_shown_from_where_it_differs():
    """Two lists of gates are alike for longer than is shown; what was waived stands behind that."""
    gates = ", ".join(f"gate-{n}" for n in range(30))
    head = "Sluice approval\nplan: p\n"
    text = Approval(Role.APPROVE, f"{head}gates: {gates}, one-more\n", "", "", "", "", "r")
    with pytest.raises(Denied) as denied:
        must_be_of_plan(text, f"{head}gates: {gates}, another\n")
    assert "another, was …" in denied.value.what
    assert "one-more" in denied.value.what


@pytest.mark.parametrize(("was", "now"), [(", one-more", ""), ("", ", one-more")])
def test_a_long_line_that_goes_on_is_shown_from_its_other_end(was, now):
    """What was added to a list, or taken from its end, is the difference; both alike would say that there is none."""
    gates = ", ".join(f"gate-{n}" for n in range(30))
    head = f"Sluice approval\nplan: p\ngates: {gates}"
    with pytest.raises(Denied) as denied:
        must_be_of_plan(Approval(Role.APPROVE, f"{head}{was}\n", "", "", "", "", "r"), f"{head}{now}\n")
    end = "gate-29"
    assert f"{end}{now}, was " in denied.value.what
    assert f"{end}{was}." in denied.value.what
