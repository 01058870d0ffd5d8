"""What the plug-in says: one verdict per check, and whose fault it is."""

from __future__ import annotations

import io
import json

import httpx
import pytest

from boltorezka.smoke.report import CheckFailed, CheckInconclusive, CheckSkipped, Report
from boltorezka.smoke.target import UsageError, from_environment


@pytest.mark.parametrize(
    ("raised", "verdict"),
    [
        (CheckFailed("no"), "fail"),
        (CheckSkipped("not here"), "skipped"),
        (CheckInconclusive("say which"), "inconclusive"),
        (httpx.ConnectError("refused"), "fail"),
        (TimeoutError(), "fail"),
        (ZeroDivisionError("ours"), "error"),
    ],
)
async def test_blame(raised, verdict):
    """The service's fault is a fail, ours an error, and what is missing is neither."""
    out = io.StringIO()
    report = Report(out)
    async with report.check("x"):
        raise raised
    assert json.loads(out.getvalue())["verdict"] == verdict
    assert report.good is (verdict == "skipped")


async def test_a_pass_carries_its_evidence():
    """Detail and metrics go into the line."""
    out = io.StringIO()
    async with Report(out).check("x") as note:
        note.detail, note.metrics = "seen", {"n": 1}
    line = json.loads(out.getvalue())
    assert (line["verdict"], line["detail"], line["metrics"]) == ("pass", "seen", {"n": 1})


async def test_an_address_in_an_exception_is_cut_before_its_query():
    """A ticket in the query of an address never reaches the output."""
    out = io.StringIO()
    async with Report(out).check("x"):
        raise OSError("cannot reach ws://host/v1/realtime/ws?ticket=abcdefghijkl")
    assert "abcdefghijkl" not in out.getvalue()


def test_nothing_judged_is_not_good():
    """No verdict at all is never a success."""
    assert Report(io.StringIO()).good is False


@pytest.mark.parametrize("url", ["", "ftp://x", "localhost:8080"])
def test_without_an_address_the_variable_is_named(monkeypatch, url):
    """A missing or malformed address is a usage error that says what to set."""
    monkeypatch.delenv("SLUICE_URL", raising=False)
    monkeypatch.setenv("SMOKE_API_URL", url)
    with pytest.raises(UsageError, match="SMOKE_API_URL"):
        from_environment()


def test_the_expected_host_of_a_known_address_is_known(monkeypatch, request):
    """The runbook's own command works literally: the table is the project's, not the server's."""
    monkeypatch.chdir(request.config.rootpath)
    for name in ("SLUICE_URL", "SLUICE_EXPECT_SSO_HOST", "SMOKE_EXPECT_SSO_HOST", "SLUICE_PUBLIC_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SMOKE_API_URL", "https://test.boltorezka.gismalink.art")
    assert from_environment().expect_sso_host == "test.auth.gismalink.art"
