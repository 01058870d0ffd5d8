"""A service's migrations: one order, and one way to say what failed, whichever runtime runs the commands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from sluice.model.errors import StepFailed
from sluice.model.release import Completed
from sluice.ports import Progress

HEAD_S = 60  # printing the schema's head opens the database and reads one row
FAILURE_LINES = 10  # the end of a migration's output names the reason

Run = Callable[[Sequence[str], float], Awaitable[Completed]]  # a command of the service, and its deadline


async def migrated(run: Run, command: Sequence[str], timeout_s: float, head: Sequence[str], progress: Progress) -> str:
    """Run the migration, then ask for the schema's head and return it; without a command for one of the two, not that.

    Raises StepFailed with the command's last lines; one that only did not end in time blames no release.
    """
    if command:
        progress("migrating")
        _must_be_good(await run(command, timeout_s), "the migration")
    if not head:
        return ""
    told = await run(head, HEAD_S)
    _must_be_good(told, "asking for the schema's head")
    return told.stdout.strip()


def _must_be_good(done: Completed, what: str) -> None:
    if done.exit_code or done.timed_out:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()[-FAILURE_LINES:]
        reason = "did not end within its deadline" if done.timed_out else f"ended with {done.exit_code}"
        raise StepFailed(f"{what} {reason}.\n" + "\n".join(lines), bad_release=not done.timed_out)
