"""Findings as JUnit's XML, which every CI shows: `--junit FILE`."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from sluice.model.errors import UsageError
from sluice.model.verdict import Finding, Verdict

# A name for what JUnit has: it knows no verdict of ours but a pass.
ELEMENTS = {
    Verdict.FAIL: "failure",
    Verdict.ERROR: "error",
    Verdict.INCONCLUSIVE: "error",
    Verdict.SKIPPED: "skipped",
    Verdict.WAIVED: "skipped",
}
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

junit_option = click.option(
    "--junit",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the results to this file, as JUnit XML.",
)


@dataclass(frozen=True)
class Suite:
    """What was asked of one address, one environment or the machine. `doubtful`: inconclusive is no failure there."""

    name: str
    findings: Sequence[Finding]
    doubtful: bool = False

    def element(self, finding: Finding) -> str:
        """What JUnit has for it; "" for a pass."""
        # What vetoes nothing here must not do so in a CI.
        if finding.dry_run or (self.doubtful and finding.verdict is Verdict.INCONCLUSIVE):
            return "" if finding.verdict is Verdict.PASS else "skipped"
        return ELEMENTS.get(finding.verdict, "")


def junit_xml(suites: Sequence[Suite]) -> bytes:
    """Pure: one document. The findings are redacted already; what XML cannot hold is replaced."""
    root = ET.Element("testsuites", _counted(suites))
    for suite in suites:
        whole = ET.SubElement(root, "testsuite", {"name": _safe(suite.name), **_counted([suite])})
        for finding in suite.findings:
            about = {"name": _safe(finding.name), "classname": _safe(suite.name), "time": _seconds(finding.ms)}
            case = ET.SubElement(whole, "testcase", about)
            element, detail = suite.element(finding), finding.detail
            if element:
                said = "" if element == "failure" or finding.verdict is Verdict.ERROR else f"{finding.verdict.value}: "
                said = f"dry run, {finding.verdict.value}: " if finding.dry_run else said
                message = {"message": _safe(said + detail), "type": finding.verdict.value}
                ET.SubElement(case, element, message).text = _safe(finding.fix)
            elif detail:
                ET.SubElement(case, "system-out").text = _safe(detail)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))


def write_junit(path: Path | None, suites: Sequence[Suite]) -> None:
    """Write them where that was asked. Raises UsageError when it cannot be done; the findings were shown before."""
    if path is None:
        return
    try:
        path.write_bytes(junit_xml(suites))
    except OSError as error:
        raise UsageError(
            f"the results cannot be written to {path}: {error.strerror}.",
            world="The checks ran, and are shown above.",
            next="name a file in a folder that is there and that this user may write to",
        ) from error


def _counted(suites: Sequence[Suite]) -> dict[str, str]:
    elements = [suite.element(finding) for suite in suites for finding in suite.findings]
    counts = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    numbers = {name: str(elements.count(element)) for name, element in counts.items()}
    ms = sum(finding.ms for suite in suites for finding in suite.findings)
    return {"tests": str(len(elements)), **numbers, "time": _seconds(ms)}


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.3f}"


def _safe(text: str) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
