"""The layout and the habits that a machine can check."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 40

# A longer file or function needs one line of reason here.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}

TOP_LEVEL = {
    ".ci",
    ".dockerignore",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "bench",
    "deploy",
    "docs",
    "fuzz",
    "package.json",
    "packages",
    "pyproject.toml",
    "requirements",
    "scripts",
    "tests",
    "web",
    "wire",
}


def tracked(*patterns: str) -> list[Path]:
    """The files git knows or would add, so that the test also sees work not yet committed."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in listed if (ROOT / name).is_file()]


PYTHON = tracked("*.py")


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function of a file, nested ones included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def test_top_level_is_the_design() -> None:
    """Nothing lies at the top of the repository that the design does not name."""
    found = {path.relative_to(ROOT).parts[0] for path in tracked(".")}
    assert found == TOP_LEVEL


def test_files_are_short() -> None:
    """No file, of tests neither, is over its budget without a stated reason."""
    sources = tracked("*.py", "*.ts", "*.mjs")
    long = {str(p.relative_to(ROOT)): n for p in sources if (n := len(p.read_text().splitlines())) > MAX_FILE_LINES}
    assert set(long) == set(LONG_FILES), long


def test_functions_are_short() -> None:
    """No function is over its budget without a stated reason."""
    long = {
        f"{path.relative_to(ROOT)}:{node.name}": length(node)
        for path in PYTHON
        if "tests" not in path.parts
        for node in functions(path)
        if length(node) > MAX_FUNCTION_LINES
    }
    assert set(long) == set(LONG_FUNCTIONS), long


def test_every_test_says_what_it_proves() -> None:
    """Each test function has a docstring."""
    silent = [
        f"{path.relative_to(ROOT)}:{node.name}"
        for path in PYTHON
        if path.name.startswith("test_")
        for node in functions(path)
        if node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert silent == []


def test_no_test_is_switched_off() -> None:
    """No test is skipped, expected to fail, or made to wait by sleeping."""
    pattern = re.compile(r"pytest\.(skip|mark\.(skip|xfail)|importorskip)|time\.sleep\(")
    here = Path(__file__)
    offenders = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in PYTHON
        if path.name.startswith(("test_", "conftest")) and path != here
        for match in pattern.finditer(path.read_text())
    ]
    assert offenders == []


def test_test_files_have_unique_names() -> None:
    """A failing test is found by its file's name alone."""
    names = [path.name for path in PYTHON if path.name.startswith("test_")]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)


@pytest.mark.parametrize("lock", ["uv.lock", "poetry.lock", "Pipfile.lock"])
def test_no_lock_file_that_names_registries(lock: str) -> None:
    """The lock is requirements/*.txt with hashes; files that name a registry's host are not tracked."""
    assert tracked(lock, f"**/{lock}") == []


def test_npm_locks_have_no_addresses() -> None:
    """package-lock.json files carry integrity hashes and no download addresses."""
    locks = tracked("*package-lock.json")
    assert locks
    assert [str(p) for p in locks if '"resolved": "http' in p.read_text()] == []


def test_ci_runs_what_the_readme_says() -> None:
    """CI is `make check`, `make test` and `make e2e`, the verbs people type."""
    commands = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line.startswith("make ")]
    assert commands == ["make check", "make test", "make e2e"]
    readme = (ROOT / "README.md").read_text()
    assert all(verb in readme for verb in ("make demo", "make test", "make check"))
