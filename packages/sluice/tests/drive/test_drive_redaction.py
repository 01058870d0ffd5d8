"""No record, report or journal of a run holds a secret, wherever it came in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sluice.drive import Drive
from sluice.ledger import Ledger
from sluice.model.secret import Secret
from sluice.model.verdict import Verdict
from sluice.testing import ASKED, Killed, MemoryWorld, Request, commit_of, killer

from .serving import SENTINEL, established


async def test_no_secret_reaches_journal_ledger_or_reports(tmp_path):
    """A sentinel that every finding and log line of the world repeats is in no sink."""
    memory = await established(tmp_path)
    for judgement in ("ready", "smoke private", "smoke public", "watch"):
        memory.verdicts[judgement, "feature/bad"] = Verdict.FAIL
        request = Request("ann@host", "test", "feature/bad", f"because {SENTINEL}")
        result = await memory.drive().rollout(request)
        assert SENTINEL not in repr(result)
        if result.record["locked"]:
            await memory.drive().unlock(ASKED, f"it was {SENTINEL}")
        del memory.verdicts[judgement, "feature/bad"]
    texts = [path.read_text() for path in memory.paths.env_dir.rglob("*") if path.is_file()]
    assert not [text for text in texts if SENTINEL in text]
    assert SENTINEL not in repr(memory.reports)


async def test_no_record_holds_a_secret_wherever_it_was_typed_or_pushed(tmp_path):
    """Owner, branch, version and reasons are text as well: in no record, report or note of the lock."""
    memory = await established(tmp_path)
    branch = f"feature/{SENTINEL}"
    memory.branches.add(branch)
    memory.verdicts["smoke private", branch] = Verdict.FAIL
    asked = Request(f"ann-{SENTINEL}@host", "flag", branch, f"because {SENTINEL}")
    held: list[str] = []

    def dies(entry):
        held.append(memory.paths.lock_info.read_text())
        killer("intent:starting")(entry)

    with pytest.raises(Killed):
        await memory.drive(dies).rollout(asked)
    assert "ann-[redacted]@host" in held[-1]
    assert SENTINEL not in held[-1]
    await memory.drive().resume(asked)
    result = await memory.drive().rollout(asked)
    for verb in ("lock", "unlock"):
        await getattr(memory.drive(), verb)(asked, f"for {SENTINEL}")
    records = Ledger(memory.paths.ledger).records()
    assert {record["type"] for record in records} >= {"rollout", "recovery", "lock", "unlock"}
    assert SENTINEL not in memory.paths.ledger.read_text() + repr(result) + repr(memory.reports)
    assert (result.record["owner"], result.record["branch"]) == ("ann-[redacted]@host", "feature/[redacted]")
    assert result.record["commit"] == commit_of(branch).sha


async def test_the_policys_branch_stays_in_records_whatever_a_value_says(tmp_path):
    """A server whose DB_ROLE is `master` does not lose the runs of the branch `master`: gates look for them."""
    memory = MemoryWorld(tmp_path, branches={"master"})
    memory.redactor.learn([Secret("master")])
    drive = Drive(replace(memory.world(), policy_ref="master"), memory.reports.append)
    result = await drive.rollout(Request("ann of master", "test", "master"))
    assert (result.record["branch"], result.record["owner"]) == ("master", "ann of [redacted]")
