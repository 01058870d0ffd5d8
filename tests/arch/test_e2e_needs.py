"""What `make e2e` says of a machine, asked of machines that are folders of small programs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "e2e_needs.py"
PROGRAMS = ("turnserver", "dockerd", "iptables", "sshd", "docker-registry", "age")
ANSWERS = "echo 20.10.24"
STOPPED = "echo 'Cannot connect to the Docker daemon' >&2; exit 1"
Asked = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    """Ask the script on a machine with these programs, whose `docker` does what the shell line says."""

    def ask(*options: str, programs: Iterable[str], docker: str | None) -> subprocess.CompletedProcess[str]:
        for name, line in {**dict.fromkeys(programs, "exit 1"), **({"docker": docker} if docker else {})}.items():
            program = tmp_path / name
            program.write_text(f"#!/bin/sh\n{line}\n")
            program.chmod(0o755)
        # The script looks beyond the PATH for servers; this machine has none but those of the folder.
        code = (
            "import runpy, sys, shutil; which = shutil.which; "
            f"shutil.which = lambda name, path=None: which(name, path={str(tmp_path)!r}); "
            f"sys.argv = {[str(SCRIPT), *options]!r}; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
        )
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={"PATH": str(tmp_path)}
        )

    return ask


def test_everything_missing_is_named_with_its_package(asked: Asked) -> None:
    """On a bare machine every program is named, and one line installs them all."""
    done = asked(programs=(), docker=None)
    assert done.returncode == 1
    assert "age coturn docker-registry docker.io iptables openssh-server" in done.stderr
    assert all(name in done.stderr for name in (*PROGRAMS, "docker:"))


def test_a_stopped_engine_is_said_and_nothing_is_started(asked: Asked) -> None:
    """With every program there and no engine that answers, the sentence says how to start it."""
    done = asked(programs=PROGRAMS, docker=STOPPED)
    assert done.returncode == 1
    assert "no container engine answers" in done.stderr
    assert "Cannot connect to the Docker daemon" in done.stderr
    assert "apt-get" not in done.stderr


def test_an_account_that_may_not_use_the_engine_is_told(asked: Asked) -> None:
    """Permission is another trouble than an engine that does not run."""
    done = asked(programs=PROGRAMS, docker="echo 'permission denied while connecting' >&2; exit 1")
    assert "may not be used by this account" in done.stderr


def test_an_engine_elsewhere_needs_no_dockerd(asked: Asked) -> None:
    """Where an engine answers, its own programs are not asked for."""
    rest = [name for name in PROGRAMS if name not in {"dockerd", "iptables"}]
    done = asked(programs=rest, docker=ANSWERS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_ci_is_told_packages_and_engine_apart(asked: Asked) -> None:
    """`--packages` prints names for apt-get and nothing else; `--engine` answers with its exit code."""
    assert asked("--packages", programs=("sshd", "dockerd", "iptables"), docker=STOPPED).stdout == (
        "age coturn docker-registry\n"
    )
    assert asked("--engine", programs=(), docker=STOPPED).returncode == 1
    assert asked("--engine", programs=(), docker=ANSWERS).returncode == 0
