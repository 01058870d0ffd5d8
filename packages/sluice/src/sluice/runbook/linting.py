"""The lint: every rule over every block, then what the whole document lacks."""

from __future__ import annotations

import itertools
import re

from sluice.model.spec import EnvironmentName
from sluice.runbook import findings as say
from sluice.runbook import phrases
from sluice.runbook.building import MARK, Builder
from sluice.runbook.facts import Facts, digest_of
from sluice.runbook.markdown import to_markdown
from sluice.runbook.page import Around, Code, Disagreement, Level, Page
from sluice.runbook.prose import MAX_BLOCK, Block, Shape, blocks_of, sentences
from sluice.runbook.rules_items import approvers, closed_lists, collect, demanded, duties, unmentioned
from sluice.runbook.rules_values import no_environment, value_rules
from sluice.runbook.shell import commands_in, environment_in, is_command, judge, known_program, verb_of
from sluice.runbook.standing import all_items
from sluice.runbook.words import Lang

STAMP = re.compile(rf"<!-- {MARK}( --checklist)? --lang \w+: policy ([0-9a-f]+) -->")
EVIDENCE = tuple(f"{phrases.EVIDENCE.say(lang)}:" for lang in Lang)
EVIDENCE += tuple(phrases.OF_RUN.say(lang).partition("{")[0] for lang in Lang)
MARKS = [words.say(lang) for words in (phrases.FAILED, phrases.BROKEN, phrases.UNCLEAR) for lang in Lang]
MARK_OF_RUN = re.compile(rf"^({'|'.join(re.escape(mark) for mark in MARKS)})")
CHECKLIST = re.compile(r"pre-?prod|check-?list|чек-?лист", re.IGNORECASE)
# A block that only says that something follows.
LEAD = re.compile(r":$")
SHOWN = 80  # letters: a line of a terminal


def lint(text: str, facts: Facts, around: Around, lang: Lang = Lang.EN) -> list[Disagreement]:
    """Where prose and policy disagree, in the order of the lines; what no rule understands is at level `info`.

    `lang` is that of the findings; the prose may be in either language.
    """
    blocks = [one for one in blocks_of(text) if not one.text.startswith(EVIDENCE)]
    page = Page(facts, blocks, list(all_items(facts.policy)), around, lang, _own(facts))
    checklist = _stamp(page) or _is_checklist(blocks)
    collect(page)
    demanded(page)
    closed_lists(page)
    duties(page)
    approvers(page)
    for block in blocks:
        if block.shape is not Shape.COMMENT:
            for rule in value_rules():
                rule(page, block)
            _commands(page, block)
    unmentioned(page, checklist=checklist)
    _rest(page)
    return sorted(page.found)


def summary(found: list[Disagreement], lang: Lang) -> str:
    """How many there are, in one line."""
    bad = sum(one.level is Level.DISAGREES for one in found)
    first = say.DISAGREES if bad else say.AGREES
    return "; ".join(
        words.say(lang, {"count": str(count)}) for words, count in ((first, bad), (say.UNREAD, len(found) - bad))
    )


def _own(facts: Facts) -> frozenset[str]:
    """Every sentence `sluice runbook` would write now, in both languages: those need no rule to be understood."""
    written: list[str] = []
    for lang, run in itertools.product(Lang, ("", "RUN")):
        builder = Builder(facts, lang, run)
        for document in (builder.runbook(), builder.checklist()):
            written += sentences(blocks_of(to_markdown(document, lang)))
    return frozenset(written)


def _stamp(page: Page) -> bool:
    """Whether the document says that it is a checklist of ours; one of another policy is stale as a whole."""
    for block in page.blocks:
        found = STAMP.search(block.text) if block.shape is Shape.COMMENT else None
        if found is None:
            continue
        now = digest_of(page.facts.policy)
        if found.group(2) != now:
            again = f"sluice runbook{found.group(1) or ''} --output FILE"
            page.say(block.line, Code.STALE, say.STALE, say.AS_IT_IS, then=found.group(2), now=now, do=again)
        return bool(found.group(1))
    return False


def _is_checklist(blocks: list[Block]) -> bool:
    title = next((one for one in blocks if one.shape is Shape.HEADING), None)
    return title is not None and bool(CHECKLIST.search(title.text))


def _commands(page: Page, block: Block) -> None:
    for offset, code in block.spans:
        if block.shape is not Shape.CODE and not is_command(code):
            continue
        for words in commands_in(code):
            if known_program(words[0]):
                page.read(block)
            _command(page, block.line_at(offset), words)


def _command(page: Page, line: int, words: list[str]) -> None:
    surface = page.facts.surface
    local = [words[0]] if page.around.exists(words[0]) and words[0].endswith(".sh") else []
    for wrong in judge(words, surface, page.around.npm, local):
        page.say(line, Code(wrong.code), wrong.sentence, wrong.fix, **wrong.values)
    environment = environment_in(words)
    known = {one.value for one in page.facts.environments or EnvironmentName}
    if environment and environment not in known:
        no_environment(page, line, environment)
    deploys = verb_of(words, surface) == "rollout" or words[0].endswith("gitops-deploy.sh")
    if deploys and environment == EnvironmentName.PROD.value:
        page.say(line, Code.REFUSED, say.NEVER_TO_PROD, say.AS_IT_IS, do="sluice promote --env prod")


def _rest(page: Page) -> None:
    """What nobody understood is said, so that silence is no praise."""
    for block in page.blocks:
        if block.cut:
            page.say(block.line, Code.NOT_UNDERSTOOD, say.TOO_LONG, say.FIX_TOO_LONG, limit=str(MAX_BLOCK))
        if block.shape in (Shape.HEADING, Shape.COMMENT) or id(block) in page.understood:
            continue
        said = MARK_OF_RUN.sub("", " ".join(block.text.split()))
        if said in page.own or LEAD.search(said):
            continue
        shown = said if len(said) <= SHOWN else f"{said[:SHOWN]}…"
        page.say(block.line, Code.NOT_UNDERSTOOD, say.NOT_UNDERSTOOD, say.FIX_NOT_UNDERSTOOD, shown=shown)
