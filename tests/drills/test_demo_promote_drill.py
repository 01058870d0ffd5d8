"""`make demo` and then `make demo-promote`, as they are typed, from a checkout of their own with ports of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import demo_origin
import pytest

from sluice.hosts.state import StatePaths
from sluice.ledger import Ledger

pytestmark = [pytest.mark.drill, pytest.mark.e2e]  # a minute, of which most is two builds

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
VERB_S = 300  # a build, two watches and a dozen commands on a busy machine
FIRST = 17900  # twenty ports for each environment; a demo that somebody runs has them from 18080 on


class Checkout:
    """A copy of this checkout, with the tools where `make` puts them. `run` types a verb of the demo."""

    def __init__(self, folder: Path, ports: dict[str, int], spec: str) -> None:
        self.folder, self.ports = folder / "checkout", ports
        self.folder.mkdir()
        self._copy(folder / "copy.git")
        (self.folder / demo_origin.SPEC).write_text(spec)
        for name, program in (("sluice", "sluice"), ("server", "boltorezka")):
            tools = self.folder / ".cache/env" / name / "bin"
            tools.mkdir(parents=True)
            (tools / program).symlink_to(BIN / program)
        self.demo = self.folder / ".demo"
        self.demo.mkdir(mode=0o700)
        (self.demo / "ports.json").write_text(json.dumps(ports))

    def _copy(self, store: Path) -> None:
        """What git has or would add, and nothing that lies beside it."""
        demo_origin.git(["init", "--quiet", "--bare", str(store)], cwd=self.folder)
        sha = demo_origin.snapshot(ROOT, store)
        where = {"GIT_DIR": str(store), "GIT_WORK_TREE": str(self.folder), "GIT_INDEX_FILE": str(store / "copied")}
        demo_origin.git(["-c", "core.bare=false", "checkout", "--quiet", sha, "--", "."], cwd=self.folder, **where)

    def run(self, verb: str) -> tuple[int, str]:
        """The same line as in the Makefile."""
        done = subprocess.run(
            [sys.executable, str(self.folder / "scripts/demo.py"), verb],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=VERB_S,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def head(self, branch: str) -> str:
        """A branch of the demo's origin."""
        return demo_origin.git(["rev-parse", branch], cwd=self.demo / "origin.git")

    def served(self, name: str) -> str:
        """The commit at a public address: `public` is test's, `prod` is prod's."""
        url = f"http://127.0.0.1:{self.ports[name]}/version"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(json.load(answer)["sha"])

    def records(self) -> list[dict[str, object]]:
        """Of prod's ledger, oldest first."""
        return Ledger(StatePaths(self.demo / "state", "boltorezka", "prod").ledger).records()


@pytest.fixture
def checkout(tmp_path, free_ports, short_watch) -> Iterator[Checkout]:
    """Nothing runs yet; at the end everything that it started is stopped."""
    public, sso, prod = free_ports(3)
    ports = {"public": public, "sso": sso, "prod": prod, "first": FIRST, "last": FIRST + 19}
    made = Checkout(tmp_path, ports, short_watch((ROOT / demo_origin.SPEC).read_text()))
    try:
        yield made
    finally:
        code, out = made.run("stop")
        assert code == 0, out


def test_the_demo_promotes_what_test_proved_and_nothing_else(checkout):
    """Nothing is promoted before the demo; then the branch is refused, and main is signed, promoted and recorded."""
    code, out = checkout.run("promote")
    assert (code, "run `make demo` first" in out) == (1, True), out
    code, out = checkout.run("start")
    assert code == 0, out
    proven = checkout.head("feature/demo")
    assert checkout.served("public") == proven

    code, out = checkout.run("promote")
    assert code == 0, out
    assert "Refused and recorded: FeatureBranch." in out
    assert checkout.head("main") == proven
    assert checkout.served("prod") == proven
    records = checkout.records()
    assert [record.get("refusal") for record in records if record.get("decision") == "refused"] == [
        "FeatureBranch",
        "ChecklistOpen",
    ]
    promoted = records[-1]
    assert (promoted["type"], promoted["outcome"], promoted["commit"]) == ("promotion", "done", proven)

    code, out = checkout.run("promote")
    assert code == 0, out
    assert "already, so there is nothing to promote" in out
    assert checkout.records()[-1]["refusal"] == "FeatureBranch"
    assert (checkout.served("prod"), checkout.served("public")) == (proven, proven)

    code, out = checkout.run("broken")
    assert code == 0, out
    assert checkout.head("main") == proven  # a bad branch takes no merge back
