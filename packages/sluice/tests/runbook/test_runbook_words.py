"""Every text is there in both languages, and everything there is has a text."""

from __future__ import annotations

import importlib
import pkgutil
import re
import string
from collections.abc import Iterator

import pytest

import sluice.runbook
from sluice.checks import Target, server_probes
from sluice.criteria import CRITERIA
from sluice.engine import FORWARD, TERMINAL
from sluice.gates.run import GATES
from sluice.hosts.system import SystemClock
from sluice.model.errors import ExitCode
from sluice.model.release import Artifact, Commit, Release, Slot
from sluice.model.spec import ChecksSpec, RunSpec, ServiceSpec
from sluice.runbook import Lang
from sluice.runbook.check_items import CHECK_ITEMS, PLUGIN_ITEMS
from sluice.runbook.field_items import FIELD_ITEMS
from sluice.runbook.gate_items import GATE_ITEMS
from sluice.runbook.items import Item, Kind
from sluice.runbook.rule_items import CRITERION_ITEMS, EXIT_WORDS, STEP_WORDS
from sluice.runbook.standing import all_items
from sluice.runbook.words import NOTHING, Words

from .conftest import HOST, POLICIES, TEST


def words_in(value: object, path: str, depth: int = 0) -> Iterator[tuple[str, Words]]:
    """Every text that hangs on a module's names."""
    if isinstance(value, Words):
        yield path, value
    elif isinstance(value, Item):
        yield f"{path}.text", value.text
        yield f"{path}.criterion", value.criterion
    elif isinstance(value, dict) and depth == 0:
        for key, one in value.items():
            yield from words_in(one, f"{path}[{key}]", 1)


def all_words() -> list[tuple[str, Words]]:
    """Of the whole package."""
    found = []
    for module in pkgutil.iter_modules(sluice.runbook.__path__, "sluice.runbook."):
        for name, value in vars(importlib.import_module(module.name)).items():
            found += words_in(value, f"{module.name}.{name}")
    return [(path, words) for path, words in found if words is not NOTHING]


def placeholders(text: str) -> set[str]:
    """Their names."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_no_text_lacks_a_language() -> None:
    """Each text is there in English and in Russian, and neither is in the other's letters."""
    words = all_words()
    assert len(words) > 100
    assert [path for path, one in words if not one.en.strip() or not one.ru.strip()] == []
    assert [path for path, one in words if re.search("[а-яё]", one.en, re.IGNORECASE)] == []
    untranslated = [
        path for path, one in words if len(one.ru.split()) > 4 and one.ru == one.en and not re.search("[а-яё]", one.ru)
    ]
    assert untranslated == []


def test_both_languages_are_filled_alike() -> None:
    """A value that one language tells is told by the other too."""
    assert [path for path, one in all_words() if placeholders(one.en) != placeholders(one.ru)] == []


def test_every_gate_criterion_step_and_exit_code_has_words() -> None:
    """Whoever adds an entry to a table is told here to add its words."""
    assert set(GATE_ITEMS) == set(GATES)
    assert set(CRITERION_ITEMS) == set(CRITERIA)
    assert set(STEP_WORDS) >= {state for state in FORWARD if state not in TERMINAL}
    assert set(EXIT_WORDS) == set(ExitCode)


def test_every_built_in_check_has_words() -> None:
    """The checks of a real smoke, by the names they report."""
    spec = ServiceSpec("x", run=RunSpec())
    commit = Commit("a" * 40, "b" * 40, "main", "v1", "Ann", "2026-01-01T00:00:00Z")
    release = Release("r", "x", "test", commit, Artifact("k", "/a", commit.tree), spec, "f")
    slot = Slot("r", "unit", 1, "http://127.0.0.1:1")
    target = Target(slot.url, True, release, slot, None, ChecksSpec(), HOST[TEST], SystemClock())  # type: ignore[arg-type]
    assert {name for probe in server_probes(target) for name in probe.names} == set(CHECK_ITEMS)


def test_no_plug_in_check_has_the_name_of_a_built_in_one() -> None:
    """A name says one thing."""
    assert not set(PLUGIN_ITEMS) & set(CHECK_ITEMS)


def test_the_six_fields_of_the_seed_are_wanted() -> None:
    """What every runbook must say of the audit trail."""
    wanted = [name for name, item in FIELD_ITEMS.items() if item.wanted]
    assert wanted == ["commit", "environment", "version", "smoke_result", "decision", "owner"]


@pytest.mark.parametrize("lang", list(Lang))
def test_own_words_are_understood(lang: Lang) -> None:
    """Each item finds itself in its own text, in both languages: else the lint would miss it in prose."""
    values = _Any()
    blind = [
        f"{item.kind}.{item.id}"
        for item in all_items(POLICIES["full"])
        if item.said and item.kind is not Kind.HOST and not item.pattern.search(item.text.say(lang, values))
    ]
    assert blind == []


class _Any(dict):
    def __missing__(self, key: str) -> str:
        return f"<{key}>"
