"""The rendered runbook: whole, in the seed's own words, and in agreement with its policy until that changes."""

from __future__ import annotations

import dataclasses
import itertools
import re

import msgspec
import pytest

from sluice.gates.run import GATES
from sluice.model.policy import ChecklistItem
from sluice.model.spec import EnvironmentName, HostSettings, RuntimeName
from sluice.runbook import Around, Lang, lint, render

from .conftest import HOST, PLAIN, POLICIES, PROCESSES, PROD, TEST, facts_of


@pytest.mark.parametrize("lang", list(Lang))
@pytest.mark.parametrize("policy", list(POLICIES))
def test_the_lint_of_our_own_runbook_is_clean(policy: str, lang: Lang) -> None:
    """Round trip: whatever is rendered agrees with its policy, and no line of it is beyond the rules."""
    for hosts, environment, checklist in itertools.product(
        ({}, HOST, PROCESSES, PLAIN), EnvironmentName, (False, True)
    ):
        facts = facts_of(POLICIES[policy], hosts, environment)
        text = render(facts, lang, checklist=checklist)
        assert lint(text, facts, Around(lambda _path: False)) == []


@pytest.mark.parametrize("lang", list(Lang))
def test_what_was_rendered_on_a_server_is_clean_in_a_clone_too(full, lang: Lang) -> None:
    """A CI has the policy and no host.toml: what only the host knows it does not deny."""
    for hosts in (PROCESSES, PLAIN):
        text = render(facts_of(full, hosts), lang)
        assert "(`domain-tls`)" in text or "(`containers-up`)" in text
        assert lint(text, facts_of(full, {}), Around(lambda _path: False)) == []


SEED_OF_PROD = "curl -I https://boltorezka.gismalink.art/health\ncurl https://boltorezka.gismalink.art/health\n"


def steps_of(text: str) -> list[tuple[str, list[str]]]:
    """Every step that has anything under it or a name beside it: its first line, and the lines under it."""
    found: list[tuple[str, list[str]]] = []
    for row in text.splitlines():
        if re.match(r"(-|\d+\.) ", row):
            found.append((row, []))
        elif row.startswith("  ") and found:
            found[-1][1].append(row.strip())
    return [(first, under) for first, under in found if under]


@pytest.mark.parametrize("lang", list(Lang))
@pytest.mark.parametrize("hosts", [HOST, PLAIN, PROCESSES])
def test_every_step_has_its_command_and_its_criterion(full, hosts, lang: Lang) -> None:
    """Gates, checks, criteria, rules, fields, reminders, items for people: each says what to type and what is good."""
    command, criterion = {Lang.EN: ("- Command: `", "- Criterion: "), Lang.RU: ("- Команда: `", "- Критерий: ")}[lang]
    for environment, checklist in itertools.product(EnvironmentName, (False, True)):
        steps = steps_of(render(facts_of(full, hosts, environment), lang, checklist=checklist))
        assert len(steps) > (2 if checklist else 60)
        for start in (command, criterion):
            assert [first for first, under in steps if not any(one.startswith(start) for one in under)] == []


def test_a_command_can_be_pasted(full) -> None:
    """No placeholder in angle brackets, which a shell takes for a redirection: those are capitals."""
    for lang in Lang:
        text = render(facts_of(full), lang)
        typed = re.findall(r"```\n(.*?)```", text, re.DOTALL) + re.findall(r"(?:Command|Команда): `([^`]*)`", text)
        assert len(typed) > 60
        assert [one for one in typed if "<" in one] == []
    assert "sluice unlock --env test --service boltorezka --reason 'ПРИЧИНА'" in text or lang is Lang.EN


def test_the_domain_of_both_environments(full) -> None:
    """The runbook of test asks test by HEAD and GET, and tells how prod is asked once somebody confirmed it."""
    text = render(facts_of(full), Lang.RU).partition("### Проверка домена")[2].partition("###")[0]
    test, _, prod = text.partition("Для `prod` (только после отдельного подтверждения):")
    assert SEED_OF_PROD.replace("https://", "https://test.") in test
    assert SEED_OF_PROD in prod
    alone = render(facts_of(full, {TEST: HOST[TEST]}), Lang.RU)
    assert "Для `prod`" not in alone
    assert "только после отдельного" not in render(facts_of(full, environment=PROD), Lang.RU)


def test_what_does_not_apply_says_so(own) -> None:
    """Without containers, without TLS, without a name or a source of a criterion: a reason, and no command."""
    processes = {name: msgspec.structs.replace(one, runtime=RuntimeName.PROCESS) for name, one in PLAIN.items()}
    smoke = msgspec.structs.replace(own.smoke, canary=(), calls=())
    watch = msgspec.structs.replace(own.watch, required_criteria=("health",))
    text = render(facts_of(msgspec.structs.replace(own, smoke=smoke, watch=watch), processes), Lang.RU)
    for row in (
        "1. Контейнеры в состоянии `Up` (`containers-up`) — не проверяется: runtime `process`",
        "2. `docker compose ps` без деградации сервисов (`compose-complete`) — не проверяется: runtime `process`",
        "- Имя публичного URL разрешается (DNS) (`domain-dns`) — не применимо: в публичном URL адрес, а не имя",
        "- Сертификат (TLS) проходит проверку (`domain-tls`) — не применимо: публичный URL без TLS",
        "- Обычный HTTP даёт redirect на https (`domain-redirect`) — не применимо: публичный URL без TLS",
        "- массовые WS disconnect (`ws-disconnects`) — не измеряется: у сервиса нет [smoke] canary",
        "- деградация call setup (`call-setup`) — не измеряется: у сервиса нет [smoke] calls",
    ):
        assert row in text.splitlines()
    assert "https://" not in text


def test_a_port_of_its_own_has_no_redirect_to_ask(own) -> None:
    """Where no port is known for plain HTTP nothing is demanded of it; one that the operator names is."""
    odd = msgspec.structs.replace(HOST[TEST], public_url="https://chat.example.org:8443")
    assert "(`domain-redirect`) — не применимо" in render(facts_of(own, {TEST: odd}), Lang.RU)
    named = msgspec.structs.replace(odd, redirect_http="0.0.0.0:8080")
    assert "(`domain-redirect`)" not in render(facts_of(own, {TEST: named}), Lang.RU)


@pytest.mark.parametrize(
    ("seconds", "ru", "en"),
    [(259200, "3 суток", "3 days"), (3600, "60 мин", "60 min"), (7200, "2 ч", "2 h"), (86400, "24 ч", "24 h")],
)
def test_seconds_are_told_as_people_say_them(full, seconds: float, ru: str, en: str) -> None:
    """Beside the setting, which stays as the policy has it; seconds that make no such number stay alone."""
    for lang, said in ((Lang.RU, ru), (Lang.EN, en)):
        text = render(facts_of(replaced(full, "promotion", approval_ttl_s=seconds)), lang)
        assert f"`[promotion] approval_ttl_s = {seconds:g}` ({said})" in text
        assert "`[promotion] approval_ttl_s = 61`;" in render(
            facts_of(replaced(full, "promotion", approval_ttl_s=61)), lang
        )


def test_the_room_on_the_disk_is_a_number(own) -> None:
    """That of host.toml."""
    facts = dataclasses.replace(facts_of(own), settings=HostSettings(min_free_mb=777))
    assert render(facts, Lang.RU).count("не меньше 777 МБ") == 2


def test_a_list_is_one_sentence(own) -> None:
    """Commas, and a full stop after the last, whichever checks and rules the policy has and in whatever order."""
    policy = replaced(own, "watch", required_checks=("voice", "odd-check", "login"))
    text = render(facts_of(policy), Lang.RU)
    for part in ("### End-to-end smoke", "Rollback обязателен, если:", "Только при выполнении всех условий:"):
        rows = re.findall(r"^- (.*)$", text.partition(part)[2].partition("\n\n")[2].partition("\n\n")[0], re.MULTILINE)
        said = [one for one in rows if " — " not in one]
        assert len(said) > 2
        assert [one for one in said[:-1] if not one.endswith(",")] == []
        assert said[-1].endswith(".")


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
    assert "sluice sign-off --env prod --service boltorezka --item backup --key KEY" in text
    assert "ssh SERVER 'cd ~/srv/edge && ./scripts/release-command.sh rollout --env test" in text
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
        "получено явное подтверждение на prod rollout",
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
    assert "sluice sign-off --env prod --service boltorezka --item backup --key KEY" in human
    assert "ann" in human
    assert "- Получено явное подтверждение на prod rollout." in human


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
