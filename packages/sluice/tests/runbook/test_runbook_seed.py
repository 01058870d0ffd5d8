"""The seed runbook against the policy: every finding it has, and why each is right."""

from __future__ import annotations

import re

import msgspec
import pytest

from sluice.config import load_service
from sluice.runbook import Around, Code, Lang, Level, lint

from .conftest import HOST, PLAIN, PROCESSES, ROOT, SEED, facts_of, found

# line, code, a word of the sentence -> why it is right
EXPECTED = {
    # The policy has these gates whether the prose knows them or not; section 1 is where they belong.
    (5, "unmentioned", "`bad-release`"): "section 1 does not say that what failed here is not tried again",
    (5, "unmentioned", "`disk-space`"): "nor that there must be room for it",
    (5, "unmentioned", "`host-isolation`"): "nor that test and prod share nothing",
    (5, "unmentioned", "`way-back`"): "nor that the old release must be startable",
    # Demanded by the prose; the policy names no commands, no place of a summary, no rules for docs.
    (8, "unchecked", "`checks-passed`"): "lint/test/build are demanded, [gates] checks is empty",
    (15, "unchecked", "`pr-summary`"): "a PR with a summary is demanded, [gates] summary is empty",
    (16, "unchecked", "`docs-changed`"): "updated docs are demanded, there are no [[gates.docs]]",
    # Smoke: what Sluice asks and section 4 does not tell of.
    (33, "unmentioned", "`served-release`"): "nothing says that what answers is this very release",
    (33, "unmentioned", "`domain-redirect`"): "the domain checks ask https alone",
    (33, "unmentioned", "`message-retry`"): "required by [watch], not among the four end-to-end steps",
    # Promotion: demanded, and nobody could do it.
    (86, "nobody-may", "0 of the 1"): "an explicit approval is demanded, [signers] is empty",
    (90, "missing-file", "PREPROD_CHECKLIST.md"): "the link leads nowhere",
    (90, "unchecked", "`checklist`"): "the checklist is demanded, the policy has no items",
}
NOT_UNDERSTOOD = {
    3: "what the document is",
    31: "a hint to use other documents",
}


def test_the_seed_against_its_policy(own) -> None:
    """Exactly these disagreements, on exactly these lines."""
    said = lint(SEED, facts_of(own), Around(lambda _path: False, frozenset({"smoke:sso"})))
    bad = [one for one in said if one.level is Level.DISAGREES]
    unexplained = [
        (one.line, one.code.value, one.sentence)
        for one in bad
        if not any((one.line, one.code.value) == key[:2] and key[2] in one.sentence for key in EXPECTED)
    ]
    assert unexplained == []
    assert len(bad) == len(EXPECTED)
    assert {one.line for one in said if one.level is Level.INFO} == set(NOT_UNDERSTOOD)
    assert all(one.fix for one in said)


def test_the_seed_is_good_for_a_policy_that_asks_for_what_it_demands(full) -> None:
    """With checks, summary, docs, checklist and a signer only what the prose leaves out is left."""
    assert {code for _, code in found(SEED, full)} == {"unmentioned"}


def test_the_seed_and_the_project_as_it_is() -> None:
    """Today's deploy/sluice.toml brings no finding that the seed does not have without its newest rules."""
    policy = load_service((ROOT / "deploy" / "sluice.toml").read_bytes(), "deploy/sluice.toml")
    said = lint(SEED, facts_of(policy), Around(lambda _path: True, frozenset({"smoke:sso"})))
    wrong = {Code.DIFFERS, Code.UNKNOWN_SCRIPT, Code.UNKNOWN_COMMAND, Code.UNKNOWN_OPTION, Code.UNKNOWN_HOST}
    assert [one for one in said if one.code in wrong] == []


# What the seed says -> what somebody made of it, the line, and a word of the sentence.
CONTRADICTIONS = {
    ("endpoint отвечает 200.", "endpoint отвечает 204."): (38, "differs", "204 for the check `http-health`"),
    ("возвращают `410 SsoOnly`.", "возвращают `403 SsoOnly`."): (49, "differs", "403"),
    ("возвращает `mode=sso`.", "возвращает `mode=local`."): (48, "differs", "mode=local for the check `sso-mode`"),
    ("Rollback обязателен, если:", "Rollback необязателен, если:"): (70, "checked-all-the-same", "`health`, `ws-"),
    ("Rollback обязателен, если:", "Откат не требуется, если:"): (70, "checked-all-the-same", "`auth`"),
    ("Rollback обязателен, если:", "Rollback is not mandatory if:"): (70, "checked-all-the-same", "`messages`"),
    ("получено явное подтверждение", "получено два явных подтверждения"): (86, "differs", "два for"),
    ("получено явное подтверждение", "есть не менее 2 независимых подтверждений"): (86, "differs", "2 for"),
    ("получено явное подтверждение", "two separate approvals are there"): (86, "differs", "two for"),
}


@pytest.mark.parametrize(("was", "now"), list(CONTRADICTIONS))
def test_a_seed_that_contradicts_the_policy(full, was: str, now: str) -> None:
    """One word made into its opposite is found at its line, and nothing else is found that was not before."""
    assert SEED.count(was) == 1
    around = Around(lambda _path: True, frozenset({"smoke:sso"}))
    before = set(lint(SEED, facts_of(full), around))
    new = [one for one in lint(SEED.replace(was, now), facts_of(full), around) if one not in before]
    line, code, word = CONTRADICTIONS[was, now]
    assert [(one.line, one.code.value) for one in new] == [(line, code)]
    assert word in new[0].sentence


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("получено явное подтверждение", "получено одно явное подтверждение"),
        ("получено явное подтверждение", "через 72 часа после запроса получено подтверждение"),
        ("Rollback обязателен, если:", "Rollback обязателен всегда, если:"),
    ],
)
def test_a_seed_that_says_the_same_in_other_words(full, was: str, now: str) -> None:
    """The right number as a word, and a number that is of something else, are no findings."""
    assert {code for _, code in found(SEED.replace(was, now), full)} == {"unmentioned"}


def test_no_duty_over_what_is_no_criterion(full) -> None:
    """That no rollback is needed for something the policy does not watch contradicts nothing."""
    text = SEED.replace("## 6)", "Откат не требуется, если:\n\n- упала сборка документации.\n\n## 6)")
    assert "checked-all-the-same" not in {code for _, code in found(text, full)}


def test_one_host_that_is_several_things(own) -> None:
    """Test and prod behind one SSO: the finding names both, not the last of them."""
    same = {name: msgspec.structs.replace(one, expect_sso_host="127.0.0.1") for name, one in HOST.items()}
    said = lint("# R\n\n## Smoke\n\n- `curl https://chat.example.org/health`\n", facts_of(own, same), Around())
    (sentence,) = [one.sentence for one in said if one.code is Code.UNKNOWN_HOST]
    assert "expect_sso_host of test and prod is 127.0.0.1" in sentence
    said = lint("- `https://a.example/`\n", facts_of(own, PLAIN), Around())
    (sentence,) = [one.sentence for one in said if one.code is Code.UNKNOWN_HOST]
    assert sentence.endswith(": public_url of test and prod, expect_sso_host of test and prod is 127.0.0.1.")


@pytest.mark.parametrize(
    ("hosts", "changes", "start", "fix"),
    [
        (PROCESSES, {}, "containers-up", 'runtime = "compose"'),
        (PROCESSES, {}, "compose-complete", 'runtime = "compose"'),
        (HOST, {"websocket_path": ""}, "websocket", "websocket_path"),
        (PLAIN, {}, "domain-tls", "public_url with https://"),
    ],
)
def test_each_check_has_its_own_hint(own, hosts, changes, start: str, fix: str) -> None:
    """What makes the policy look differs from check to check."""
    policy = msgspec.structs.replace(own, checks=msgspec.structs.replace(own.checks, **changes))
    said = lint(SEED, facts_of(policy, hosts), Around())
    assert not [one for one in said if "the policy does not look" in one.sentence and f"`{start}`" in one.sentence]
    fixes = [one.fix for one in said if one.code is Code.UNCHECKED and f"`{start}`" in one.sentence]
    assert len(fixes) == 1
    assert fix in fixes[0]
    assert ("websocket_path" in fixes[0]) == (start == "websocket")


def test_the_findings_in_russian(own) -> None:
    """The same lines and codes, each sentence and hint in Russian; commands stay what is typed."""
    around = Around(lambda _path: False, frozenset({"smoke:sso"}))
    for text in (SEED, "- `sluice rolout`, `npm run x`, `hotfix.sh --now`, `REDIS_URL`, в среду staging\n"):
        russian = lint(text, facts_of(own), around, Lang.RU)
        english = lint(text, facts_of(own), around)
        assert sorted((one.line, one.code) for one in russian) == sorted((one.line, one.code) for one in english)
        assert [one.sentence for one in russian if not re.search("[а-яё]", one.sentence)] == []
        assert all(re.search("[а-яё]", one.fix) or one.fix.startswith(("sluice", "--env")) for one in russian)


def test_another_host(own) -> None:
    """Every address of the seed is compared with host.toml, the SSO's too."""
    elsewhere = {
        name: msgspec.structs.replace(
            one, public_url=f"https://{name}.chat.example.org", expect_sso_host="sso.example.org"
        )
        for name, one in HOST.items()
    }
    lines = [line for line, code in found(SEED, own, hosts=elsewhere) if code == "unknown-host"]
    assert lines == [50, 51, 51, 61, 62, 65, 66]  # 51 names the service and its SSO


def test_without_a_host_no_address_is_judged(own) -> None:
    """A clone on a laptop knows no host: nothing is said of addresses."""
    assert "unknown-host" not in {code for _, code in found(SEED, own, hosts={})}
