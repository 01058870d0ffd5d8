"""What is left on the screen when a step and a run have ended: little where all is well, the cause where it is not."""

from __future__ import annotations

import io

import msgspec
from rich.console import Console

from sluice.cli.render import screen
from sluice.cli.tables import print_record, print_result, status_text
from sluice.drive import Report, Result
from sluice.engine import State
from sluice.model.verdict import Finding, Verdict

LONG = "three things that must be refused were refused, " * 6


def shown(*findings: Finding, step: str = "smoking_private", status: str = "ok", text: str = "") -> list[str]:
    """The lines that stay on a terminal after one step with these findings."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    with console.capture() as captured, screen(console, as_json=False) as screened:
        screened(Report("step", "", step=step, status="started", text=step))
        for finding in findings:
            screened(Report("finding", "", step=step, finding=finding))
        screened(Report("step", "", step=step, status=status, ms=1500, text=text))
    # The spinner is drawn over and over, each time from the line's beginning.
    lines = [line.rpartition("\x1b[2K")[2].strip() for line in captured.get().splitlines()]
    return [line for line in lines if line.startswith(("ok", "fail", "FAIL", "?", "skip", "2 ", "1 "))]


def ended(*, watch: list[Finding], outcome: State = State.DONE) -> Result:
    """The result of a rollout whose watch said this."""
    record = {
        "n": 3,
        "type": "rollout",
        "run": "r-1",
        "service": "shop",
        "environment": "test",
        "gates": msgspec.to_builtins([Finding("branch-policy", Verdict.PASS, 1, "the name matches")]),
        "smoke": {"private": [], "public": msgspec.to_builtins([Finding("domain-dns", Verdict.SKIPPED, 1, "no name")])},
        "watch": msgspec.to_builtins(watch),
    }
    code = 0 if outcome is State.DONE else 3
    return Result("r-1", "rollout", outcome, code, "the sentence", "what serves", "", record=record)


def told(print_it, value) -> str:
    """What goes to a console."""
    console = Console(file=io.StringIO(), width=120)
    print_it(console, value)
    return console.file.getvalue()


def test_a_step_that_passes_is_one_line_on_a_terminal():
    """It counts and names what passed and what was skipped."""
    good = [Finding(name, Verdict.PASS, 3, "evidence") for name in ("login", "message")]
    lines = shown(*good, Finding("voice", Verdict.SKIPPED, 0, "no voice here"))
    assert lines == ["ok    smoking private     1.5 s  2 passed: login, message", "1 skipped: voice"]


def test_a_step_that_fails_shows_its_evidence_and_not_what_passed():
    """The cause is not to be looked for among twenty good lines."""
    findings = (Finding("login", Verdict.PASS, 3), Finding("message", Verdict.FAIL, 5, "one message was lost"))
    lines = shown(*findings, status="fail", text="message: one message was lost")
    assert lines == [
        "FAIL  message               5 ms  one message was lost",
        "fail  smoking private     1.5 s  message: one message was lost",
    ]


def test_what_passed_before_a_step_failed_is_not_said_of_the_next_step():
    """Each step names its own checks alone."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    with screen(console, as_json=False) as screened:
        for step, name, status in (("smoking_public", "login", "fail"), ("restoring", "message", "ok")):
            screened(Report("step", "", step=step, status="started", text=step))
            screened(Report("finding", "", step=step, finding=Finding(name, Verdict.PASS)))
            screened(Report("step", "", step=step, status=status))
    assert "1 passed: message" in console.file.getvalue()
    assert "login" not in console.file.getvalue()


def test_every_criterion_of_the_watch_keeps_one_line():
    """Its numbers are the news; a long sentence is cut at the terminal's edge, and is in the ledger."""
    lines = shown(
        Finding("auth", Verdict.PASS, 9, LONG), Finding("messages", Verdict.SKIPPED, 9, LONG), step="watching"
    )
    assert len(lines) == 3
    assert all(len(line) <= 100 and line.endswith("…") for line in lines[:2])


def test_a_good_run_ends_in_four_lines():
    """The outcome, what serves, how many of each verdict, and where the evidence is."""
    text = told(print_result, ended(watch=[Finding("health", Verdict.PASS, 9, "ten good probes")]))
    assert [line.strip() for line in text.splitlines()] == [
        "",
        "rollout: done (exit 0)",
        "the sentence",
        "what serves",
        "gates: 1 ok; public checks: 1 skip; criteria: 1 ok",
        "Ledger record 3; in full: sluice log --env test --service shop --run r-1",
    ]


def test_a_bad_run_repeats_what_decided_and_nothing_else():
    """With two causes both are repeated; what could not be judged any more, and dry runs, are not."""
    watch = [
        Finding("health", Verdict.INCONCLUSIVE, 9, "only three probes"),
        Finding("auth", Verdict.FAIL, 9, "let in", dry_run=True),
        Finding("messages", Verdict.FAIL, 9, "two lost"),
        Finding("ws-disconnects", Verdict.FAIL, 9, "all cut"),
    ]
    text = told(print_result, ended(watch=watch, outcome=State.ROLLED_BACK))
    assert ("two lost" in text, "all cut" in text) == (True, True)
    assert ("only three probes" in text, "let in" in text) == (False, False)
    assert "criteria: 2 FAIL, 1 ?" in text  # in one order, whichever came first


def test_a_record_in_full_holds_every_evidence():
    """`sluice log --run` shows what the terminal left out."""
    record = ended(watch=[Finding("health", Verdict.PASS, 9, "ten good probes")]).record
    text = told(print_record, record)
    assert all(words in text for words in ("the name matches", "no name", "ten good probes", "Ledger record 3"))


def test_a_status_reads_as_words():
    """Nothing of the program's own spelling is left in it."""
    text = status_text({"alive": True, "lock": "", "ingress": None, "unfinished": [], "damaged": ["one", "two"]})
    assert [line.split(maxsplit=1)[1] for line in text.splitlines()] == ["yes", "-", "-", "-", "one, two"]
