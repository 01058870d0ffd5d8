"""A runbook filled in by a run: a tick is a pass in the ledger, and what was not run has none."""

from __future__ import annotations

import pytest

from sluice.runbook import Around, Lang, lint, render

from .conftest import PROD, TEST, facts_of


def finding(name: str, verdict: str = "pass", detail: str = "", **more) -> dict:
    """As a record holds it."""
    return {"name": name, "verdict": verdict, "ms": 7, "detail": detail, **more}


def rollout(**more) -> dict:
    """A good run into test; not everything in it passed."""
    return {
        "type": "rollout",
        "run": "r1",
        "environment": "test",
        "commit": "c" * 40,
        "tree": "d" * 40,
        "version": "v1.4",
        "plan": "e" * 64,
        "smoke_result": "pass",
        "decision": "go",
        "outcome": "done",
        "owner": "ann",
        "started": "2026-01-01T10:00:00Z",
        "switched": "2026-01-01T10:00:30Z",
        "ended": "2026-01-01T10:01:00Z",
        "artifact_key": "a" * 64,
        "artifact_digests": {"web": "sha256:1"},
        "waived": [],
        "gates": [
            finding("branch-policy", detail="'feature/x' matches."),
            finding("contains-main", "waived", "Waived by ann: hotfix. The gate said fail: behind."),
            finding("pr-summary", "skipped", "The policy asks for no summary."),
        ],
        "smoke": {
            "private": [finding("http-health"), finding("login", "pass", "let in"), finding("logs", "inconclusive")],
            "public": [
                finding("http-health"),
                finding("login"),
                finding("logs"),
                finding("domain-tls", detail="30 days"),
            ],
        },
        "watch": [finding("health", detail="10 of 10"), finding("auth", dry_run=True)],
        **more,
    }


def promotion(**more) -> dict:
    """A good run into prod, approved and signed off."""
    signed = {"signed_with": "SHA256:abc", "expires": "2026-01-01T11:00:00Z", "digest": "f"}
    gates = [
        finding("checklist-backup", detail="Signed off by ann."),
        finding("checklist-disk"),
        finding("approval", detail="Approved by bob (SHA256:abc)."),
    ]
    approvals = [
        {"role": "checklist", "item": "backup", "principal": "ann", **signed},
        {"role": "approve", "item": "", "principal": "bob", **signed},
    ]
    return rollout(type="promotion", environment="prod", gates=gates, approvals=approvals, proof_run="r0", **more)


def lines(text: str, start: str) -> list[str]:
    """The step that begins with these words, and what stands under it."""
    rows = text.splitlines()
    at = next(number for number, row in enumerate(rows) if start in row and "[" in row[:7])
    rest = rows[at + 1 :]
    end = next((number for number, row in enumerate(rest) if not row.startswith(" ")), len(rest))
    return [rows[at], *rest[:end]]


def filled(policy, record: dict, environment=TEST, **more) -> str:
    """The English runbook of that run."""
    facts = facts_of(policy, environment=environment)
    return render(facts, Lang.EN, records=[record], run=str(record["run"]), **more)


def test_a_pass_is_ticked_with_its_evidence(full) -> None:
    """Verdict, time and sentence of the ledger, both smokes."""
    text = filled(full, rollout())
    gate = lines(text, "The change is in a feature branch")
    assert gate[0].startswith("- [x] ")
    assert gate[-1] == "  - Evidence: pass, 7 ms; 'feature/x' matches."
    login = lines(text, "] login,")
    assert login[0].startswith("- [x] ")
    assert login[-1] == "  - Evidence: public: pass, 7 ms \\| private: pass, 7 ms; let in"
    assert "by ann" in text


def test_nothing_else_is_ticked(full) -> None:
    """Waived, skipped, inconclusive, without a veto, not run: each says so, and has no tick."""
    text = filled(full, rollout())
    for start, evidence in (
        ("The branch is up to date", "waived, 7 ms; Waived by ann: hotfix. The gate said fail: behind."),
        ("A PR is open", "skipped, 7 ms; The policy asks for no summary."),
        ("without critical errors", "public: pass, 7 ms \\| private: inconclusive, 7 ms"),
        ("critical authz/authn errors", "pass, 7 ms"),
        ("There are no secrets", "not run in this run"),
        ("voice connect", "not run in this run"),
        ("The disks have room", "not run in this run"),
        ("an explicit approval", "no part of a rollout"),
        ("approvals and sign-offs", "empty"),
        ("head of the schema", "the ledger does not say"),
    ):
        step = lines(text, start)
        assert "[ ] " in step[0], start
        assert step[-1].strip() == f"- Evidence: {evidence}"


def test_steps_of_a_good_run_are_ticked_and_of_a_bad_one_as_far_as_it_came(full) -> None:
    """A run that ended well passed them all; of another one the ledger tells some."""
    good = filled(full, rollout()).partition("## 4)")[0].partition("## 3)")[2]
    assert good.count("[x]") == 12
    bad = filled(full, rollout(outcome="rolled_back", watch=[finding("health", "fail")]))
    assert "[x] " in lines(bad, "] switch")[0]
    assert lines(bad, "] **FAILED:** watch")[-1].strip() == "- Evidence: health: fail"
    assert "[ ] " in lines(bad, "] stop the old slot")[0]
    early = filled(full, rollout(outcome="refused", switched="", smoke={}, watch=[], artifact_key=""))
    assert lines(early, "] smoke through the public URL")[-1].strip() == "- Evidence: not run in this run"


REFUSED = {"outcome": "refused", "decision": "refused", "switched": "", "smoke": {}, "watch": [], "artifact_key": ""}


def test_a_refused_run_is_recorded_and_went_no_further(full) -> None:
    """The record shown is the record there is; nothing behind the gate that failed is left open."""
    gates = [finding("branch-policy"), finding("no-secrets", "fail", "1 find")]
    text = filled(full, rollout(**REFUSED, gates=gates))
    recorded = lines(text, "] record in the ledger")
    assert "[x] " in recorded[0]
    assert recorded[-1].strip() == "- Evidence: this record is in the ledger, ended 2026-01-01T10:01:00Z"
    assert "[ ] **FAILED:** gates" in lines(text, "] **FAILED:** gates")[0]
    for start in ("] artifact", "] migrations", "] start the new slot", "] drain", "] stop the old slot"):
        assert lines(text, start)[-1].strip() == "- Evidence: not run in this run", start


def test_a_step_that_later_ones_stand_on_was_passed(full) -> None:
    """A slot whose private checks ran was started, and a watch had its users drained, whatever came after."""
    private = {"private": [finding("http-health", "fail")]}
    text = filled(full, rollout(**{**REFUSED, "smoke": private, "artifact_key": "a" * 64}, gates=[finding("freeze")]))
    start = lines(text, "] start the new slot")
    assert "[x] " in start[0]
    assert start[-1].strip() == "- Evidence: passed: the run went on to later steps"
    assert "[x] " in lines(text, "] migrations")[0]
    watched = filled(full, rollout(outcome="rolled_back", decision="rollback", watch=[finding("auth", "inconclusive")]))
    assert "[x] " in lines(watched, "] drain")[0]
    assert "[ ] **NOT PROVEN:** watch" in watched
    assert lines(watched, "] Rollback only by the release script")[0].startswith("- [x] ")


def test_a_rollback_that_failed_is_not_ticked(full) -> None:
    """That users were to be brought back is no proof that they were."""
    text = filled(full, rollout(outcome="rollback_failed", decision="rollback"))
    step = lines(text, "Rollback only by the release script")
    assert step[0].startswith("- [ ] **FAILED:** ")
    assert step[-1].strip() == "- Evidence: rollback\\_failed"
    assert "] Rollback only by" not in filled(full, rollout())


def test_where_the_ledger_cannot_tell_it_says_so(full) -> None:
    """A run that ended between two steps which leave something of their own."""
    text = filled(full, rollout(**{**REFUSED, "artifact_key": "a" * 64}, gates=[finding("freeze")]))
    assert lines(text, "] migrations")[-1].strip() == "- Evidence: the ledger does not say"


WORDS = {
    Lang.RU: ("галочка — порог не превышен, отката не требуется:", "health endpoint стабилен,", "**НАРУШЕН:** "),
    Lang.EN: ("a tick: the threshold was kept, and no rollback is due:", "health endpoint is stable,", "**BROKEN:** "),
}


@pytest.mark.parametrize("lang", list(Lang))
def test_a_tick_beside_a_criterion_says_what_is_good(full, lang: Lang) -> None:
    """With a run the list names what holds, not the disaster; a broken one is in bold, one without a veto is not."""
    lead, good, broken = WORDS[lang]
    for verdict, start in (("pass", "- [x] "), ("fail", f"- [ ] {broken}")):
        watch = [finding("health", verdict), finding("call-setup", "fail", dry_run=True)]
        text = render(facts_of(full), lang, records=[rollout(watch=watch)], run="r1")
        section = text.partition("## 5)")[2].partition("## 6)")[0]
        assert lead in section
        assert [row for row in section.splitlines() if good in row and row.startswith(start)], section
        assert section.count("**") == (2 if verdict == "fail" else 0)
        assert lint(text, facts_of(full), Around()) == []
    without = render(facts_of(full), lang)
    assert good not in without
    assert lead not in without


def test_a_fail_looks_different_from_what_was_not_run(full) -> None:
    """Bold before its text: of a gate, of a check of either smoke, and of an item of the checklist."""
    smoke = {"private": [finding("login")], "public": [finding("login", "fail"), finding("logs", "error")]}
    text = filled(full, rollout(gates=[finding("no-secrets", "fail"), finding("freeze", "skipped")], smoke=smoke))
    for row in ("- [ ] **FAILED:** There are no secrets", "- [ ] **FAILED:** login,", "[ ] **NOT PROVEN:** `docker"):
        assert row in text
    assert "- [ ] There is room on the disk" in text
    assert lint(text, facts_of(full), Around()) == []


def test_the_russian_page_says_whose_words_the_evidence_is(full) -> None:
    """The ledger speaks English; the page says so once, and who answers for the run."""
    text = render(facts_of(full), Lang.RU, records=[rollout()], run="r1")
    assert text.count("по-английски") == 1
    assert "ответственный: ann" in text


def test_a_promotion_shows_who_signed(full) -> None:
    """Items of the checklist, approvals, and what proved it in test."""
    text = filled(full, promotion(), PROD)
    assert lines(text, "an explicit approval")[0].startswith("- [x] ")
    assert "signed by bob (SHA256:abc)" in lines(text, "an explicit approval")[-1]
    assert "signed by ann (SHA256:abc)" in lines(text, "The database was backed up.")[-1]
    assert "proven in \\`test\\` by run r0" in lines(text, "the smoke test in `test`")[-1]
    assert lines(text, "approvals and sign-offs")[-1].strip() == "- Evidence: checklist backup: ann, approve: bob"


def test_a_rollback_ticks_only_the_steps_it_has(full) -> None:
    """It passes over gates, build, migration and watch, however well it ended."""
    text = filled(full, rollout(type="rollback", decision="rollback", gates=[], watch=[]))
    assert lines(text, "] gates")[-1].strip() == "- Evidence: no part of a rollback"
    assert "[ ] " in lines(text, "] watch")[0]
    assert "[x] " in lines(text, "] switch")[0]


def test_a_rule_that_is_off_is_never_ticked(full) -> None:
    """That somebody approved says nothing of who wrote it, where the policy does not ask."""
    text = filled(full, promotion(), PROD)
    assert "[ ] " in lines(text, "whoever approves wrote none")[0]


def test_a_refused_promotion_ticks_no_rule(full) -> None:
    """Its code stands beside every rule; an open item stays open."""
    record = promotion(outcome="refused", refusal="ChecklistOpen")
    record["gates"][0] = finding("checklist-backup", "fail", "Nobody signed.")
    record["approvals"] = []
    text = filled(full, record, PROD, checklist=True)
    assert lines(text, "The database was backed up.")[0].startswith("- [ ] ")
    assert lines(text, "The data disk")[0].startswith("- [x] ")
    whole = filled(full, record, PROD)
    assert lines(whole, "the feature is merged")[-1].strip() == "- Evidence: ChecklistOpen"
    assert lines(whole, "the pre-prod checklist is done")[0].startswith("- [ ] ")


def test_evidence_cannot_become_markup(full) -> None:
    """What a log or a server said is text, one line, and not endless."""
    evil = "a\n## Rollback\n- [x] all is well <img src=x> [go](http://evil) `rm -rf` " + "x" * 5000
    text = filled(full, rollout(gates=[finding("branch-policy", "fail", evil)], owner="# *ann*"))
    evidence = lines(text, "The change is in a feature branch")[-1]
    assert "\\[go\\](http://evil)" in evidence
    assert "\\<img" in evidence
    assert len(evidence) < 1000
    assert text.count("\n## Rollback") == 0


def test_other_records_of_the_run_are_told(full) -> None:
    """A recovery or a waiver of the same run stands under the title."""
    waiver = {"type": "waiver", "run": "r1", "owner": "ann", "ended": "t", "reason": "contains-main, by ann: hotfix"}
    facts = facts_of(full)
    text = render(facts, Lang.RU, records=[rollout(), waiver], run="r1")
    assert "waiver: ann, t: contains-main, by ann: hotfix." in text


def test_a_filled_runbook_agrees_with_the_policy(full) -> None:
    """Evidence is no prose: the lint reads past it."""
    hostile = rollout(gates=[finding("branch-policy", "pass", "CPU https://evil.example/x `FOO_BAR` --tail=9")])
    for lang in Lang:
        text = render(facts_of(full), lang, records=[hostile], run="r1")
        assert lint(text, facts_of(full), Around()) == []


@pytest.mark.parametrize("run", ["r2", "only-a-lock"])
def test_a_run_that_is_none(full, run: str) -> None:
    """A lock is no run, and neither is what never was."""
    records = [rollout(), {"type": "lock", "run": "only-a-lock"}]
    with pytest.raises(LookupError):
        render(facts_of(full), Lang.EN, records=records, run=run)
