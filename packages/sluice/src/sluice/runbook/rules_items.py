"""Rules about what is asked for: what the prose demands and the policy does not, and the other way round."""

from __future__ import annotations

import re

from sluice.model.policy import Role
from sluice.runbook.items import Item, Kind, Part
from sluice.runbook.page import DISCLAIMER, Code, Page
from sluice.runbook.phrases import NOBODY
from sluice.runbook.prose import Block, Shape
from sluice.runbook.standing import Standing, may_approve, standing
from sluice.runbook.words import Lang

# Under such a lead everything in the list is a demand of that kind, and nothing else can be one.
CLOSED: dict[Part, str] = {
    Part.ROLLBACK: r"обязател\w*,? если|откат\w*,? если|mandatory if|(must|roll) ?back (if|when)|rollback (if|when)",
    Part.PROMOTION: r"услови|only (if|when)|conditions",
    Part.AUDIT: r"фиксир|записыва|\brecord",
}
HOW: dict[Part, tuple[str, str]] = {
    Part.ROLLBACK: (
        "No criterion of the watch judges this",
        "take it out, or measure it: a counter in [[watch.auth]], or a check of the plug-in in required_checks",
    ),
    Part.PROMOTION: (
        "No rule of the promotion judges this",
        "make it an item of [[promotion.checklist]] in the policy, or take it out",
    ),
    Part.AUDIT: ("The ledger has no such field", "take it out; docs/reference/ledger.md lists the fields there are"),
}
FIX: dict[Kind, str] = {
    Kind.PLUGIN: "add {id!r} to [watch] required_checks in the policy, or take the line out",
    Kind.CRITERION: "add {id!r} to [watch] required_criteria in the policy, or say that it is not required",
    Kind.GATE: "set {rules} in the policy, or say that it is not checked",
    Kind.CHECK: "set websocket_path in [checks] (or the runtime `compose` in host.toml), or take the line out",
    Kind.RULE: "set it in [promotion] of the policy, or take the line out",
}
SECTION: dict[Kind, Part] = {
    Kind.CHECK: Part.SMOKE,
    Kind.PLUGIN: Part.SMOKE,
    Kind.CRITERION: Part.ROLLBACK,
    Kind.FIELD: Part.AUDIT,
}
NAMED: dict[Kind, str] = {
    Kind.GATE: "gate",
    Kind.CHECK: "check",
    Kind.PLUGIN: "plug-in's check",
    Kind.CRITERION: "criterion",
    Kind.RULE: "rule",
    Kind.FIELD: "field of the ledger",
}


def collect(page: Page) -> None:
    """Who is mentioned where."""
    for block in page.blocks:
        if block.shape in (Shape.HEADING, Shape.COMMENT):
            continue
        for item in page.items:
            name = f"`{item.id}`" in block.text
            if name or ((not item.parts or block.part in item.parts) and item.pattern.search(block.text)):
                page.mentions.setdefault((item.kind, item.id), []).append(block)
                page.read(block)


def demanded(page: Page) -> None:
    """What the prose asks for and the policy does not look at, or looks at although the prose says it does not."""
    for item in page.items:
        how = standing(item, page.facts.policy, containers=page.facts.containers)
        for block in page.mentions.get((item.kind, item.id), ()):
            if block.shape is Shape.CODE or item.kind is Kind.HOST:
                continue
            disclaimed = _disclaimed(block)
            if not disclaimed and how is not Standing.ENFORCED:
                _unchecked(page, item, how, block)
                break
            if disclaimed and how is Standing.ENFORCED and f"`{item.id}`" in block.text:
                sentence = f"The prose says that `{item.id}` is not checked, and the policy does check it."
                page.say(_line(item, block), Code.CHECKED, sentence, "say what it demands, or write the runbook anew")
                break


def _disclaimed(block: Block) -> bool:
    """By itself, or by the entry it stands under."""
    return bool(DISCLAIMER.search(block.text)) or (block.parent is not None and _disclaimed(block.parent))


def _line(item: Item, block: Block) -> int:
    found = item.pattern.search(block.text)
    return block.line_at(found.start() if found else 0)


def _unchecked(page: Page, item: Item, how: Standing, block: Block) -> None:
    why = {
        Standing.OFF: "the policy does not look at it",
        Standing.OPTIONAL: "the policy does not require it: a release whose plug-in is silent would pass",
        Standing.DRY: "it is a dry run in the policy: recorded, without a veto",
    }[how]
    sentence = f"The prose demands what {NAMED[item.kind]} `{item.id}` would judge, and {why}."
    fix = FIX[item.kind].format(id=item.id, rules=item.rules or "its rules")
    if how is Standing.DRY:
        fix = f"take {item.id!r} out of [watch] dry_run, or say that it has no veto"
    page.say(_line(item, block), Code.UNCHECKED, sentence, fix)


def unmentioned(page: Page, *, checklist: bool) -> None:
    """What the policy enforces and the prose never speaks of."""
    for item in page.items:
        mine = item.id.startswith("checklist-") or item.id == "approval"
        wanted = mine if checklist else item.wanted
        if not wanted or (item.kind, item.id) in page.mentions or item.kind is Kind.HOST:
            continue
        if standing(item, page.facts.policy, containers=page.facts.containers) is not Standing.ENFORCED:
            continue
        part = SECTION.get(item.kind) or (item.parts[0] if item.parts else Part.OTHER)
        text = item.text.say(Lang.EN, _Blank()).rstrip(".,")
        sentence = f"The policy enforces the {NAMED[item.kind]} `{item.id}` ({text}); the prose never says so."
        page.say(_heading(page, part), Code.UNMENTIONED, sentence, "add a line about it, or write the runbook anew")


class _Blank(dict[str, str]):
    """Fills a text whose values do not matter."""

    def __missing__(self, key: str) -> str:
        return f"<{key}>"


def _heading(page: Page, part: Part) -> int:
    """Where it belongs: the first heading of that section, else the top."""
    return next((b.line for b in page.blocks if b.shape is Shape.HEADING and b.part is part), 1)


def closed_lists(page: Page) -> None:
    """An entry of a list of criteria, conditions or fields that is none."""
    for block in page.blocks:
        lead, said = block.lead, CLOSED.get(block.part)
        if block.shape is not Shape.ITEM or lead is None or said is None:
            continue
        if not re.search(said, lead.text, re.IGNORECASE) or block.parent not in (None, lead):
            continue
        page.read(block)
        if "](" in block.text:  # it leads to what is asked for
            continue
        kinds = {Part.ROLLBACK: Kind.CRITERION, Part.PROMOTION: Kind.RULE, Part.AUDIT: Kind.FIELD}
        if not any(block in where for (kind, _), where in page.mentions.items() if kind == kinds[block.part]):
            sentence, fix = HOW[block.part]
            page.say(block.line, Code.UNCHECKED, f"{sentence}: {block.text.rstrip('.,;')}.", fix)


def approvers(page: Page) -> None:
    """An approval is asked for, and nobody can give it."""
    policy, where = page.facts.policy, page.mentions.get((Kind.RULE, "approval"), [])
    prose = [block for block in where if block.shape is not Shape.CODE]
    admitted = any(NOBODY.say(lang) in block.text for block in page.blocks for lang in Lang)
    if prose and not admitted and policy.promotion.approvals and not may_approve(policy):
        people, needed = len(page.facts.who_may(Role.APPROVE)), policy.promotion.approvals
        sentence = f"The prose counts on an approval; [signers] names {people} of the {needed} people it takes."
        fix = 'add [signers.NAME] with may = ["approve"] to the policy'
        page.say(prose[0].line, Code.NOBODY, sentence, fix)
