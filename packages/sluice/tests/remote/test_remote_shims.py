"""The runbook's own scripts: what they call, what they refuse, and whose files they leave alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sluice.cli import shims
from sluice.cli.main import main

NAMES = ["gitops-deploy.sh", "release-command.sh", "test-smoke.sh", "server-quick-check.sh"]
ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """Installed scripts that call a program which prints what it was called with."""
    program = tmp_path / "a program"
    program.write_text('#!/bin/sh\nprintf "%s|" "$SLUICE_STATE" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(shims, "_program", lambda: program)
    monkeypatch.setenv("SLUICE_STATE", "/state with 'quotes'")
    monkeypatch.delenv("SLUICE_HOST_CONFIG", raising=False)
    assert main(["shims", "install", str(tmp_path / "scripts")]) == 0
    return tmp_path / "scripts"


def run(script, *arguments, **environment):
    """Exit code, stdout, stderr."""
    command = [str(script), *arguments]
    env = {"PATH": os.environ["PATH"], **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, env=env)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "called"),
    [
        (
            "release-command.sh rollout --env test --service boltorezka --branch feature/x",
            "rollout --env test --service boltorezka --branch feature/x",
        ),
        ("release-command.sh rollback --env test", "rollback --env test"),
        ("release-command.sh log verify --env test", "log verify --env test"),
        ("release-command.sh promote --env prod --service s", "promote --env prod --service s"),
        ("gitops-deploy.sh --env test --branch feature/x", "rollout --env test --branch feature/x"),
        ("test-smoke.sh --service s", "smoke --env test --service s"),
        ("test-smoke.sh --env test", "smoke --env test"),
        ("server-quick-check.sh", "quick-check"),
        ("server-quick-check.sh --env prod --json", "quick-check --env prod --json"),
    ],
)
def test_each_script_is_one_sluice_command(scripts, words, called):
    """The words go through as they are, with the state of the installation."""
    name, *arguments = words.split()
    code, out, err = run(scripts / name, *arguments)
    assert (code, err) == (0, "")
    assert out.split("|")[:-1] == ["/state with 'quotes'", *called.split()]


def test_words_keep_their_blanks_and_the_environment_wins(scripts):
    """A value with blanks is one word; a state that is already set stays."""
    override = "it is; $(known) `so`"
    code, out, _ = run(
        scripts / "gitops-deploy.sh", "--env", "test", "--branch", "b", "--override", override, SLUICE_STATE="/mine"
    )
    assert code == 0
    assert out == f"/mine|rollout|--env|test|--branch|b|--override|{override}|"


@pytest.mark.parametrize(
    "words",
    [
        "release-command.sh",
        "release-command.sh explode --env test",
        "release-command.sh rollout --env test --force",
        "release-command.sh rollout --branch x",
        "release-command.sh rollout --env",
        "release-command.sh rollout --env test stray",
        "gitops-deploy.sh rollout --env test",
        "test-smoke.sh --env prod",
        "test-smoke.sh --env test --env prod",
        "server-quick-check.sh --branch x",
    ],
)
def test_what_makes_no_sense_shows_the_usage_and_is_exit_code_2(scripts, words):
    """On stderr, and nothing is called."""
    name, *arguments = words.split()
    code, out, err = run(scripts / name, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"{name}: ")
    assert "--service SERVICE" in err


@pytest.mark.parametrize("name", NAMES)
def test_help_is_the_scripts_own_usage(scripts, name):
    """-h and --help print it, and call nothing."""
    assert run(scripts / name, "-h") == run(scripts / name, "--help")
    code, out, err = run(scripts / name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"{name}: ")


def test_installing_again_changes_nothing_and_check_tells_what_is_stale(scripts, capsys):
    """Idempotent; a script that was edited, lost its bit or is missing is named, and mended by the next install."""
    before = (scripts / NAMES[0]).stat().st_mtime_ns
    assert main(["shims", "install", str(scripts)]) == 0
    assert (scripts / NAMES[0]).stat().st_mtime_ns == before
    assert main(["shims", "check", str(scripts)]) == 0
    (scripts / NAMES[0]).chmod(0o644)
    (scripts / NAMES[1]).write_text((scripts / NAMES[1]).read_text() + "# mine\n")
    (scripts / NAMES[2]).unlink()
    capsys.readouterr()
    assert main(["shims", "check", str(scripts)]) == 1
    states = [line.rpartition(": ")[2] for line in capsys.readouterr().out.splitlines()]
    assert states == ["stale", "stale", "missing", "current"]
    assert main(["shims", "install", str(scripts)]) == 0
    assert main(["shims", "check", str(scripts)]) == 0


def test_somebody_elses_script_is_left_alone(scripts, capsys):
    """Nothing at all is written then; --force replaces it."""
    (scripts / NAMES[0]).unlink()
    (scripts / NAMES[0]).symlink_to(scripts / NAMES[3])
    (scripts / NAMES[1]).write_text("#!/bin/sh\n# the team's own\n")
    (scripts / NAMES[2]).unlink()
    assert main(["shims", "install", str(scripts)]) == 1
    told = capsys.readouterr().err
    assert f"{NAMES[0]}, {NAMES[1]}" in told
    assert "--force" in told
    assert "the team's own" in (scripts / NAMES[1]).read_text()
    assert not (scripts / NAMES[2]).exists()
    assert main(["shims", "check", str(scripts)]) == 1
    assert "not written by Sluice" in capsys.readouterr().out
    assert main(["shims", "install", str(scripts), "--force"]) == 0
    assert main(["shims", "check", str(scripts)]) == 0
    assert not (scripts / NAMES[0]).is_symlink()


def test_the_page_is_what_the_scripts_are(tmp_path):
    """docs/reference/scripts.md is up to date; the generator says so by itself."""
    command = [sys.executable, str(ROOT / "scripts" / "generate_docs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    assert "scripts.md" not in done.stderr
    assert (ROOT / "docs/reference/scripts.md").is_file()
