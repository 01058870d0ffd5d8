"""Where a run's words go: a stream that neither blocks nor breaks the one who writes into it.

A terminal that was closed, a pipe nobody reads any more, an ssh connection that stalls: each would otherwise stop a
rollout half-way, with users on a release nobody watches.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TextIO

from rich.console import Console
from rich.markup import escape as no_markup

from sluice.model.text import plain

MAX_WIDTH = 160
BOUND = 1 << 20  # bytes that wait for a slow reader: the words of a whole rollout, twice over
FINISH_S = 5.0  # at the end, for a reader that is only slow; one that stands still gets no longer
Lost = Callable[[int], str]  # the line that says how many writes were lost


class Outlet(io.TextIOBase):
    """Text for a descriptor, written by a thread of its own, in order; what finds no room is lost whole, and said."""

    def __init__(self, descriptor: int, lost: Lost, *, bound: int = BOUND, encoding: str = "utf-8") -> None:
        """The descriptor stays the caller's."""
        self._descriptor, self._say_lost, self._bound, self._encoding = descriptor, lost, bound, encoding
        self._waiting: list[bytes] = []
        self._size, self._lost = 0, 0
        self._busy, self._gone = False, False
        self._changed = threading.Condition()
        # A daemon: the kernel may never return from its write.
        self._thread = threading.Thread(target=self._pass_on, name="outlet", daemon=True)
        self._thread.start()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # an attribute there; a reader of it sees no difference
        return self._encoding

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        """Take it, or lose it; never wait, never raise for the reader's sake."""
        data = text.encode(self._encoding, "backslashreplace")
        with self._changed:
            if self._gone or not data:
                return len(text)
            if self._size + len(data) > self._bound:
                self._lost += 1
                return len(text)
            self._append(data)
        return len(text)

    def _append(self, data: bytes) -> None:
        self._waiting.append(data)
        self._size += len(data)
        self._changed.notify_all()

    def finish(self, timeout_s: float = FINISH_S) -> bool:
        """Wait until everything was read, at most so long; whether it was."""
        with self._changed:
            return self._changed.wait_for(lambda: self._gone or not (self._waiting or self._busy), timeout_s)

    def _pass_on(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                if self._lost and not self._waiting:
                    self._append(self._say_lost(self._lost).encode(self._encoding, "backslashreplace"))
                    self._lost = 0
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._waiting))
                data, self._busy = memoryview(b"".join(self._waiting)), True
                self._waiting, self._size = [], 0
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:  # the reader is gone, for good: the run's own file has everything it says
                with self._changed:
                    self._gone, self._waiting = True, []
                    self._changed.notify_all()
                return


@contextlib.contextmanager
def outlet(lost: Lost) -> Iterator[TextIO]:
    """Standard output as an outlet; as it is where it has no descriptor, as in a program that captures it."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, AttributeError, ValueError):
        yield sys.stdout
        return
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    made = Outlet(descriptor, lost, encoding=sys.stdout.encoding or "utf-8")
    try:
        yield made  # type: ignore[misc]  # all of TextIO that is used
    finally:
        made.finish()


def escape(text: str) -> str:
    """Somebody's words in a line or a cell: printable letters alone, and no markup."""
    return no_markup(plain(text))


def console(file: TextIO | None = None) -> Console:
    """Where tables go. Piped output is never folded narrower than a wide terminal."""
    out = Console(file=file, highlight=False)
    return out if out.is_terminal else Console(file=file, highlight=False, width=MAX_WIDTH)
