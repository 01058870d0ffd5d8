"""A configured host without anything running, and a fake ssh that plays a written scene."""

from __future__ import annotations

import json
import os
import stat
import sys

import pytest

from sluice.drive import Report
from sluice.hosts.state import StatePaths

FAKE_SSH = """#!{python}
import json, os, sys
scene = "{folder}/scene"
turns = json.load(open(scene + ".json"))
while True:
    number = len(os.listdir(scene))
    try:
        os.close(os.open(f"{{scene}}/{{number}}", os.O_CREAT | os.O_EXCL))
        break
    except FileExistsError:
        pass
turn = turns[min(number, len(turns) - 1)]
with open("{folder}/calls", "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
for line in turn.get("says", []):
    print(line if isinstance(line, str) else json.dumps(line), flush=True)
    if line == turn["says"][0] and turn.get("wants_go"):
        with open("{folder}/heard", "a") as heard:
            heard.write(sys.stdin.readline())
if turn.get("err"):
    print(turn["err"], file=sys.stderr)
if turn.get("stays"):
    sys.stdin.read()
sys.exit(turn.get("code", 0))
"""


class FakeSsh:
    """What ssh does, one turn after another; the last one is repeated."""

    def __init__(self, folder):
        """Puts the program there."""
        self.folder = folder
        (folder / "scene").mkdir()
        program = folder / "ssh"
        program.write_text(FAKE_SSH.format(python=sys.executable, folder=folder))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def plays(self, *turns):
        """Says what each connection does."""
        (self.folder / "scene.json").write_text(json.dumps(turns))

    def calls(self):
        """The arguments of each connection so far."""
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]

    def heard(self):
        """What was said into a connection that wanted a go."""
        path = self.folder / "heard"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def fake_ssh(tmp_path, monkeypatch):
    """An `ssh` that comes first in PATH."""
    folder = tmp_path / "fake"
    folder.mkdir()
    made = FakeSsh(folder)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr("sluice.cli.remote_run.PAUSES_S", (0.0,))
    return made


@pytest.fixture
def paths(tmp_path, monkeypatch):
    """A host with one service in one environment, as the command line finds it."""
    env_file = tmp_path / "test.env"
    env_file.write_text("")
    env_file.chmod(0o600)
    (tmp_path / "host.toml").write_text(
        f'[service.shop]\nrepo = "{tmp_path}/origin"\n[service.shop.env.test]\npublic_url = "http://127.0.0.1:18999"\n'
        f'env_file = "{env_file}"\nports = [18100, 18119]\n'
    )
    monkeypatch.setenv("SLUICE_HOST_CONFIG", str(tmp_path / "host.toml"))
    monkeypatch.setenv("SLUICE_STATE", str(tmp_path / "state"))
    made = StatePaths(tmp_path / "state", "shop", "test")
    made.prepare()
    return made


def said(number, event, text="", **more):
    """One report of run R as it stands in a transcript."""
    return Report(event, "now", "R", text=text, n=number, **more)
