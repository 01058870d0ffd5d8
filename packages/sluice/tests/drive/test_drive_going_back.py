"""Which release a rollback goes back to, and what it does not need for that."""

from __future__ import annotations

from sluice.model.errors import Refused
from sluice.model.verdict import Verdict
from sluice.testing import ASKED

from .serving import BAD, established


async def test_rollback_goes_to_the_last_verified_release_and_never_back_to_what_was_left(tmp_path):
    """The newest verified release that does not serve; what somebody rolled back from is not gone back to."""
    memory = await established(tmp_path)
    assert (await memory.drive().rollout(ASKED)).exit_code == 0
    result = await memory.drive().rollback(ASKED)
    assert (result.exit_code, result.record["decision"]) == (0, "rollback")
    assert result.record["from_release"] == "run-0002"
    assert memory.serving_release() == "run-0001"
    again = await memory.drive().rollback(ASKED)
    assert again.exit_code == 1
    assert "nothing to roll back to" in again.what
    assert memory.serving_release() == "run-0001"
    assert memory.migrated == ["run-0001", "run-0002"]


async def test_rollback_needs_no_origin_and_goes_to_no_unverified_release(tmp_path):
    """A rollback works while the repository cannot be reached, and passes over what never served."""
    memory = await established(tmp_path)
    assert (await memory.drive().rollout(ASKED)).exit_code == 0
    memory.verdicts["watch", "feature/bad"] = Verdict.FAIL
    assert (await memory.drive().rollout(BAD)).exit_code == 3
    memory.broken["fetch"] = Refused("unreachable")
    assert (await memory.drive().rollback(ASKED)).exit_code == 0
    assert memory.serving_release() == "run-0001"


async def test_rollback_with_a_lost_artifact_is_refused(tmp_path):
    """What cannot be started is not begun."""
    memory = await established(tmp_path)
    assert (await memory.drive().rollout(ASKED)).exit_code == 0
    memory.artifact.rmdir()
    result = await memory.drive().rollback(ASKED)
    assert (result.exit_code, "is gone" in result.what) == (1, True)
    assert memory.serving_release() == "run-0002"
