"""Overrides and waivers of test: a record of their own, and shown in every later report, also in prod."""

from __future__ import annotations

import msgspec
import pytest

from sluice.cli.tables import log_table, record_table
from sluice.drive import Request
from sluice.drive.audit import standing_waivers, waivers_of
from sluice.drive.desk import may_smoke
from sluice.drive.status import status_of
from sluice.drive.unchanged import recorded_as
from sluice.gates.waivers import passed_over
from sluice.ledger import Ledger
from sluice.ledger.export import as_csv, as_markdown
from sluice.model.promotion import Denied
from sluice.model.verdict import Finding, Verdict
from sluice.testing import ASKED, Killed, MemoryWorld, killer

MAIN = Request("ann@host", "test", "main")
AGAIN = Request("bob@host", "flag", ASKED.branch, "the probe was ill: sentinel-secret-value")
WHY = "the probe was ill: [redacted]"


def records(memory, kind):
    """The ledger's records of a type."""
    return [one for one in Ledger(memory.paths.ledger).records() if one["type"] == kind]


def words_of(table):
    """Every cell of a table as text."""
    return " ".join(str(cell) for column in table.columns for cell in column.cells)


async def failed(folder):
    """A world where `main` serves, and the other branch was rolled back and is remembered as bad."""
    memory = MemoryWorld(folder)
    assert (await memory.drive().rollout(MAIN)).exit_code == 0
    memory.verdicts["smoke private", ASKED.branch] = Verdict.FAIL
    assert (await memory.drive().rollout(ASKED)).exit_code == 1
    memory.verdicts.clear()
    return memory


# ---------------------------------------------------------------- overrides


async def test_an_override_is_a_record_of_its_own(tmp_path):
    """Who, why, the artifact, and the run that blamed it; before the run's own record, and the chain holds."""
    memory = await failed(tmp_path)
    result = await memory.drive().rollout(AGAIN)
    assert result.exit_code == 0
    (record,) = records(memory, "override")
    bad = records(memory, "rollout")[1]
    assert (record["run"], record["overridden"], record["n"]) == (result.run, bad["run"], result.record["n"] - 1)
    assert (record["owner"], record["owner_source"], record["reason"]) == ("bob@host", "flag", WHY)
    assert record["artifact_key"] == bad["artifact_key"] == result.record["artifact_key"]
    assert record["env_fingerprint"] == bad["env_fingerprint"]
    assert Ledger(memory.paths.ledger).verify().ok


async def test_an_override_is_in_the_log_and_the_exports(tmp_path):
    """The table, the record in full, CSV and Markdown say it, without the secret in the reason."""
    memory = await failed(tmp_path)
    await memory.drive().rollout(AGAIN)
    (record,) = records(memory, "override")
    table = words_of(log_table([record], 160))
    told = [table, words_of(record_table(record)), as_csv([record]), as_markdown([record])]
    assert [text for text in told if "override" not in text or "bob@host" not in text] == []
    assert [text for text in told if "sentinel" in text] == []
    assert record["overridden"] in told[1]
    assert f"run {record['overridden']}: {WHY}" in table.replace("\\[", "[")


async def test_an_override_is_shown_for_as_long_as_its_release_serves(tmp_path):
    """In the run's words and in status, as a waiver is; the next release that needed none ends it."""
    memory = await failed(tmp_path)
    result = await memory.drive().rollout(AGAIN)
    told = [f"bad-release, by bob@host: {WHY} (it said fail)"]
    assert result.waivers == told
    assert (await status_of(memory.world())).waivers == told
    assert (await memory.drive().rollout(MAIN)).waivers == []


async def test_an_override_that_was_not_needed_is_no_record(tmp_path):
    """The artifact never failed here: nothing was overridden."""
    memory = MemoryWorld(tmp_path)
    assert (await memory.drive().rollout(AGAIN)).exit_code == 0
    assert records(memory, "override") == []


async def test_what_was_refused_without_an_override_is_no_record(tmp_path):
    """A bad release that is only refused overrides nothing."""
    memory = await failed(tmp_path)
    assert (await memory.drive().rollout(ASKED)).exit_code == 1
    assert records(memory, "override") == []


@pytest.mark.parametrize("entry", ["observed:building", "observed:switching"])
async def test_a_run_that_was_killed_remembers_its_override(tmp_path, entry):
    """Whoever recovers it, the override is recorded once, under the name of who gave it."""
    memory = await failed(tmp_path)
    with pytest.raises(Killed):
        await memory.drive(killer(entry)).rollout(AGAIN)
    await memory.drive().resume(Request("carl@host", "flag"))
    assert [one["owner"] for one in records(memory, "override")] == ["bob@host"]
    assert await memory.drive().resume(Request("carl@host", "flag")) == []


async def test_an_override_of_the_gate_is_recorded_too(tmp_path, monkeypatch):
    """The tree failed before and the build gives another artifact: what the gate let pass is an override as well."""
    memory = await failed(tmp_path)
    bad = records(memory, "rollout")[1]["run"]

    async def gates(*_arguments):
        return [Finding("bad-release", Verdict.WAIVED, metrics={"override": True, "run": bad})]

    monkeypatch.setattr(memory, "gates", gates)
    memory.verdicts["ready", ASKED.branch] = Verdict.FAIL
    await memory.drive().rollout(AGAIN)
    assert [one["overridden"] for one in records(memory, "override")] == [bad]


def test_a_run_of_test_that_overrode_tells_it_as_a_waiver():
    """By its own record: the gate that was overridden, by its owner; what was not passed over is not told."""
    gates = [
        {"name": "bad-release", "verdict": "waived", "detail": "was bad", "metrics": {"override": True, "run": "r"}},
        {"name": "freeze", "verdict": "pass", "detail": "", "metrics": {}},
    ]
    (told,) = passed_over({"gates": gates, "owner": "ann", "override": "the probe was ill"})
    wanted = {"gate": "bad-release", "by": "ann", "reason": "the probe was ill", "verdict": "fail"}
    assert told == {**wanted, "evidence": "was bad"}
    assert passed_over({"type": "rollout"}) == ()


# ---------------------------------------------------------------- waivers of test, in prod


@pytest.fixture
async def waived(town):
    """In test a gate was waived; the approver signed that, and prod has it."""
    town.test.verdicts["gates", "main"] = Verdict.FAIL
    waiving = Request("ann@host", "flag", "main", waivers={"branch-policy": "agreed with sentinel-secret-value"})
    assert (await town.drive(town.test).rollout(waiving)).exit_code == 0
    await town.signed()
    town.result = await town.promote()
    assert town.result.exit_code == 0
    return town


TOLD = "in test: branch-policy, by ann@host: agreed with [redacted] (it said fail)"


async def test_what_test_passed_over_is_shown_in_prod(waived):
    """The promotion's own words, prod's status, and its record in the log and in Markdown."""
    assert waived.result.waivers == [TOLD]
    assert (await status_of(waived.world(waived.prod))).waivers == [TOLD]
    record = waived.result.record
    assert [one["gate"] for one in record["waived_in_test"]] == ["branch-policy"]
    assert "branch-policy, by ann@host" in words_of(record_table(record))
    assert "waived in test: branch" in as_markdown([record])
    assert "sentinel" not in str(record)


async def test_a_promotion_that_needed_none_ends_it_and_a_rollback_brings_it_back(waived):
    """Each release has its own waivers, whichever way it came to serve."""
    waived.test.verdicts.clear()
    waived.commit("more", "more")
    await waived.proven()
    await waived.signed()
    assert (await waived.promote()).waivers == []
    back = await waived.drive(waived.prod).rollback(Request("ann@host", "flag"))
    assert (back.exit_code, back.waivers) == (0, [TOLD])
    assert standing_waivers(waived.world(waived.prod)) == [TOLD]


def test_a_promotion_recorded_before_this_was_kept_has_none():
    """An older ledger reads on."""
    release = type("Release", (), {"id": "r"})()
    assert waivers_of([{"type": "promotion", "run": "r"}], release) == []


# ---------------------------------------------------------------- smoke of prod


async def unfinished(town):
    """Prod serves what a promotion brought that left something behind, and main has something new that test proved."""
    await town.proven()
    await town.signed()
    assert (await town.promote()).exit_code == 0
    release, slot = town.prod.releases.serving()

    other = msgspec.structs.replace(release, id="run-0000")
    town.prod.releases.save(other)
    told = {
        "outcome": "degraded",
        "decision": "go",
        "plan": "p",
        "release": other.id,
        "release_digest": recorded_as(other),
    }
    Ledger(town.prod.paths.ledger).append({"type": "promotion", "run": other.id, **told})
    town.prod.running[slot.unit] = other.id
    town.prod.releases.set_serving(other, slot)
    town.commit("more", "more")
    await town.proven()
    return other


async def refused(town, release, code):
    """No smoke, with this code."""
    with pytest.raises(Denied) as denied:
        await may_smoke(town.world(town.prod), release)
    assert denied.value.code == code
    assert "No finished promotion" in denied.value.what


async def test_prod_is_smoked_after_a_finished_promotion(town):
    """Also when another plan would be possible by now, and nobody approved it."""
    await town.proven()
    await town.signed()
    assert (await town.promote()).exit_code == 0
    release, _ = town.prod.releases.serving()
    town.commit("more", "more")
    await may_smoke(town.world(town.prod), release)


async def test_prod_is_smoked_with_a_live_approval(town):
    """Unexpired, unused, of the plan as it is now; not before it was given, nor after its time."""
    other = await unfinished(town)
    await refused(town, other, "ApprovalMissing")
    await town.signed()
    await may_smoke(town.world(town.prod), other)
    town.prod.clock.elapsed += 601
    await refused(town, other, "ApprovalExpired")


async def test_an_approval_of_another_plan_or_a_used_one_is_none(town):
    """The branch moved after it was signed; or a promotion that was undone has acted on it."""
    other = await unfinished(town)
    await town.signed()
    town.commit("still more", "more")
    await refused(town, other, "NotProven")
    await town.proven()
    await refused(town, other, "PlanAltered")
    await town.signed()
    town.prod.verdicts["smoke public", "main"] = Verdict.FAIL
    assert (await town.promote()).exit_code == 4
    await refused(town, other, "ApprovalUsed")


async def test_test_is_smoked_without_anybody(town):
    """Nothing is promoted there."""
    await town.proven()
    release, _ = town.test.releases.serving()
    await may_smoke(town.world(town.test), release)
