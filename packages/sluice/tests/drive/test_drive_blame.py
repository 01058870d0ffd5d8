"""What the artifact is remembered as bad for, and what is the environment's own fault."""

from __future__ import annotations

import pytest

from sluice.model.verdict import Finding, Verdict
from sluice.testing import MemoryWorld, Request

BAD = Request("ann@host", "test", "feature/bad")
GOOD = Finding("login", Verdict.PASS)


def failed(name: str, **metrics: object) -> Finding:
    """A check that failed."""
    return Finding(name, Verdict.FAIL, detail=f"{name} is bad", metrics=dict(metrics))


@pytest.mark.parametrize(
    ("found", "blamed"),
    [
        ([failed("domain-dns")], False),
        ([failed("domain-tls"), failed("http-health"), failed("login")], False),
        ([failed("domain-redirect")], False),
        ([failed("domain-redirect"), failed("login")], True),
        ([failed("domain-dns"), failed("containers-up")], True),
        ([failed("domain-tls"), failed("logs", shared_alone=False)], True),
        ([failed("logs", shared_alone=True)], False),
        ([failed("logs", shared_alone=True), failed("login")], True),
        ([failed("logs", critical=1)], True),
        ([failed("login", shared_alone=True)], True),
    ],
)
async def test_only_what_the_artifact_can_have_done_is_remembered_of_it(tmp_path, found, blamed):
    """The run is undone and locked all the same; the same artifact is refused again only where it was blamed."""
    memory = MemoryWorld(tmp_path)
    assert (await memory.drive().rollout(Request("ann@host", "test", "main"))).exit_code == 0
    whole = memory.smoke

    async def smoke(release, slot, policy, on_finding, *, public):
        if public and release.commit.branch == "feature/bad":
            return [GOOD, *found]
        return await whole(release, slot, policy, on_finding, public=public)

    memory.smoke = smoke
    result = await memory.drive().rollout(BAD)
    assert (result.exit_code, result.record["bad_release"]) == (3, blamed)
    assert result.record["locked"]
    memory.smoke = whole
    await memory.drive().unlock(BAD, "the name resolves again")
    again = await memory.drive().rollout(BAD)
    assert (again.exit_code, "failed in this environment before" in again.what) == ((1, True) if blamed else (0, False))
