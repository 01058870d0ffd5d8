"""`sluice check`: recorded on a laptop without host.toml, judged on the server; and waivers on the command line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from sluice.cli.main import main
from sluice.gates.run import GATES as GATE_NAMES

GATES = """
[gates]
checks = [["test", "-f", "marker"]]
never_waive = ["no-secrets", "docs-changed"]
freeze = [{{name = "for good", exempt = ["eve"]}}]
docs = [{{code = ["*.py"], docs = ["*.md"]}}]
[signers.ann]
keys = ["{key}"]
may = ["checks"]
"""


@pytest.fixture
def strict(shop):
    """The shop with a policy that asks for checks and is frozen; `feature/good` on top; Ann's key."""
    key = shop.folder / "ann"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    origin = shop.folder / "origin"
    spec = origin / "sluice.toml"
    spec.write_text(spec.read_text() + GATES.format(key=(shop.folder / "ann.pub").read_text().strip()))
    shop.git("commit", "-qam", "a stricter policy")
    policy = spec.read_text()
    shop.git("checkout", "-q", "-B", "feature/good")
    (origin / "marker").write_text("here")
    spec.write_text(policy)
    shop.git("add", "-A")
    shop.git("commit", "-qm", "work")
    shop.git("checkout", "-q", "main")
    return shop


def laptop(shop, *arguments):
    """The command in a clone, as somebody types it who has no host.toml: exit code and everything it printed."""
    clone = shop.folder / "clone"
    if not clone.exists():
        command = ["git", "clone", "-q", "-b", "feature/good", str(shop.folder / "origin"), str(clone)]
        subprocess.run(command, check=True)
    environment = {k: v for k, v in shop.environment().items() if not k.startswith("SLUICE_")}
    code = "import sys; from sluice.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "check", "--record", *arguments],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


def gates(shop, *options):
    """What `check` on the server says: exit code, and the findings by name."""
    code, text = shop.sluice("check", "--env", "test", "--branch", "feature/good", "--json", *options)
    found = [json.loads(line) for line in text.splitlines()]
    return code, {one["finding"]["name"]: one["finding"] for one in found if one["event"] == "finding"}


@pytest.mark.drill
def test_a_record_of_a_laptop_lets_the_server_pass(strict):
    """Without it the gate fails; recorded but not pushed it still does; pushed it passes, with the name."""
    assert gates(strict)[1]["checks-passed"]["verdict"] == "fail"
    code, text = laptop(strict, "--key", str(strict.folder / "ann"))
    assert code == 0, text
    assert "not pushed yet" in text
    assert "that 1 check ended well" in text
    assert "uncommitted changes" not in text
    assert gates(strict)[1]["checks-passed"]["verdict"] == "fail"
    (strict.folder / "clone" / "marker").write_text("not committed")
    code, text = laptop(strict, "--key", str(strict.folder / "ann"), "--push", "--json")
    assert code == 0, text
    assert text.count("uncommitted changes are no part of it: HEAD is checked as it was committed") == 1
    (told,) = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert (told["event"], told["principal"]) == ("recorded", "ann")
    found = gates(strict)[1]["checks-passed"]
    assert found["verdict"] == "pass"
    assert "ann (SHA256:" in found["detail"]


@pytest.mark.drill
def test_a_failing_check_or_a_foreign_key_records_nothing(strict):
    """Exit code 1, with what to do; the clone has no note."""
    stranger = strict.folder / "mallory"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(stranger)], check=True)
    code, text = laptop(strict, "--key", str(stranger))
    assert (code, "may sign checks (ann)" in text) == (1, True)
    code, text = laptop(strict, "--key", str(strict.folder / "ann"), "--ref", "origin/main")
    assert (code, "test -f marker ended with exit code 1" in text) == (1, True)
    code, text = laptop(strict, "--key", str(strict.folder / "none"))
    assert (code, "cannot be read" in text) == (1, True)
    command = ["git", "for-each-ref", "refs/notes"]
    refs = subprocess.run(command, cwd=strict.folder / "clone", capture_output=True, check=True)
    assert refs.stdout == b""


def absent(path):
    """No env file at all."""
    path.unlink()


@pytest.mark.drill
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (absent, "does not exist"),
        (lambda path: path.chmod(0o644), "has mode 0644"),
        (lambda path: path.write_text("nonsense\n"), "line 1 is not NAME=value"),
        (lambda path: (path.rename(path.with_name("x")), path.symlink_to("x")), "not a regular file"),
    ],
)
def test_a_faulty_env_file_is_told_by_its_gate_beside_all_others(strict, fault, said):
    """`check` shows every gate whatever is wrong with the env file; a rollout is refused with nothing touched."""
    fault(strict.folder / "test.env")
    code, found = gates(strict)
    assert (code, list(found)[: len(GATE_NAMES)]) == (1, list(GATE_NAMES))
    assert said in found["server-env"]["detail"]
    assert found["contains-main"]["verdict"] == "pass"
    code, text = strict.rollout("feature/good")
    assert code == 1
    assert said in text
    assert not strict.paths.ledger.exists() or '"outcome":"done"' not in strict.paths.ledger.read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        ["check"],
        ["check", "--env", "test"],
        ["check", "--record", "--env", "test"],
        ["check", "--record", "--waive", "freeze=x"],
        ["rollout", "--env", "test", "--branch", "b", "--waive", "freeze=a", "--waive", "freeze=b"],
        ["--host", "ssh://nobody@nowhere", "check", "--record"],
    ],
)
def test_command_lines_that_make_no_sense(capsys, arguments):
    """Exit code 2 and what is missing, before anything is read."""
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("Usage: ")


@pytest.mark.drill
@pytest.mark.parametrize(
    ("typed", "code"),
    [("nonsense=x", "WaiverUnknown"), ("freeze", "WaiverEmpty"), ("freeze= ", "WaiverEmpty")],
)
def test_a_waiver_that_says_nothing_is_refused_by_its_code_and_recorded(strict, typed, code):
    """By the gates alone and by a rollout, which leaves it in the ledger; it is no matter of the command line."""
    ended, text = strict.sluice("check", "--env", "test", "--branch", "feature/good", "--waive", typed)
    assert (ended, text.startswith(f"{code}: ")) == (1, True)
    assert strict.rollout("feature/good", "--waive", typed)[0] == 1
    (record,) = (json.loads(line) for line in strict.sluice("log", "--env", "test", "--json")[1].splitlines())
    assert (record["refusal"], record["waived"]) == (code, [])


@pytest.mark.drill
def test_a_waived_rollout_is_named_ever_after(strict):
    """What is waived is in the run's words, the log and status; what the policy forbids to waive is refused."""
    laptop(strict, "--key", str(strict.folder / "ann"), "--push")
    code, text = strict.rollout("feature/good")
    assert (code, "Frozen by 'for good'" in text) == (1, True)
    code, text = strict.rollout("feature/good", "--waive", "docs-changed=because")
    assert (code, "forbids to waive docs-changed" in text) == (1, True)
    code, text = strict.rollout("feature/good", "--owner", "bob", "--waive", "freeze=an outage")
    assert code == 0, text
    told = "freeze, by bob: an outage (it said fail)"
    assert told in text
    assert told in strict.sluice("status", "--env", "test")[1]
    assert told in strict.sluice("smoke", "--env", "test")[1]
    smoked = [json.loads(line) for line in strict.sluice("smoke", "--env", "test", "--json")[1].splitlines()]
    assert smoked[0] == {"event": "note", "text": f"Waived for what serves: {told}"}
    (line,) = (one for one in strict.sluice("log", "--env", "test")[1].splitlines() if " waiver " in one)
    assert " waived " in line
    assert line.count("freeze") == 1  # the reason names the gate already
    run = strict.paths.journal_dir
    newest = max(run.glob("*.jsonl")).stem
    assert told in strict.sluice("log", "--env", "test", "--run", newest)[1]
    code, found = gates(strict, "--waive", "freeze=to look", "--owner", "bob")
    assert code == 0
    assert found["freeze"]["verdict"] == "waived"
    assert (found["disk-space"]["verdict"], found["bad-release"]["verdict"]) == ("pass", "pass")
    code, text = strict.sluice("quick-check", "--env", "test", "--json")
    serving = [json.loads(line) for line in text.splitlines() if '"serving"' in line]
    assert f"Waived: {told}" in serving[0]["finding"]["detail"]
    forbidden = ("--branch", "feature/good", "--waive", "no-secrets=they are old")
    code, text = strict.sluice("check", "--env", "test", *forbidden)
    assert (code, "WaiverForbidden: The policy forbids to waive no-secrets" in text) == (1, True)
    # Eve is exempt; that somebody types her name proves nothing.
    assert gates(strict, "--owner", "eve")[1]["freeze"]["verdict"] == "fail"
