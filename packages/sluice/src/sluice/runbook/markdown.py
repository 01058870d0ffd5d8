"""A document as Markdown, with the evidence of a run where there is one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sluice.runbook import phrases as say
from sluice.runbook.document import Document, Section, Step
from sluice.runbook.evidence import Evidence
from sluice.runbook.items import Kind
from sluice.runbook.words import Lang

# What came from outside must not become markup: a finding's sentence quotes logs and answers of servers.
SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")
SHOWN = 600  # letters of one piece of evidence; the ledger has all of it


def to_markdown(document: Document, lang: Lang, evidence: Evidence | None = None, environment: str = "") -> str:
    """The document; with `evidence` every step has a box, and what the ledger says of it."""
    lines = [f"# {document.title}", "", f"<!-- {document.mark} -->", ""]
    if evidence is not None:
        lines += [_plain_line(evidence.head(environment)), ""]
    for section in document.sections:
        lines += _section(section, lang, evidence)
    return "\n".join(lines).rstrip("\n") + "\n"


def _section(section: Section, lang: Lang, evidence: Evidence | None) -> Iterator[str]:
    yield f"{'#' * section.level} {section.title}" if section.level else section.title
    yield ""
    for text in section.lead:
        yield text
        yield ""
    if section.commands:
        yield from ("```", *section.commands, "```", "")
    for number, step in enumerate(section.steps, 1):
        yield from _step(step, f"{number}." if section.numbered else "-", lang, evidence)
    for text in section.bullets:
        yield f"- {text}"
    if section.steps or section.bullets:
        yield ""
    for text in section.closing:
        yield text
        yield ""


def _step(step: Step, bullet: str, lang: Lang, evidence: Evidence | None) -> Iterator[str]:
    proof = evidence.of(step) if evidence is not None else None
    box = "" if proof is None else "[x] " if proof.ticked else "[ ] "
    mark = proof.mark.say(lang) if proof is not None else ""
    named = f"`{step.name}`" if step.name else ""
    rest = f" ({named}) — {step.off}" if step.off else f" {named}" if named else ""
    yield f"{bullet} {box}{mark}{step.text}{rest}"
    indent = " " * (len(bullet) + 1)
    if not step.off:
        pairs = (
            (say.COMMAND, f"`{step.command}`" if step.command else ""),
            (say.LIMIT if evidence is not None and step.kind is Kind.CRITERION else say.CRITERION, step.criterion),
            (say.BY, step.checked_by),
        )
        for label, text in pairs:
            if text:
                yield f"{indent}- {label.say(lang)}: {text}"
    if proof is not None:
        yield f"{indent}- {say.EVIDENCE.say(lang)}: {_plain(proof.sentence)}"


def _plain(text: str) -> str:
    line = " ".join(text.split())
    return SPECIAL.sub(r"\\\1", line if len(line) <= SHOWN else f"{line[:SHOWN]}…")


def _plain_line(text: str) -> str:
    return " ".join(text.split())
