"""The runbook from the policy, and what a runbook in prose says otherwise. Pure: values in, text out.

`render` writes the whole runbook or the pre-prod checklist in Russian or English; `lint` reads Markdown by tables of
rules and names every line that disagrees with the policy. docs/reference/runbook.md says what each finding means.
"""

from __future__ import annotations

from collections.abc import Iterable

from sluice.runbook.building import Builder
from sluice.runbook.evidence import Evidence, Record, runs_of
from sluice.runbook.facts import Facts, Surface
from sluice.runbook.linting import lint, summary
from sluice.runbook.markdown import to_markdown
from sluice.runbook.page import Around, Code, Disagreement, Level
from sluice.runbook.words import Lang

__all__ = [
    "Around",
    "Code",
    "Disagreement",
    "Facts",
    "Lang",
    "Level",
    "Record",
    "Surface",
    "lint",
    "render",
    "runs_of",
    "summary",
]


def render(facts: Facts, lang: Lang, *, checklist: bool = False, records: Iterable[Record] = (), run: str = "") -> str:
    """The runbook, or its checklist, as Markdown; with `run` filled in. Raises LookupError (no such run)."""
    builder = Builder(facts, lang, run)
    document = builder.checklist() if checklist else builder.runbook()
    evidence = Evidence(records, run, lang) if run else None
    return to_markdown(document, lang, evidence, facts.environment.value)
