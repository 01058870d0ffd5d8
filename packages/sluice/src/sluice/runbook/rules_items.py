"""Rules about what is asked for: what the prose demands and the policy does not, and the other way round."""

from __future__ import annotations

import re

from sluice.model.policy import Role
from sluice.runbook import findings as say
from sluice.runbook.items import Item, Kind, Part
from sluice.runbook.page import DISCLAIMER, Code, Page
from sluice.runbook.phrases import NOBODY
from sluice.runbook.prose import Block, Shape
from sluice.runbook.standing import Standing, blind, may_approve, standing, unknown
from sluice.runbook.words import Lang, Words

# Under such a lead everything in the list is a demand of that kind, and nothing else can be one.
CLOSED: dict[Part, str] = {
    Part.ROLLBACK: r"обязател\w*,? если|откат\w*,? если|mandatory if|(must|roll) ?back (if|when)|rollback (if|when)",
    Part.PROMOTION: r"услови|only (if|when)|conditions",
    Part.AUDIT: r"фиксир|записыва|\brecord",
}
KINDS = {Part.ROLLBACK: Kind.CRITERION, Part.PROMOTION: Kind.RULE, Part.AUDIT: Kind.FIELD}
# A lead that takes the duty away which the policy has.
NO_DUTY = re.compile(
    r"необязател|\bне\s+(обязател|нужен|нужн[оа]\b|требуется|выполня|откатыва|дела)|без отката"
    r"|\bnot\s+(mandatory|required|needed|necessary|roll)|\boptional\b"
    r"|\bno roll ?back|\bnever roll|n't (need|roll|have)",
    re.IGNORECASE,
)
SECTION: dict[Kind, Part] = {
    Kind.CHECK: Part.SMOKE,
    Kind.PLUGIN: Part.SMOKE,
    Kind.CRITERION: Part.ROLLBACK,
    Kind.FIELD: Part.AUDIT,
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
        how = standing(item, page.facts)
        for block in page.mentions.get((item.kind, item.id), ()):
            if block.shape is Shape.CODE or item.kind is Kind.HOST:
                continue
            disclaimed = _disclaimed(block)
            if not disclaimed and how is not Standing.ENFORCED:
                _unchecked(page, item, how, block)
                break
            judged = how is Standing.ENFORCED and not unknown(item, page.facts)
            if disclaimed and judged and f"`{item.id}`" in block.text:
                page.say(_line(item, block), Code.CHECKED, say.CHECKED, say.FIX_CHECKED, id=item.id)
                break


def _disclaimed(block: Block) -> bool:
    """By itself, or by the entry it stands under."""
    return bool(DISCLAIMER.search(block.text)) or (block.parent is not None and _disclaimed(block.parent))


def _line(item: Item, block: Block) -> int:
    found = item.pattern.search(block.text)
    return block.line_at(found.start() if found else 0)


def _unchecked(page: Page, item: Item, how: Standing, block: Block) -> None:
    fix = say.FIX_DRY if how is Standing.DRY else say.fix_of(item)
    here = blind(item.id, page.facts) if item.kind is Kind.CHECK else None
    sentence, why = (say.UNCHECKED_HERE, here) if here else (say.UNCHECKED, say.WHY[how])
    values: dict[str, str | Words] = {"id": item.id, "rules": item.rules, "kind": say.NAMED[item.kind], "why": why}
    page.say(_line(item, block), Code.UNCHECKED, sentence, fix, **values)


def unmentioned(page: Page, *, checklist: bool) -> None:
    """What the policy enforces and the prose never speaks of."""
    for item in page.items:
        mine = item.id.startswith("checklist-") or item.id == "approval"
        wanted = mine if checklist else item.wanted
        if not wanted or (item.kind, item.id) in page.mentions or item.kind is Kind.HOST:
            continue
        if standing(item, page.facts) is not Standing.ENFORCED:
            continue
        part = SECTION.get(item.kind) or (item.parts[0] if item.parts else Part.OTHER)
        text = item.text.say(page.lang, _Blank()).rstrip(".,")
        line, kind = _heading(page, part), say.NAMED[item.kind]
        page.say(line, Code.UNMENTIONED, say.UNMENTIONED, say.FIX_UNMENTIONED, kind=kind, id=item.id, text=text)


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
        if not any(block in where for (kind, _), where in page.mentions.items() if kind is KINDS[block.part]):
            sentence, fix = say.NO_ENTRY[block.part]
            page.say(block.line, Code.UNCHECKED, sentence, fix, said=block.text.rstrip(".,;"))


def duties(page: Page) -> None:
    """A lead that says a rollback need not be, over criteria by which the policy rolls back."""
    denied: dict[int, tuple[Block, dict[str, None]]] = {}
    for item in page.items:
        if item.kind is not Kind.CRITERION or standing(item, page.facts) is not Standing.ENFORCED:
            continue
        for block in page.mentions.get((item.kind, item.id), ()):
            lead = block.lead
            if lead is not None and NO_DUTY.search(lead.text) and " ".join(lead.text.split()) not in page.own:
                denied.setdefault(id(lead), (lead, {}))[1][f"`{item.id}`"] = None
    for lead, ids in denied.values():
        page.say(lead.line, Code.CHECKED, say.NO_DUTY, say.FIX_NO_DUTY, ids=", ".join(ids))


def approvers(page: Page) -> None:
    """An approval is asked for, and nobody can give it."""
    policy, where = page.facts.policy, page.mentions.get((Kind.RULE, "approval"), [])
    prose = [block for block in where if block.shape is not Shape.CODE]
    admitted = any(NOBODY.say(lang) in block.text for block in page.blocks for lang in Lang)
    if prose and not admitted and policy.promotion.approvals and not may_approve(policy):
        people, needed = str(len(page.facts.who_may(Role.APPROVE))), str(policy.promotion.approvals)
        page.say(prose[0].line, Code.NOBODY, say.NOBODY, say.FIX_NOBODY, people=people, needed=needed)
