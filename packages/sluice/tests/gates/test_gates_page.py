"""docs/reference/gates.md tells every gate, every policy key and every code, and whether a waiver is taken."""

from __future__ import annotations

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
CODE = re.compile(r'"((?:Checks|Signature|Pull|Summary|Fragment|Trailer|Forge|Waiver)[A-Z][A-Za-z]+)"')


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
    folder = Path(gates.__file__).parent
    sources = [path.read_text() for path in [*folder.glob("*.py"), folder.parent / "hosts" / "signing.py"]]
    codes = {code for text in sources for code in CODE.findall(text)} | {"PullClosed", "PullMerged"}
    assert len(codes) > 20
    assert sorted(code for code in codes if f"`{code}`" not in PAGE) == []
