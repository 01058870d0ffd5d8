"""A runbook as a value: sections of steps, each with its command, its criterion and who looks."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.runbook.items import Kind


@dataclass(frozen=True)
class Step:
    """One line to tick. `off`: why the policy does not look; then nothing else is said of it."""

    kind: Kind
    id: str
    text: str
    name: str = ""  # the id, where no `checked_by` names it
    command: str = ""
    criterion: str = ""
    checked_by: str = ""
    off: str = ""


@dataclass(frozen=True)
class Section:
    """`lead` and `closing` are paragraphs, `commands` a block between lead and steps."""

    title: str
    level: int = 2
    lead: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    numbered: bool = False
    bullets: tuple[str, ...] = ()  # what is said and cannot be ticked
    closing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Document:
    """`mark` is an HTML comment that says of which policy it was made; `sluice runbook lint` reads it."""

    title: str
    mark: str
    sections: tuple[Section, ...]
