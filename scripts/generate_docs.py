"""Write the generated pages of docs/ anew, or with --check say which are stale.

docs/explanation/engine.md is drawn from the engine's table, and docs/reference/ holds what is made from the routes and
the messages of the server, so the pages cannot say what the programs do not do.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import api_pages
import script_pages

from sluice.engine import (
    EXIT_CODES,
    FORWARD,
    PASSED_OVER,
    STEPS,
    TABLE,
    TERMINAL,
    UNSTOPPABLE,
    Effect,
    Event,
    Kind,
    State,
    table,
)

ROOT = Path(__file__).resolve().parent.parent

# An arrow that every step of a group shares is drawn once in words below the diagram, not twelve times in it.
SHARED = (Event.BROKEN, Event.INTERRUPT, Event.RECOVER, Event.SKIP)
OUTCOMES = {
    State.DONE: "the new release serves, proven and recorded",
    State.REFUSED: "refused or aborted; no user saw anything, what served goes on serving",
    State.ROLLED_BACK: "users were on the new release; the old one serves again, proven",
    State.DEGRADED: "a good release serves, but not everything is as it should be",
    State.ROLLBACK_FAILED: "the old release could not be restored: both slots are left running, a human is needed",
    State.NONE_SERVING: "a first rollout failed: there was nothing to go back to",
}


def engine_page() -> str:
    """docs/explanation/engine.md."""
    return "\n".join([*_head(), *_diagram(), *_steps(), *_transitions(), *_outcomes()]) + "\n"


def _head() -> Iterator[str]:
    yield "# The engine of a run"
    yield ""
    yield "<!-- Generated from sluice.engine by scripts/generate_docs.py (make docs). Do not edit. -->"
    yield ""
    theory = (table.__doc__ or "").strip().split("\n\n")[1:]
    for paragraph in theory:
        yield " ".join(paragraph.split())
        yield ""
    yield "Before a step begins, its intent is on disk; after it, its observation. A kill at any moment is recovered by"
    yield "the next command, which replays the observations through this table and gives the state they lead to the"
    yield "event `recover`."
    yield ""


def _diagram() -> Iterator[str]:
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield f"    [*] --> {State.PLANNING.value}"
    for (state, event), there in TABLE.items():
        if event not in SHARED and there.state is not state:
            label = f"{event.value} (marks the release bad)" if Effect.MARK_BAD in there.effects else event.value
            yield f"    {state.value} --> {there.state.value}: {label}"
    for state in TERMINAL_IN_ORDER:
        yield f"    {state.value} --> [*]"
    yield "```"
    yield ""
    over = ", ".join(f"`{s.value}`" for s in FORWARD if s in PASSED_OVER[Kind.ROLLBACK])
    last = ", ".join(f"`{s.value}`" for s in State if s in UNSTOPPABLE)
    yield "Not drawn: `broken` tries a step again until its patience is used up;"
    yield f"a rollback passes over {over} by `skip`;"
    yield f"`interrupt` and `recover` lead where `give_up` leads, except in {last}, which are finished or done again."
    yield ""


def _steps() -> Iterator[str]:
    yield "## Steps"
    yield ""
    yield "| state | step | intent (before) | observation (after) | undo |"
    yield "|---|---|---|---|---|"
    for state, step in STEPS.items():
        yield f"| `{state.value}` | {step.title} | {step.intent} | {step.observation} | {step.undo} |"
    yield ""


def _transitions() -> Iterator[str]:
    events = list(Event)
    yield "## Transitions"
    yield ""
    yield "An empty cell is impossible, and refused. `!` marks the release bad."
    yield ""
    yield "| state | " + " | ".join(f"`{event.value}`" for event in events) + " |"
    yield "|---" * (len(events) + 1) + "|"
    for state in STEPS:
        cells = []
        for event in events:
            there = TABLE.get((state, event))
            bad = " !" if there is not None and Effect.MARK_BAD in there.effects else ""
            cells.append(f"{there.state.value}{bad}" if there is not None else "")
        yield f"| `{state.value}` | " + " | ".join(cells) + " |"
    yield ""


def _outcomes() -> Iterator[str]:
    yield "## Outcomes"
    yield ""
    yield "| outcome | exit code | what it means |"
    yield "|---|---|---|"
    for state in TERMINAL_IN_ORDER:
        yield f"| `{state.value}` | {int(EXIT_CODES[state])} | {OUTCOMES[state]} |"


TERMINAL_IN_ORDER = [state for state in State if state in TERMINAL]
PAGES = {
    "docs/explanation/engine.md": engine_page,
    "docs/reference/openapi.json": api_pages.openapi_json,
    "docs/reference/asyncapi.json": api_pages.asyncapi_json,
    "docs/reference/http-api.md": api_pages.http_page,
    "docs/reference/socket.md": api_pages.socket_page,
    "docs/reference/scripts.md": script_pages.scripts_page,
}


def main(arguments: list[str]) -> int:
    """0: written, or (with --check) all up to date; 1: something is stale."""
    stale = []
    for name, page in PAGES.items():
        path, text = ROOT / name, page()
        if path.exists() and path.read_text() == text:
            continue
        if "--check" in arguments:
            stale.append(name)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(f"wrote {name}")
    for name in stale:
        print(f"{name} is stale: run `make docs`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
