"""The launcher: what it refuses, whose user and which environment the program gets, and that it waits to be known."""

from __future__ import annotations

import os
import pwd
import subprocess

import pytest

from sluice.model.errors import Refused
from sluice.runtimes.launch import EXIT_CONFIG, EXIT_NOT_FOUND, EXIT_ORPHAN, launch_argv, user

DEADLINE_S = 20


def run(argv: list[str], **more) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S, check=False, **more)


def test_unknown_user_and_missing_root_are_refused(monkeypatch):
    """An unknown account, or becoming somebody else without root, is a clear sentence."""
    with pytest.raises(Refused, match="does not exist"):
        user("no-such-user-here")
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(Refused, match="needs root"):
        user("root")


def test_program_that_does_not_exist_and_bad_env_file_exit_with_a_reason(tmp_path):
    """Exit 127 and 78, with a sentence on stderr that holds no value."""
    done = run(launch_argv(["/no/such"]))
    assert (done.returncode, "No such file" in done.stderr) == (EXIT_NOT_FOUND, True)
    env_file = tmp_path / "e.env"
    env_file.write_text("A=sentinel-1\n")
    env_file.chmod(0o640)
    done = run(launch_argv(["/bin/true"], env_file=str(env_file)))
    assert (done.returncode, "mode 0640" in done.stderr) == (EXIT_CONFIG, True)
    assert "sentinel" not in done.stderr


def test_nothing_starts_when_the_supervisor_dies_before_it_knows():
    """The pipe ends without a byte: the program is never executed."""
    wait_end, go_end = os.pipe()
    os.close(go_end)
    done = run(launch_argv(["/bin/echo", "started"], go_fd=wait_end), pass_fds=(wait_end,))
    os.close(wait_end)
    assert (done.returncode, done.stdout) == (EXIT_ORPHAN, "")


def test_program_runs_as_its_user_with_its_environment_alone(tmp_path):
    """Settings beat the env file; our own variables do not leak; the user and the umask are right."""
    name = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    env_file = tmp_path / "e.env"
    env_file.write_text("A=file\nB=file\n")
    env_file.chmod(0o600)
    argv = ["/bin/sh", "-c", "id -un; umask; env"]
    done = run(
        launch_argv(argv, env_file=str(env_file), run_as=name, settings={"B": "set = this"}),
        env={**os.environ, "LEAK": "1"},
    )
    lines = done.stdout.splitlines()
    assert lines[:2] == [name, "0077"]
    assert {"A=file", "B=set = this", f"HOME={pwd.getpwnam(name).pw_dir}"} <= set(lines)
    assert not any(line.startswith("LEAK") for line in lines)
