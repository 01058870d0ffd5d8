"""The runner with real children: deadlines, groups, bounds, redaction."""

from __future__ import annotations

import asyncio
import sys

import pytest

from sluice.hosts.system import process_start, session_members
from sluice.model.secret import Redactor, Secret
from sluice.runner import MAX_LINE, MAX_OUTPUT, LocalRunner

FOREVER = "import os, signal; print(os.getpid(), flush=True); os.fork(); signal.pause()"


@pytest.fixture
def runner() -> LocalRunner:
    """A runner whose redactor knows one secret."""
    return LocalRunner(Redactor([Secret("sentinel-99")]))


def python(code: str) -> list[str]:
    """The argv of a snippet."""
    return [sys.executable, "-c", code]


async def gone(session: int) -> bool:
    """The kernel takes a moment to reap what was killed."""
    for _ in range(500):
        if not session_members(session):
            return True
        await asyncio.sleep(0.01)
    return False


async def test_a_program_that_does_not_exist_is_127_with_the_reason(runner):
    """It does not raise: the caller judges exit codes."""
    done = await runner.run(["/no/such/program"], timeout_s=5)
    assert (done.exit_code, done.timed_out) == (127, False)
    assert "No such file" in done.stderr


async def test_the_deadline_ends_the_whole_group(runner):
    """A command that forked is gone with its child, and says that it timed out."""
    done = await runner.run(python(FOREVER), timeout_s=1)
    assert done.timed_out
    assert done.exit_code != 0
    assert await gone(int(done.stdout.split()[0]))


async def test_cancellation_ends_the_whole_group(runner):
    """Nothing is left after the task was cancelled."""
    seen: asyncio.Queue[str] = asyncio.Queue(10)
    task = asyncio.create_task(runner.run(python(FOREVER), timeout_s=60, on_line=seen.put_nowait))
    pid = int(await asyncio.wait_for(seen.get(), 20))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert process_start(pid) is None
    assert await gone(pid)


async def test_output_lines_and_arguments_are_redacted(runner):
    """The secret is in no stream, no line and no argument that comes back."""
    lines: list[str] = []
    code = "import sys; print('a sentinel-99'); print('e sentinel-99', file=sys.stderr)"
    done = await runner.run([*python(code), "sentinel-99"], timeout_s=20, on_line=lines.append)
    assert "sentinel" not in done.stdout + done.stderr + " ".join(lines) + done.argv[-1]
    assert sorted(lines) == ["a [redacted]", "e [redacted]"]


async def test_output_is_bounded_and_its_end_is_kept(runner):
    """Three megabytes and an endless line come back as the last megabyte, in bounded pieces."""
    lines: list[int] = []
    code = f"import sys; sys.stdout.write('x' * {3 * MAX_OUTPUT} + 'end')"
    done = await runner.run(python(code), timeout_s=20, on_line=lambda line: lines.append(len(line)))
    assert (len(done.stdout), done.stdout[-3:]) == (MAX_OUTPUT, "end")
    assert max(lines) <= MAX_LINE
    raw = await runner.run_raw(python(code), timeout_s=20)
    assert raw.cut


@pytest.mark.parametrize("before", [MAX_LINE - 5, 2 * MAX_LINE - 5, MAX_LINE + 3])
async def test_a_secret_in_a_long_line_is_hidden_before_the_line_is_cut(runner, before):
    """Wherever the pieces of a line meet, none of them has a part of it, and nothing else is lost."""
    pieces: list[str] = []
    code = f"import sys; sys.stdout.write('x' * {before} + 'sentinel-99' + 'y' * {2 * MAX_LINE})"
    await runner.run(python(code), timeout_s=20, on_line=pieces.append)
    assert "".join(pieces) == "x" * before + "[redacted]" + "y" * 2 * MAX_LINE
    assert len(pieces) > 2


@pytest.mark.parametrize("after", [MAX_OUTPUT - 4, 3 * MAX_OUTPUT - 4])
async def test_what_is_kept_does_not_begin_within_a_secret(runner, after):
    """The limit cuts through it: its end is not shown, in whatever spelling."""
    code = f"import sys; sys.stdout.write('z' * {3 * MAX_OUTPUT} + 'sentinel%2d99' + 'y' * {after})"
    done = await runner.run(python(code), timeout_s=20)
    assert done.stdout.lstrip("z") in ("[redacted]" + "y" * after, "y" * MAX_OUTPUT)
    assert "99" not in done.stdout


async def test_a_secret_of_short_lines_is_hidden_in_lines_that_stream(runner):
    """Its lines are held until it is clear whether it is the secret; what only begins like it is shown after all."""
    runner.redactor.learn([Secret("first\nsecond\nexample!")])
    lines: list[str] = []
    code = "print('a\\nfirst\\nsecond\\nb\\nx first\\nsecond\\nexample! y\\nfirst')"
    done = await runner.run(python(code), timeout_s=20, on_line=lines.append)
    assert lines == ["a", "first", "second", "b", "x [redacted] y", "first"]
    assert done.stdout == "\n".join([*lines, ""])


async def test_environment_is_minimal_and_stdin_arrives(runner, monkeypatch):
    """Nothing of our own environment leaks in; input is given; exit codes come back."""
    monkeypatch.setenv("LEAK", "yes")
    code = "import os, sys; print(sorted(os.environ), sys.stdin.read()); sys.exit(3)"
    done = await runner.run(python(code), timeout_s=20, stdin=b"in")
    assert done.exit_code == 3
    assert "LEAK" not in done.stdout
    assert done.stdout.strip().endswith("in")


async def test_a_background_child_does_not_hold_the_command(runner):
    """A daemon that keeps our pipe open is ended with the command's group."""
    code = "import os, signal; print(os.getpid(), flush=True)\nif os.fork() == 0: signal.pause()"
    done = await runner.run(python(code), timeout_s=30)
    assert done.exit_code == 0
    assert not done.timed_out
    assert await gone(int(done.stdout))
