"""A real command line that dies on cue.

`python -m sluice.testing kill-after ENTRY -- rollout …` runs the real command and kills its own process, with SIGKILL,
right after the named journal entry (`intent:switching`, `observed:starting`, `begin`, `end`) is on disk;
`kill-in switching 3` kills it inside a step, at its third change of the world: a call that changes something on the
engine, a file put in place, or a child that has just begun or has just ended.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from sluice.cli import main as sluice_main
from sluice.runner import LocalRunner
from sluice.runtimes.engine_http import EngineHttp


def _kill_after(entry: str) -> Callable[[str], None]:
    def after(name: str) -> None:
        if name == entry:
            os.kill(os.getpid(), signal.SIGKILL)

    return after


class _Changes:
    """Counts what a step changes outside the journal, and kills this process at one of them. Questions do not count."""

    def __init__(self, step: str, number: int) -> None:
        """From now on; the first change has the number 1."""
        self._begin, self._inside, self._left = f"intent:{step}", False, number
        # A command in a container is how readiness is asked for; `config` is how Compose files are read.
        self._tell_of(EngineHttp, "ask", lambda _self, method, path, **_: method != "GET" and "/exec" not in path)
        self._tell_of(LocalRunner, "run_raw", lambda _self, argv, **_: "config" not in argv)
        self._tell_of(asyncio, "create_subprocess_exec", lambda *argv, **_: "config" not in argv)
        self._rename, os.rename = os.rename, self._renamed

    def _renamed(self, *arguments: Any, **options: Any) -> None:
        self._rename(*arguments, **options)
        self._changed()

    def after_entry(self, name: str) -> None:
        """The step goes on until the next entry, whatever that is."""
        self._inside = name == self._begin

    def _changed(self) -> None:
        if self._inside:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def _tell_of(self, owner: Any, name: str, counts: Callable[..., bool]) -> None:
        real = getattr(owner, name)

        @functools.wraps(real)
        async def told(*arguments: Any, **options: Any) -> Any:
            answer = await real(*arguments, **options)
            if counts(*arguments, **options):
                self._changed()
            return answer

        setattr(owner, name, told)


def main(arguments: list[str]) -> int:
    """`kill-after ENTRY -- COMMAND…` or `kill-in STEP N -- COMMAND…`."""
    match arguments:
        case ["kill-after", entry, "--", *command] if command:
            after = _kill_after(entry)
        case ["kill-in", step, number, "--", *command] if command and number.isdecimal():
            after = _Changes(step, int(number)).after_entry
        case _:
            sys.stderr.write("usage: python -m sluice.testing kill-after ENTRY | kill-in STEP N -- rollout …\n")
            return 2
    return sluice_main(command, after_entry=after)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
