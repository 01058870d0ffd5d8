"""The rendered runbook: whole, in the seed's own words, and in agreement with its policy until that changes."""

from __future__ import annotations

import itertools
import re

import msgspec
import pytest

from sluice.gates.run import GATES
from sluice.model.policy import ChecklistItem
from sluice.model.spec import EnvironmentName
from sluice.runbook import Around, Lang, lint, render

from .conftest import HOST, POLICIES, PROCESSES, PROD, facts_of


@pytest.mark.parametrize("lang", list(Lang))
@pytest.mark.parametrize("policy", list(POLICIES))
def test_the_lint_of_our_own_runbook_is_clean(policy: str, lang: Lang) -> None:
    """Round trip: whatever is rendered agrees with its policy, and no line of it is beyond the rules."""
    for hosts, environment, checklist in itertools.product(({}, HOST, PROCESSES), EnvironmentName, (False, True)):
        facts = facts_of(POLICIES[policy], hosts, environment)
        text = render(facts, lang, checklist=checklist)
        assert lint(text, facts, Around(lambda _path: False)) == []


@pytest.mark.parametrize("lang", list(Lang))
def test_everything_of_the_policy_is_in_it(full, lang: Lang) -> None:
    """Gates, required checks, criteria, checklist, signers, settings, commands and exit codes, by name."""
    text = render(facts_of(full), lang)
    wanted = [*GATES, *full.watch.required_checks, *full.watch.required_criteria, "containers-up", "compose-complete"]
    wanted += ["domain-dns", "domain-tls", "domain-redirect", "checklist-backup", "checklist-disk", "smoke_result"]
    assert [name for name in wanted if f"`{name}`" not in text] == []
    assert "docker compose logs --tail=120 <service>" in text
    assert "`[watch] health_failures = 3`" in text
    assert "ann" in text
    assert "sluice sign-off --env prod --service boltorezka --item backup --key <key>" in text
    assert "ssh <server> 'cd ~/srv/edge && ./scripts/release-command.sh rollout --env test" in text
    assert [code for code in range(9) if f"- `{code}`: " not in text] == []


def test_the_russian_one_speaks_as_the_seed_does(full) -> None:
    """Its sentences are the seed's own where it has any."""
    text = render(facts_of(full), Lang.RU)
    for sentence in (
        "Rollback обязателен, если:",
        "Никогда не деплоить `prod` напрямую из feature-ветки.",
        "Только при выполнении всех условий:",
        "Нет секретов в git diff.",
        "Контейнеры в состоянии `Up`.",
        "получено явное подтверждение на prod rollout.",
        "Не хранить TURN credentials в репозитории.",
        "Сделана резервная копия базы.",
    ):
        assert sentence in text


def test_the_english_one_has_no_russian_letter(full) -> None:
    """Nor the texts of the checklist, which have their own."""
    assert (
        re.findall("[А-Яа-яё]+", render(facts_of(full), Lang.EN) + render(facts_of(full), Lang.EN, checklist=True))
        == []
    )


def test_without_a_host_addresses_are_placeholders(own) -> None:
    """A clone on a laptop is enough."""
    text = render(facts_of(own, {}), Lang.EN)
    assert "curl -I https://<test-host>/health" in text
    assert "<sso-host>" in text


def test_for_prod_nothing_is_rolled_out(own) -> None:
    """The same runbook for prod names the promotion where test has its rollout."""
    text = render(facts_of(own, environment=PROD), Lang.EN)
    assert "sluice promote --env prod" in text.partition("## 4)")[0]
    assert "rollout --env prod" not in text
    assert "curl -I https://boltorezka.gismalink.art/health" in text


def test_the_checklist_is_a_document(full) -> None:
    """Machine items with their command, human items with how they are signed and by whom, and the approval."""
    text = render(facts_of(full), Lang.RU, checklist=True)
    machine, _, human = text.partition("## Пункты для людей")
    assert "`test -w /data`" in machine
    assert "На диск данных можно писать." in machine
    assert "Сделана резервная копия базы." in human
    assert "sluice sign-off --env prod --service boltorezka --item backup --key <key>" in human
    assert "ann" in human


def test_a_text_with_braces_stays_as_it_is(own) -> None:
    """What people wrote is no placeholder."""
    item = ChecklistItem("odd", "Look at {this} and at ${THAT}.")
    policy = msgspec.structs.replace(own, promotion=msgspec.structs.replace(own.promotion, checklist=(item,)))
    for checklist in (False, True):
        text = render(facts_of(policy), Lang.RU, checklist=checklist)
        assert "Look at {this} and at ${THAT}." in text
        assert lint(text, facts_of(policy), Around()) == []


def replaced(policy, table: str, **changes):
    """The policy with other settings in one table."""
    return msgspec.structs.replace(policy, **{table: msgspec.structs.replace(getattr(policy, table), **changes)})


def without(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    """All the others."""
    return tuple(one for one in names if one != name)


CHANGES = {
    "log lines": (lambda p: replaced(p, "checks", log_lines=200), "differs", "--tail=120"),
    "log lines, the setting": (lambda p: replaced(p, "checks", log_lines=200), "differs", "[checks] log_lines = 120"),
    "criterion removed": (
        lambda p: replaced(p, "watch", required_criteria=without(p.watch.required_criteria, "messages")),
        "unchecked",
        "потеря/дублирование сообщений",
    ),
    "criterion without a veto": (lambda p: replaced(p, "watch", dry_run=("auth",)), "unchecked", "authz/authn"),
    "check removed": (
        lambda p: replaced(p, "watch", required_checks=without(p.watch.required_checks, "voice")),
        "unchecked",
        "voice connect",
    ),
    "threshold": (lambda p: replaced(p, "watch", health_failures=2), "differs", "health_failures"),
    "share": (lambda p: replaced(p, "watch", cut_share=0.5), "differs", "20 %"),
    "counter": (
        lambda p: replaced(p, "watch", auth=(msgspec.structs.replace(p.watch.auth[0], max_per_s=9), *p.watch.auth[1:])),
        "differs",
        "invalid_token",
    ),
    "waivers": (lambda p: replaced(p, "gates", never_waive=()), "differs", 'never_waive = ["no-secrets"]'),
    "approvals": (lambda p: replaced(p, "promotion", approvals=2), "differs", "approvals = 1"),
    "gate switched off": (lambda p: replaced(p, "gates", summary=()), "unchecked", "PR открыт"),
    "branches": (lambda p: replaced(p, "gates", branch="topic/[a-z]+"), "differs", "feature/<short-name>"),
    "websocket": (lambda p: replaced(p, "checks", websocket_expect=401), "differs", "отвечает 101"),
    "health path": (lambda p: replaced(p, "run", health_path="/up"), "unchecked", "curl -I https://"),
    "variable": (lambda p: replaced(p, "run", required_env=()), "unchecked", "BOLTOREZKA_JWT_SECRET"),
}


@pytest.mark.parametrize("name", list(CHANGES))
def test_an_old_runbook_is_found_stale_at_its_line(full, name: str) -> None:
    """After a change of the policy the line that says the old thing is named, and the stamp of the whole."""
    change, code, part = CHANGES[name]
    text = render(facts_of(full), Lang.RU)
    said = lint(text, facts_of(change(full)), Around())
    lines = text.splitlines()
    assert any(one.code.value == code and part in lines[one.line - 1] for one in said), said
    assert [one.code.value for one in said if one.line == 3] == ["stale"]


ADDED = {
    "a gate": (lambda p: replaced(p, "gates", summary=POLICIES["example"].gates.summary), "checked-all-the-same"),
    "a check": (lambda p: replaced(p, "watch", required_checks=(*p.watch.required_checks, "presence")), "unmentioned"),
    "the author": (lambda p: replaced(p, "promotion", approver_not_author=True), "checked-all-the-same"),
}


@pytest.mark.parametrize("name", list(ADDED))
def test_what_the_policy_asks_for_since_then_is_missed(own, name: str) -> None:
    """What was added to the policy and is not in the old runbook is named."""
    change, code = ADDED[name]
    said = lint(render(facts_of(own), Lang.EN), facts_of(change(own)), Around())
    assert code in {one.code.value for one in said}


def test_a_checklist_misses_a_new_item(full) -> None:
    """An item that the policy has since then, and the written checklist has not."""
    items = (*full.promotion.checklist, ChecklistItem("news", "The users were told."))
    said = lint(
        render(facts_of(full), Lang.EN, checklist=True),
        facts_of(replaced(full, "promotion", checklist=items)),
        Around(),
    )
    assert [one.code.value for one in said] == ["unmentioned", "stale"]
    assert "checklist-news" in said[0].sentence
