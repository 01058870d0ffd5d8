"""Results as JUnit XML: each verdict where a CI looks for it, whatever the evidence holds."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.cli.junit import Suite, junit_xml, write_junit
from sluice.cli.remote import JUNIT, _without
from sluice.model.errors import UsageError
from sluice.model.verdict import Finding, Verdict

FINDINGS = [
    Finding("http-health", Verdict.PASS, 1500, "200"),
    Finding("login", Verdict.FAIL, 250, "403 <b>", "look at \x1b[31mred\x1b[0m"),
    Finding("logs", Verdict.ERROR, 0, "The probe broke."),
    Finding("errors", Verdict.INCONCLUSIVE, 0, "Too few requests."),
    Finding("domain-dns", Verdict.SKIPPED, 0, "An address."),
    Finding("freeze", Verdict.WAIVED, 0, "Waived by ann: it is agreed."),
    Finding("trial", Verdict.FAIL, 0, "Too slow.", dry_run=True),
]


def read(raw: bytes) -> ET.Element:
    """As a CI reads it."""
    return ET.fromstring(raw)  # noqa: S314 - our own document


def parsed(raw: bytes) -> dict[str, tuple[str, str, str]]:
    """Each case by its name: the element in it, the message or text, and the text of a failure."""
    cases = {}
    for case in read(raw).iter("testcase"):
        inner = next(iter(case), None)
        told = ("", "", "") if inner is None else (inner.tag, inner.get("message", inner.text or ""), inner.text or "")
        cases[case.get("name", "")] = told
    return cases


def test_each_verdict_is_what_junit_has_for_it():
    """A fail is a failure, what could not be judged an error, what counts for nothing skipped; the numbers fit."""
    raw = junit_xml([Suite("Smoke of v1", FINDINGS[:3]), Suite("This server", FINDINGS[3:])])
    assert parsed(raw) == {
        "http-health": ("system-out", "200", "200"),
        "login": ("failure", "403 <b>", "look at \ufffd[31mred\ufffd[0m"),
        "logs": ("error", "The probe broke.", ""),
        "errors": ("error", "inconclusive: Too few requests.", ""),
        "domain-dns": ("skipped", "skipped: An address.", ""),
        "freeze": ("skipped", "waived: Waived by ann: it is agreed.", ""),
        "trial": ("skipped", "dry run, fail: Too slow.", ""),
    }
    (doubt,) = read(junit_xml([Suite("This server", FINDINGS[3:4], doubtful=True)])).iter("skipped")
    assert doubt.get("message") == "inconclusive: Too few requests."
    root = read(raw)
    numbers = {"tests": "7", "failures": "1", "errors": "2", "skipped": "3", "time": "1.750"}
    assert root.attrib == numbers
    assert [suite.get("name") for suite in root] == ["Smoke of v1", "This server"]
    assert [case.get("time") for case in root.iter("testcase")][:2] == ["1.500", "0.250"]


@given(st.text(), st.text(), st.sampled_from(Verdict))
def test_whatever_the_evidence_holds_it_can_be_parsed_back(name, detail, verdict):
    """Control characters, halves of letters and angle brackets of a program's output break no document."""
    (case,) = read(junit_xml([Suite(name, [Finding(name, verdict, 1, detail, detail)])])).iter("testcase")
    assert len(case.get("name", "")) == len(name)


def test_a_file_that_cannot_be_written_says_that_the_checks_ran(tmp_path):
    """No folder, or no right: one clear error, after everything was shown."""
    with pytest.raises(UsageError, match="No such file") as caught:
        write_junit(tmp_path / "none" / "junit.xml", [])
    assert "shown above" in caught.value.world


@pytest.mark.parametrize("words", [("--junit", "a.xml"), ("--junit=a.xml",)])
def test_the_file_is_not_one_of_the_server(words):
    """With --host the results come here, and so does the file: the server is not told of it."""
    assert _without(JUNIT, ("--env", "test", *words, "--json")) == ("--env", "test", "--json")


def test_the_commands_write_what_they_show(shop):
    """Of smoke, check and quick-check, redacted and in spite of control characters; an unwritable file is said last."""
    secret = (shop.folder / "test.env").read_text().partition("=")[2].strip()
    plugin = shop.folder / "origin" / "smoke.py"
    plugin.write_text(plugin.read_text().replace('"let in"', f"'let in \\x1b {secret[:9]}' + '{secret[9:]}'"))
    shop.branch("main")
    assert shop.rollout("main")[0] == 0
    for command, name in (
        (("smoke", "--env", "test"), "login"),
        (("check", "--env", "test", "--branch", "main"), "no-secrets"),
        (("quick-check",), "ledger"),
    ):
        file = shop.folder / "junit.xml"
        file.unlink(missing_ok=True)
        code, out = shop.sluice(*command, "--junit", str(file))
        cases = parsed(file.read_bytes())
        assert name in cases, out
        assert name in out, "the table is shown all the same"
        assert secret not in file.read_text()
        assert (code == 0) is not bool({"failure", "error"} & {element for element, *_ in cases.values()}), out
    code, out = shop.sluice("smoke", "--env", "test", "--junit", str(shop.folder / "none" / "junit.xml"))
    assert code == 2
    assert "login" in out.split("cannot be written")[0]
