"""An engine of the test's own, which may be ended at will, in a network namespace of its own.

Two engines on one machine share firewall rules and bridges; in a namespace nothing of the other one is seen.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

from workbench import COMMAND_S, wait_until


class OwnEngine:
    """dockerd as root, with everything below one folder."""

    def __init__(self, folder: Path) -> None:
        """Makes the namespace; `start` starts the engine."""
        self._folder = folder
        self._name = f"mx-{secrets.token_hex(3)}"
        self.netns, self.socket = f"/run/netns/{self._name}", str(folder / "docker.sock")
        self._process: subprocess.Popen[bytes] | None = None
        _run("ip", "netns", "add", self._name)
        _run("nsenter", f"--net={self.netns}", "ip", "link", "set", "lo", "up")

    def start(self) -> None:
        """It answers afterwards."""
        places = ["--data-root", "data", "--exec-root", "exec", "--pidfile", "pid"]
        argv = [str(self._folder / word) if not word.startswith("-") else word for word in places]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["nsenter", f"--net={self.netns}", "dockerd", "--host", f"unix://{self.socket}", *argv],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._answers, f"the engine at {self.socket} answers")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text()[-4000:]
        return self.docker("version", check=False).returncode == 0

    def end(self, number: signal.Signals) -> None:
        """It has ended afterwards, and so has what it keeps its containers with; the containers may run on."""
        if self._process is not None:
            beside = Path("/proc") / (self._folder / "exec/containerd/containerd.pid").read_text()
            os.kill(self._process.pid, number)
            self._process.wait(COMMAND_S)
            self._process = None
            # The kernel ends it with its parent; an engine that starts in that moment would take it for alive.
            wait_until(lambda: not beside.exists(), "containerd ends with its engine")

    def docker(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """A docker command on this engine."""
        return _run("docker", "-H", f"unix://{self.socket}", *arguments, check=check)

    def take(self, image: str) -> None:
        """An image of the machine's engine."""
        archive = self._folder / "image.tar"
        _run("docker", "save", "--output", str(archive), image)
        self.docker("load", "--input", str(archive))
        archive.unlink()

    def remove(self) -> None:
        """Nothing of it is left."""
        if self._process is None or self._process.poll() is not None:
            self.start()
        if containers := self.docker("ps", "--all", "--quiet").stdout.decode().split():
            self.docker("rm", "--force", *containers)
        self.end(signal.SIGTERM)
        # It mounts its data on itself, and one that was killed leaves that behind.
        _run("umount", "--lazy", str(self._folder / "data"), check=False)
        _run("ip", "netns", "del", self._name)
        shutil.rmtree(self._folder)


def _run(*argv: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(argv, capture_output=True, timeout=COMMAND_S, check=False)
    assert not check or done.returncode == 0, f"{' '.join(argv)}\n{done.stderr.decode(errors='replace')}"
    return done
