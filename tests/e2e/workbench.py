"""What tests on a real engine work with: its command line, Compose, a clean export, and waiting with a deadline."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from images import LABEL

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = Path(sys.executable).parent / "docker-compose"
COMMAND_S = 120  # everything but a build: a start or a stop on a busy machine
BUILD_S = 600  # a first build fetches a hundred megabytes
LOOK_S = 0.1  # between two looks at what cannot call us


@dataclass
class Engine:
    """The engine of this machine, used by its command line. `mark` is on everything that this test makes."""

    mark: str = field(default_factory=lambda: f"e2e-{secrets.token_hex(4)}")

    def docker(self, *arguments: str, timeout_s: float = COMMAND_S) -> str:
        """Run a command and return what it printed. Fails the test with its words."""
        return self._checked(["docker", *arguments], None, timeout_s)

    def try_docker(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command whose failure is an answer too."""
        return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=COMMAND_S, check=False)

    def compose(self, *arguments: str, environment: Mapping[str, str], timeout_s: float = COMMAND_S) -> str:
        """Run Compose with nothing of this session's environment but what finds programs. Fails the test."""
        return self._checked([str(COMPOSE), *arguments], environment, timeout_s)

    def inspect(self, name: str) -> dict[str, Any]:
        """Everything the engine says of one container or image."""
        found: dict[str, Any] = json.loads(self.docker("inspect", name))[0]
        return found

    def run(self, *arguments: str) -> str:
        """Start a container that is removed with the test; its id."""
        return self.docker("run", "--detach", "--label", f"{LABEL}={self.mark}", *arguments).strip()

    def volume(self) -> str:
        """A volume that is removed with the test."""
        return self.docker("volume", "create", "--label", f"{LABEL}={self.mark}").strip()

    def remove(self, label: str) -> None:
        """Remove containers, networks and volumes with this label, and nothing else."""
        for kind, listing, removal in (
            ("container", ("ls", "--all", "--quiet"), ("rm", "--force", "--volumes")),
            ("network", ("ls", "--quiet"), ("rm",)),
            ("volume", ("ls", "--quiet"), ("rm", "--force")),
        ):
            found = self.docker(kind, *listing, "--filter", f"label={label}").split()
            if found:
                self.docker(kind, *removal, *found)

    def clean(self) -> None:
        """Remove what this test made."""
        self.remove(f"{LABEL}={self.mark}")

    @staticmethod
    def _checked(argv: list[str], environment: Mapping[str, str] | None, timeout_s: float) -> str:
        around = None if environment is None else {**_plain(), **environment}
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False, env=around)
        assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = 60) -> None:
    """Look at what cannot call us until it holds; fails the test, naming it, at the deadline."""
    waiter, end = threading.Event(), time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {deadline_s} s"
        waiter.wait(LOOK_S)


def export_checkout(folder: Path) -> Path:
    """The files git has or would add, as they are now, and nothing that lies beside them."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def _plain() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "DOCKER_HOST"}}
    # The builder that every engine has; the newer one needs a plug-in.
    return {**kept, "DOCKER_BUILDKIT": "0", "COMPOSE_MENU": "false", "COMPOSE_PROGRESS": "plain"}
