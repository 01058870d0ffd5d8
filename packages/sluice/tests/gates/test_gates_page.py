"""docs/reference/gates.md tells every gate, every policy key and every code, and whether a waiver is taken."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import msgspec
import pytest

from sluice import gates
from sluice.gates.run import GATES
from sluice.gates.waivers import NEVER, NEVER_IN_PROD
from sluice.model.policy import GatesSpec

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs" / "reference" / "gates.md").read_text()
KINDS = "Branch|Main|Checks|Signature|Env|Pull|Summary|Fragment|Trailer|Forge|Docs|Freeze|Host|Disk|WayBack|Gate|Waiver"
CODE = re.compile(rf'"((?:{KINDS})[A-Z][A-Za-z]+|BadRelease(?:Unknown)?)"')
TOLD = re.compile(rf"`((?:{KINDS})[A-Z][A-Za-z]+|BadRelease(?:Unknown)?)`")
FOLDER = Path(gates.__file__).parent


def section(gate: str) -> str:
    """What the page says of a gate."""
    return PAGE.partition(f"## `{gate}`\n")[2].partition("\n## ")[0]


def row(gate: str) -> list[str]:
    """Its line in the first table."""
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| [`{gate}`](#{gate}) |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("gate", GATES)
def test_every_gate_has_its_place(gate):
    """A row in the table and a section with evidence, fix and policy keys."""
    assert len(row(gate)) == 4
    for part in ("**Evidence:**", "**Fix:**", "**Policy:**"):
        assert part in section(gate)


def test_the_page_tells_of_no_other_gate():
    """In the table, in the order the findings come."""
    assert re.findall(r"^\| \[`([a-z-]+)`\]\(#", PAGE, re.MULTILINE) == list(GATES)


@pytest.mark.parametrize("gate", GATES)
def test_whether_a_waiver_is_taken(gate):
    """As the code decides it, with the policy's own default."""
    waivable = row(gate)[3]
    assert waivable.startswith("no") == (gate in NEVER or gate in GatesSpec().never_waive)
    assert ("not in `prod`" in waivable) == (gate in NEVER_IN_PROD)


def test_every_key_of_the_policy_is_named():
    """Each field of [gates] stands somewhere on the page."""
    missing = [f.name for f in msgspec.structs.fields(GatesSpec) if f"`{f.name}`" not in PAGE]
    assert missing == []


def test_every_code_is_explained():
    """Whatever code a gate or a waiver can give is on the page."""
    sources = [path.read_text() for path in [*FOLDER.glob("*.py"), FOLDER.parent / "hosts" / "signing.py"]]
    codes = {code for text in sources for code in CODE.findall(text)} | {"PullClosed", "PullMerged"}
    assert len(codes) > 40
    assert codes == set(TOLD.findall(PAGE))


@pytest.mark.parametrize("path", [one for one in FOLDER.glob("*.py") if one.name != "secrets.py"], ids=lambda p: p.stem)
def test_no_gate_refuses_without_a_code(path):
    """Every finding that is written out as a failure or an error has metrics, where its code is."""
    for call in ast.walk(ast.parse(path.read_text())):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Finding":
            said = {
                node.attr for argument in call.args for node in ast.walk(argument) if isinstance(node, ast.Attribute)
            }
            given = {keyword.arg for keyword in call.keywords}
            assert not said & {"FAIL", "ERROR", "INCONCLUSIVE"} or "metrics" in given, ast.unparse(call)
