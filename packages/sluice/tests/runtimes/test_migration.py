"""Migrations, with commands that are no processes."""

from __future__ import annotations

import pytest

from sluice.model.errors import StepFailed
from sluice.model.release import Completed
from sluice.runtimes.migration import migrated


def commands(asked, **ends):
    """Runs nothing, and says what `ends` has for a command's first word."""

    async def run(argv, timeout_s):
        asked.append((*argv, timeout_s))
        return Completed(tuple(argv), *ends.get(argv[0], (0, "", "")), 1, timed_out=argv[0] == "slow")

    return run


async def test_the_head_is_asked_for_once_the_migration_has_run():
    """Each where there is a command for it, and nothing where there is none."""
    for command, head, found in (
        (("up",), ("head",), "0002"),
        ((), ("head",), "0002"),
        (("up",), (), ""),
        ((), (), ""),
    ):
        asked, said = [], []
        assert await migrated(commands(asked, head=(0, " 0002\n", "")), command, 9, head, said.append) == found
        assert [one[0] for one in asked] == [*command, *head]
        assert said == ["migrating"] * len(command)
        assert ("up", 9) in asked or not command


@pytest.mark.parametrize(
    ("word", "told", "bad"),
    [("up", r"the migration ended with 3\.\n5\n", True), ("slow", "did not end within its deadline", False)],
)
async def test_a_migration_that_fails_says_its_last_lines(word, told, bad):
    """The release is blamed for what it said, and not for what only took too long; the head is not asked for then."""
    asked: list[tuple] = []
    lines = "\n".join(map(str, range(15)))
    with pytest.raises(StepFailed, match=told) as failed:
        await migrated(commands(asked, up=(3, lines, "")), (word,), 9, ("head",), lambda _: None)
    assert failed.value.bad_release is bad
    assert len(asked) == 1


async def test_a_head_that_cannot_be_told_fails_too():
    """A release whose schema nobody knows is none to go back to."""
    with pytest.raises(StepFailed, match=r"asking for the schema's head ended with 1\.\nno table"):
        await migrated(commands([], head=(1, "", "no table\n")), (), 9, ("head",), lambda _: None)
