"""How the watch looks: a calm table on a terminal, few lines in a log, events for programs."""

from __future__ import annotations

import io
import json

from rich.console import Console

from sluice.cli.render import JsonScreen, LineScreen, screen
from sluice.cli.watching import Panel
from sluice.drive import Report
from sluice.model.verdict import Finding, Verdict


def event(left: float, **states: str) -> Report:
    """One `watch` event; `messages="bad"` is a criterion and its state."""
    criteria = [
        {"name": name, "state": state, "now": f"{name} [now]", "limit": "0 lost"} for name, state in states.items()
    ]
    return Report("watch", "", step="watching", data={"left_s": left, "criteria": criteria})


def test_a_log_says_what_is_judged_and_then_only_what_turns_bad_or_good_again():
    """Waiting that becomes good is no news; a break, a doubt and their end are."""
    out = io.StringIO()
    shown = LineScreen(Console(file=out, width=120))
    for left, state in ((10, "waiting"), (9, "good"), (8, "good"), (7, "bad"), (6, "bad"), (5, "good"), (4, "unclear")):
        shown(event(left, health="good", messages=state, auth="skipped"))
    lines = [line.strip() for line in out.getvalue().splitlines()]
    assert lines == [
        "watching for 10 s: health, messages",
        "BAD   messages         messages [now], limit: 0 lost",
        "ok    messages         messages [now], limit: 0 lost",
        "?     messages         messages [now], limit: 0 lost",
    ]


def test_a_terminal_shows_every_value_and_the_time_left_and_takes_it_away():
    """The table stands under the spinner while the step runs, and is gone afterwards."""
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with screen(console, as_json=False) as shown, console.capture() as captured:
        shown(Report("step", "", step="watching", status="started", text="watching"))
        shown(event(7, health="good", messages="bad"))
        below = Console(file=io.StringIO(), width=120)
        below.print(shown._live.get_renderable())
        shown(Report("step", "", step="watching", status="ok"))
        after = Console(file=io.StringIO(), width=120)
        after.print(shown._live.get_renderable())
    text = below.file.getvalue()
    assert "7 s left" in text
    assert "messages [now]" in text
    assert "limit: 0 lost" in text
    assert "limit" not in after.file.getvalue()
    assert captured.get()


def test_a_narrow_terminal_shows_every_limit_too():
    """Eighty columns have no room for a value and its limit in one line: the limit is below, and neither is cut."""
    value, limit = "public 0 of 10, new 0 of 10, old 0 of 10 bad", "below 3 of 10 bad, of the public address or new"
    told = {"criteria": [{"name": "health", "state": "good", "now": value, "limit": limit}]}
    below = Console(file=io.StringIO(), width=80)
    below.print(Panel(told))
    assert below.file.getvalue().split("\n") == [
        f"      ok    health           {value}",
        f"            limit: {limit}",
        "",
    ]


def test_programs_get_every_event():
    """With --json nothing is summed up."""
    out = io.StringIO()
    JsonScreen(out)(event(7, messages="bad"))
    told = json.loads(out.getvalue())
    assert (told["event"], told["data"]["left_s"], told["data"]["criteria"][0]["state"]) == ("watch", 7, "bad")


def test_a_dry_run_is_said_to_have_no_veto():
    """A fail that does not roll back must not look like one that does."""
    out = io.StringIO()
    LineScreen(Console(file=out, width=160))(Report("finding", "", finding=Finding("auth", Verdict.FAIL, dry_run=True)))
    assert "FAIL" in out.getvalue()
    assert "no veto" in out.getvalue()
