"""How the watch looks while it goes on: a small table on a terminal, elsewhere a line when something changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Group, RenderableType
from rich.progress import Progress
from rich.text import Text

from sluice.cli.outlet import escape

if TYPE_CHECKING:
    from sluice.criteria import Reading

STATES = {
    "good": ("ok", "green"),
    "bad": ("BAD", "red"),
    "waiting": ("...", "dim"),
    "unclear": ("?", "yellow"),
    "skipped": ("skip", "dim"),
}
ALARMING = {"bad", "unclear"}
WIDTH = 46  # of a value beside its limit, so that both are seen on a terminal of 120 columns


def readings(data: Mapping[str, Any]) -> list[Reading]:
    """The criteria of one `watch` event. Raises msgspec.ValidationError when it is none."""
    from sluice.criteria import Reading  # with all that watches: only a watch needs it

    return msgspec.convert(data.get("criteria", []), list[Reading])


def panel(data: Mapping[str, Any]) -> RenderableType:
    """One line per criterion: its value now and its limit, cut at the terminal's edge."""
    lines = []
    for reading in readings(data):
        mark, colour = STATES.get(reading.state, ("?", "yellow"))
        name = reading.name + (" (dry run)" if reading.dry_run else "")
        now = reading.now if len(reading.now) <= WIDTH or not reading.limit else f"{reading.now[: WIDTH - 1]}…"
        line = Text.assemble(
            "      ", (f"{mark:5}", colour), f" {name:16} {now:{WIDTH}}", no_wrap=True, overflow="ellipsis"
        )
        lines.append(line.append(f"  limit: {reading.limit}" if reading.limit else "", "dim"))
    return Group(*lines)


class Changes:
    """What a log should say of the watch: what is judged, then only what turns bad, doubtful, or good again."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        self._states: dict[str, str] = {}

    def lines(self, data: Mapping[str, Any]) -> Iterator[str]:
        """The lines of one more event; most have none."""
        told = readings(data)
        if not self._states and told:
            names = ", ".join(reading.name for reading in told if reading.state != "skipped")
            yield f"      [dim]watching for {data.get('left_s', 0):g} s: {escape(names)}[/]"
        for reading in told:
            before, self._states[reading.name] = self._states.get(reading.name), reading.state
            if before != reading.state and {before, reading.state} & ALARMING:
                mark, colour = STATES.get(reading.state, ("?", "yellow"))
                text = f"{escape(reading.now)}, limit: {escape(reading.limit)}"
                yield f"      [{colour}]{mark:5}[/] {escape(reading.name):16} [dim]{text}[/]"


class LiveProgress(Progress):
    """rich's progress with the table of the watch under it."""

    below: RenderableType | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        """See Progress."""
        yield from super().get_renderables()
        if self.below is not None:
            yield self.below
