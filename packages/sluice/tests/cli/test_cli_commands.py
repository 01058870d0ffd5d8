"""The command line itself: examples, mistakes, and how a run looks."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from sluice.cli import commands
from sluice.cli.main import main
from sluice.cli.render import LineScreen, Unbroken, screen
from sluice.drive import Report
from sluice.model.verdict import Finding, Verdict
from sluice.testing.__main__ import main as drill_main


@pytest.fixture
def _nowhere(monkeypatch, tmp_path):
    monkeypatch.setenv("SLUICE_HOST_CONFIG", str(tmp_path / "host.toml"))
    monkeypatch.setenv("SLUICE_STATE", str(tmp_path / "state"))


@pytest.mark.usefixtures("_nowhere")
def test_a_missing_configuration_is_a_usage_error_with_the_next_command(capsys):
    """Exit code 2; what, state of the world, next."""
    assert main(["status", "--env", "test"]) == 2
    told = capsys.readouterr().err
    assert "host.toml cannot be read" in told
    assert "Nothing was changed." in told
    assert "sluice config example" in told


@pytest.mark.parametrize("arguments", [["rollout"], ["nonsense"], ["status", "--env"], ["log"], ["config", "nonsense"]])
def test_a_command_line_that_makes_no_sense_is_exit_code_2(capsys, arguments):
    """One message, no traceback."""
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("Usage: ")


@pytest.mark.usefixtures("_nowhere")
@pytest.mark.parametrize(
    ("arguments", "next_"),
    [
        (["status"], "sluice status --help"),
        (["log", "verify"], "sluice log verify --help"),
        (["unlock", "--env", "test"], "sluice unlock --help"),
        (["config", "nonsense"], "sluice config --help"),
        (["nonsense"], "sluice --help"),
    ],
)
def test_a_usage_error_names_the_help_of_its_own_command(capsys, arguments, next_):
    """Not the list of all commands, from which nobody learns what this one wants."""
    assert main(arguments) == 2
    assert f"Next: {next_}\n" in capsys.readouterr().err


def test_a_missing_environment_is_named_from_host_toml(capsys, tmp_path, monkeypatch):
    """The command is there to copy; `check` and `log`, which do without one elsewhere, say it too."""
    environments = "".join(
        f'[service.shop.env.{name}]\npublic_url = "http://127.0.0.1:{port}"\nenv_file = "/x"\n'
        f"ports = [{port + 1}, {port + 9}]\n"
        for name, port in (("prod", 18200), ("test", 18100))
    )
    (tmp_path / "host.toml").write_text(f'[service.shop]\nrepo = "/r"\ndemo = true\n{environments}')
    monkeypatch.setenv("SLUICE_HOST_CONFIG", str(tmp_path / "host.toml"))
    for command in ("status", "log", "log verify", "check", "smoke"):
        assert main(command.split()) == 2
        assert f"Next: sluice {command} --env test (here: test, prod)\n" in capsys.readouterr().err
    assert main(["check", "--env", "test"]) == 2
    assert "Missing option '--branch'" in capsys.readouterr().err


@pytest.mark.parametrize("group", [[], ["config"], ["log"], ["notify"], ["shims"], ["supervisor"]])
def test_every_command_is_told_in_a_whole_sentence(capsys, monkeypatch, group):
    """The list of commands fits a terminal of 80 columns; nothing is cut in the middle."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*group, "--help"]) == 0
    lines = capsys.readouterr().out.partition("Commands:")[2].strip().splitlines()
    assert lines
    assert [line for line in lines if not line.endswith(".") or line.endswith("...")] == []


def test_a_group_alone_shows_its_help_and_nothing_else(capsys):
    """Once, without an error's words around it."""
    assert main(["config"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("Usage: sluice config")
    assert "Next:" not in told


@pytest.mark.usefixtures("_nowhere")
def test_errors_are_json_where_json_was_asked_for(capsys):
    """A program gets code, what, world and next."""
    assert main(["status", "--env", "test", "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert (told["event"], told["code"], told["exit_code"]) == ("error", "Config", 2)


def test_a_defect_is_one_short_message_and_a_traceback_only_on_request(capsys, monkeypatch):
    """`Internal`, exit code 1 while nothing was touched; --debug shows where."""

    def broken(_session):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("sluice.cli.session.Session.host", broken)
    assert main(["status", "--env", "test"]) == 1
    told = capsys.readouterr().err
    assert "Internal error: ZeroDivisionError" in told
    assert "Traceback" not in told
    with pytest.raises(ZeroDivisionError):
        main(["--debug", "status", "--env", "test"])


def test_the_examples_it_prints_are_good_configurations(capsys, tmp_path):
    """`config example` gives what `config check` takes."""
    (tmp_path / "host.toml").write_text(commands.EXAMPLE_HOST)
    (tmp_path / "sluice.toml").write_text(commands.EXAMPLE_SERVICE)
    assert main(["config", "example"]) == 0
    assert commands.EXAMPLE_SERVICE in capsys.readouterr().out
    check = ["--host-config", str(tmp_path / "host.toml"), "config", "check"]
    assert main([*check, str(tmp_path / "sluice.toml")]) == 0
    told = capsys.readouterr()
    assert (told.out.count("good"), told.err) == (2, "")


@pytest.mark.parametrize(("which", "of"), [("host", "EXAMPLE_HOST"), ("service", "EXAMPLE_SERVICE")])
def test_one_example_alone_is_the_file_itself(capsys, which, of):
    """`config example service > sluice.toml` is a file that can be used."""
    assert main(["config", "example", which]) == 0
    assert capsys.readouterr().out.strip() == getattr(commands, of).strip()


def test_config_check_says_what_cannot_work(capsys, tmp_path):
    """A sluice.toml of a service that this host has not is an error; a policy nobody can follow is a warning."""
    (tmp_path / "host.toml").write_text(commands.EXAMPLE_HOST)
    check = ["--host-config", str(tmp_path / "host.toml"), "config", "check"]
    (tmp_path / "sluice.toml").write_text(commands.EXAMPLE_SERVICE.replace('name = "rooms"', 'name = "room"'))
    assert main([*check, str(tmp_path / "sluice.toml")]) == 2
    assert "$.name is 'room', and host.toml has only [service.rooms]" in capsys.readouterr().err
    (tmp_path / "sluice.toml").write_text(commands.EXAMPLE_SERVICE.replace("approvals = 1 ", "approvals = 2 "))
    assert main([*check, str(tmp_path / "sluice.toml")]) == 0
    assert "warning: $.promotion.approvals is 2, and 1 (ann) may approve" in capsys.readouterr().err


def test_our_own_policy_is_warned_about_and_good(capsys, tmp_path):
    """Until somebody is named in [signers] nothing reaches prod, which is what its comment says too."""
    own = Path(__file__).parents[4] / "deploy" / "sluice.toml"
    (tmp_path / "host.toml").write_text(commands.EXAMPLE_HOST.replace("service.rooms", "service.boltorezka"))
    assert main(["--host-config", str(tmp_path / "host.toml"), "config", "check", str(own)]) == 0
    told = capsys.readouterr()
    assert "boltorezka: good" in told.out
    assert "nobody may approve" in told.err
    assert "{artifact}" not in told.err


REPORTS = [
    Report("run", "now", "run-1", text="rollout of shop in test"),
    Report("step", "now", "run-1", step="gating", status="started", text="gates"),
    Report("progress", "now", "run-1", step="gating", text="half-way"),
    Report("finding", "now", "run-1", step="gating", finding=Finding("no-secrets", Verdict.FAIL, 7, "a [key]")),
    Report("step", "now", "run-1", step="gating", status="fail", ms=1500, text="no-secrets: a [key]"),
]


def test_a_run_in_a_pipe_is_plain_lines():
    """No control characters, one line per finished step, evidence verbatim."""
    out = io.StringIO()
    shown = LineScreen(Console(file=out, width=120))
    for report in REPORTS:
        shown(report)
    text = out.getvalue()
    assert "\x1b" not in text
    assert "fail  gating              1.5 s  no-secrets: a [key]" in text
    assert "FAIL  no-secrets" in text


def test_a_run_on_a_terminal_leaves_the_same_lines():
    """The spinner is taken away at the end; the lines stay."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, color_system=None)
    with screen(console, as_json=False) as shown:
        for report in REPORTS:
            shown(report)
    assert "fail  gating              1.5 s" in out.getvalue()


def test_a_terminal_that_goes_away_does_not_disturb_the_run():
    """A closed pipe silences the screen, once and for all."""

    class Gone:
        calls = 0

        def __call__(self, report):
            self.calls += 1
            raise BrokenPipeError(report.event)

        def interrupted(self):
            raise AssertionError

    gone = Gone()
    unbroken = Unbroken(gone)
    for report in REPORTS:
        unbroken(report)
    unbroken.interrupted()
    assert gone.calls == 1


def test_the_drill_command_wants_an_entry_and_a_command(capsys):
    """`kill-after` without a command says how it is used."""
    assert drill_main(["kill-after", "intent:switching"]) == 2
    assert "usage" in capsys.readouterr().err
