"""The plug-in protocol (docs/reference/plug-ins.md): environment variables in, one JSON object per check out."""

from __future__ import annotations

import datetime as dt
import os
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sluice.model.verdict import Finding, Verdict

MAX_DETAIL = 600  # one sentence of evidence, not a dump
MAX_LINE = 64 * 1024
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")


@dataclass(frozen=True)
class PluginCall:
    """What a plug-in is told, one field per variable of the protocol."""

    url: str
    public_url: str
    release: str
    environment: str
    expect_sso_host: str
    credentials: Path | None
    old_url: str = ""
    side: str = ""  # new or old, in the watch: two of them run beside each other on one database
    ca_file: str = ""

    def variables(self, deadline: float) -> dict[str, str]:
        """The complete environment: the protocol's variables and what a program needs to start, nothing of ours."""
        # SSL_CERT_FILE is what OpenSSL, and with it most programs, read by themselves.
        trusted = {"SSL_CERT_FILE": self.ca_file} if self.ca_file else {}
        return trusted | {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": os.environ.get("HOME", "/"),
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",  # an artifact stays as it was built; what is installed was compiled then
            "SLUICE_URL": self.url,
            "SLUICE_OLD_URL": self.old_url,
            "SLUICE_PUBLIC_URL": self.public_url,
            "SLUICE_SIDE": self.side,
            "SLUICE_RELEASE": self.release,
            "SLUICE_ENV": self.environment,
            "SLUICE_DEADLINE": f"{deadline:.3f}",
            "SLUICE_EXPECT_SSO_HOST": self.expect_sso_host,
            "SLUICE_CREDENTIALS": str(self.credentials or ""),
            "SLUICE_CA_FILE": self.ca_file,
        }


def deadline_after(now: str, seconds: float) -> float:
    """Unix seconds, `seconds` after the wall time `now` (ISO 8601, as the Clock gives it)."""
    return dt.datetime.fromisoformat(now).timestamp() + seconds


def parse_line(line: str) -> Finding | None:
    """One line of a plug-in's output, or None when it is not a check: the plug-in broke its promise."""
    if len(line) > MAX_LINE:
        return None
    try:
        finding = msgspec.json.decode(line, type=Finding)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None
    if not _NAME.fullmatch(finding.name):
        return None
    return msgspec.structs.replace(finding, detail=_one_line(finding.detail), fix=_one_line(finding.fix), dry_run=False)


def _one_line(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= MAX_DETAIL else flat[: MAX_DETAIL - 1] + "…"


def broken(why: str) -> Finding:
    """The finding `plug-in`: what should have judged broke, so nothing is known of the release."""
    return Finding(
        "plug-in",
        Verdict.ERROR,
        detail=f"The probe broke: {why}.",
        fix="run the plug-in by hand with the variables of docs/reference/plug-ins.md",
    )
