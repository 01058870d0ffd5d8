"""The seed runbook against the policy: every finding it has, and why each is right."""

from __future__ import annotations

import msgspec

from sluice.config import load_service
from sluice.runbook import Around, Code, Level, lint

from .conftest import HOST, ROOT, SEED, facts_of, found

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
    78: "how a rollback is done, in words no rule has",
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
