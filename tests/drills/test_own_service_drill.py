"""The page for newcomers, done word for word: a service of their own, to `test`, refused, approved, to `prod`."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sluice.runtimes.client import SupervisorClient

pytestmark = pytest.mark.drill

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/how-to/bring-your-own-service.md"
FENCE = re.compile(r"^```(sh|python|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND_S = 150
# What each refused command must say: the codes and gates the page speaks of.
REFUSALS = (("checks-passed", "pr-summary", "docs-changed"), ("FeatureBranch",), ("ChecklistOpen", "ApprovalMissing"))


class Newcomer:
    """Somebody at a shell, in a home of their own."""

    def __init__(self, home: Path, ports: dict[str, str]) -> None:
        """Sluice is installed already: the first section is tried with a container engine, elsewhere."""
        self.home, self.here, self.ports = home, home, ports
        self.printed: list[str] = []
        kept = {name: os.environ[name] for name in ("LANG",) if name in os.environ}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = kept | {"PATH": path, "HOME": str(home), "USER": "me"}

    def theirs(self, text: str) -> str:
        """Ports of this machine that are free; nothing else differs from the page."""
        return re.sub(r"\b(" + "|".join(self.ports) + r")\b", lambda found: self.ports[found[1]], text)

    def write(self, text: str) -> None:
        """A file whose first line names it."""
        name = text.partition("\n")[0].removeprefix("# ").replace("~", str(self.home))
        (self.here / name).write_text(self.theirs(text))

    def shell(self, text: str) -> tuple[int, str]:
        """Commands, where the last ones left off, with what they exported."""
        state = self.home / ".shell"
        before = f". {state}\n" if state.exists() else ""
        script = f"{before}trap 'code=$?; export -p > {state}; echo cd \"$PWD\" >> {state}; exit $code' EXIT\n{text}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.theirs(script)],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        cd = re.findall(r"^cd (.*)$", state.read_text(), re.MULTILINE)
        self.here = Path(cd[-1])
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def newcomer(tmp_path, free_ports_of_the_page):
    """At home, with nothing; what was started is ended."""
    made = Newcomer(tmp_path, free_ports_of_the_page)
    yield made
    SupervisorClient(tmp_path / "state" / "supervisor").shutdown()


@pytest.fixture
def free_ports_of_the_page():
    """The page's ports -> free ones."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        first, second = one.getsockname()[1], other.getsockname()[1]
    base = 21000 + first % 8000
    slots = {"18201": base, "18209": base + 8, "18211": base + 10, "18219": base + 18}
    return {"8081": str(first), "8082": str(second), **{k: str(v) for k, v in slots.items()}}


def test_a_newcomer_gets_to_prod_by_the_page(newcomer):
    """Every command does what the page says; each refusal is one, and says why."""
    refused = iter(REFUSALS)
    blocks = FENCE.findall(PAGE.read_text())
    assert blocks[0][1].startswith("git clone"), "the first block installs"
    for kind, text in blocks[1:]:
        if kind != "sh":
            newcomer.write(text)
            continue
        code, out = newcomer.shell(text)
        newcomer.printed.append(out)
        if text.startswith("# refused"):
            assert code == 1, f"{text}\n{out}"
            words = next(refused)
            assert any(word in out for word in words) if len(words) == 2 else all(word in out for word in words), out
        else:
            assert code == 0, f"{text}\n{out}"
    told = "\n".join(newcomer.printed)
    assert '{"greeting": "good day", "hello": "tester"}' in told
    assert '{"greeting": "good day", "hello": "world"}' in told
    assert "hello, [redacted]" in told
    assert next(refused, None) is None
