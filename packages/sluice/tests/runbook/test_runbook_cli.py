"""`sluice runbook` by the command line: on a host with a mirror and a ledger, and in a clone without any."""

from __future__ import annotations

import json
import subprocess

import pytest

from sluice.cli import main
from sluice.hosts.state import StatePaths
from sluice.ledger import Ledger

from .conftest import ROOT, SEED
from .test_runbook_evidence import rollout

SECRET = "s3ntinel-" + "of-the-env-file"
POLICY = 'name = "shop"\n[run]\ncommand = ["true"]\n[checks]\nlog_lines = 77\n[watch]\nrequired_checks = ["login"]\n'


def git(folder, *words: str) -> None:
    """In that folder, as somebody."""
    identity = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True, timeout=30)


@pytest.fixture
def host(tmp_path, monkeypatch):
    """host.toml, a mirror with the policy on main, and one run in the ledger of test."""
    work = tmp_path / "work"
    work.mkdir()
    git(work, "init", "-q", "-b", "main")
    (work / "sluice.toml").write_text(POLICY)
    git(work, "add", ".")
    git(work, "commit", "-q", "-m", "first")
    (tmp_path / "env").write_text(f"SHOP_KEY={SECRET}\n")
    (tmp_path / "host.toml").write_text(
        f'[service.shop]\nrepo = "{work}"\n[service.shop.env.test]\npublic_url = "http://127.0.0.1:18100"\n'
        f'env_file = "{tmp_path / "env"}"\nports = [18101, 18109]\n'
    )
    monkeypatch.setenv("SLUICE_HOST_CONFIG", str(tmp_path / "host.toml"))
    monkeypatch.setenv("SLUICE_STATE", str(tmp_path / "state"))
    paths = StatePaths(tmp_path / "state", "shop", "test")
    paths.prepare()
    git(tmp_path, "clone", "-q", "--mirror", str(work), str(paths.repo))
    gates = [{"name": "branch-policy", "verdict": "pass", "ms": 1, "detail": f"said {SECRET}"}]
    Ledger(paths.ledger).append(rollout(service="shop", gates=gates))
    return tmp_path


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A laptop: no host.toml, no state."""
    monkeypatch.delenv("SLUICE_HOST_CONFIG", raising=False)
    monkeypatch.setenv("SLUICE_STATE", str(tmp_path / "none"))
    (tmp_path / "sluice.toml").write_text(POLICY)
    return tmp_path


def test_a_host_without_a_policy_yet(host, capsys) -> None:
    """Before the first fetch there is nothing to write from, and the message says what fetches."""
    subprocess.run(["rm", "-rf", str(StatePaths(host / "state", "shop", "test").repo)], check=True, timeout=30)
    assert main(["runbook"]) == 1
    assert "The mirror has no policy of shop at main yet." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--run", "r9"], "shop has no rollout, rollback or promotion 'r9'"),
        (["--run", "r9"], "--run with one of the newest: r1 (rollout in test, done)"),
        (["--run", "r1", "--service", "shpo"], "there is no service 'shpo'"),
        (["--run", "r1", "--env", "prod"], "has no environment 'prod'"),
        (["--env", "prod"], "has no environment 'prod'"),
        (["--lang", "de"], "'de' is not one of"),
        (["--policy", "/nowhere/sluice.toml"], "name it: sluice.toml or deploy/sluice.toml of a clone"),
        (["--output", "/nowhere/RUNBOOK.md"], "cannot be written"),
        (["lint", "/nowhere/RUNBOOK.md"], "cannot be read"),
    ],
)
def test_what_cannot_be_is_told(host, capsys, words: list[str], told: str) -> None:
    """One sentence, no traceback, and a code that is not 0."""
    assert main(["runbook", *words]) in (1, 2)
    assert told in capsys.readouterr().err


def test_on_a_host(host, capsys) -> None:
    """The policy is the mirror's, the address is the host's; English when asked for."""
    assert main(["runbook", "--lang", "en"]) == 0
    text = capsys.readouterr().out
    assert "# shop: deploy runbook" in text
    assert "`[checks] log_lines = 77`" in text
    assert "`docker compose ps` without degraded services (`compose-complete`) — not checked: runtime `process`" in text
    assert text.count("docker compose") == 1
    assert "http://127.0.0.1:18100/health" in text


def test_a_run_is_found_in_whichever_environment_it_is(host, capsys) -> None:
    """Its id is unique: no --env is needed, a wrong one is told, and an unknown run names the newest of both."""
    config = host / "host.toml"
    whole = config.read_text()
    prod = whole[whole.index("[service.shop.env.test]") :].replace("env.test]", "env.prod]").replace(":181", ":182")
    prod = prod.replace("[181", "[182").replace(", 181", ", 182").replace('/env"', '/env.prod"')
    (host / "env.prod").write_text("SHOP_KEY=another\n")
    config.write_text(whole.replace("[service.shop]\n", "[service.shop]\ndemo = true\n") + prod)
    paths = StatePaths(host / "state", "shop", "prod")
    paths.prepare()
    later = {"ended": "2026-01-02T10:01:00Z", "gates": []}
    Ledger(paths.ledger).append(rollout(service="shop", type="promotion", run="p1", environment="prod", **later))
    assert main(["runbook", "--run", "p1"]) == 0
    text = capsys.readouterr().out
    assert "promotion в `prod`" in text
    assert "sluice smoke --env prod" in text
    assert main(["runbook", "--run", "r1"]) == 0
    assert "rollout в `test`" in capsys.readouterr().out
    assert main(["runbook", "--run", "p1", "--env", "test"]) == 2
    assert "run p1 is of prod, not of test." in capsys.readouterr().err
    assert main(["runbook", "--run", "r9"]) == 2
    assert "p1 (promotion in prod, done), r1 (rollout in test, done)" in " ".join(capsys.readouterr().err.split())


def test_a_run_where_none_was_yet(host, capsys) -> None:
    """An empty ledger names no runs, and says how the first comes about."""
    StatePaths(host / "state", "shop", "test").ledger.unlink()
    assert main(["runbook", "--run", "r1"]) == 2
    assert "there is none yet: sluice rollout" in capsys.readouterr().err


def test_with_a_run_no_secret_is_shown(host, capsys) -> None:
    """Filled in by the ledger, redacted by the env file as it is now."""
    assert main(["runbook", "--run", "r1"]) == 0
    text = capsys.readouterr().out
    assert "Заполнен по прогону `r1`" in text
    assert "- [x] Изменения находятся в feature-ветке" in text
    assert SECRET not in text


def test_in_a_clone_alone(nowhere, capsys) -> None:
    """--policy needs no host; --run does."""
    policy = ["--policy", str(nowhere / "sluice.toml")]
    output = nowhere / "RUNBOOK.md"
    assert main(["runbook", *policy, "--output", str(output)]) == 0
    assert "docker compose logs --tail=77 <service>" in output.read_text()
    assert main(["runbook", "lint", str(output), *policy]) == 0
    assert "agrees with the policy" in capsys.readouterr().out
    assert main(["runbook", *policy, "--run", "r1"]) == 2
    assert main(["runbook", *policy, "--env", "staging"]) == 2


def test_the_checklist(nowhere, capsys) -> None:
    """Its own document, Russian unless asked otherwise."""
    assert main(["runbook", "--policy", str(nowhere / "sluice.toml"), "--checklist"]) == 0
    assert "# shop: pre-prod checklist" in capsys.readouterr().out


def test_lint_for_people_and_programs(nowhere, capsys) -> None:
    """file:line: code: sentence, and a fix; with --json an object each, and a summary; exit code 1."""
    file = nowhere / "SEED.md"
    file.write_text(SEED)
    policy = ["--policy", str(ROOT / "deploy" / "sluice.toml")]
    assert main(["runbook", "lint", str(file), *policy]) == 1
    told = capsys.readouterr().out
    assert f"{file}:90: missing-file: There is no file PREPROD_CHECKLIST.md." in told
    assert "-> sluice runbook --checklist --output PREPROD_CHECKLIST.md" in told
    assert main(["runbook", "lint", str(file), *policy, "--lang", "ru"]) == 1
    told = capsys.readouterr().out
    assert f"{file}:90: missing-file: Нет файла PREPROD_CHECKLIST.md." in told
    assert "расхождений с политикой: " in told.splitlines()[-1]
    assert main(["runbook", "lint", str(file), *policy, "--json"]) == 1
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert objects[-1]["event"] == "lint"
    assert objects[-1]["ok"] is False
    assert len(objects) == objects[-1]["findings"] + objects[-1]["info"] + 1
    assert {"line", "code", "sentence", "fix", "level", "file"} == set(objects[0]["finding"])


def test_files_beside_the_prose_are_looked_for(nowhere, capsys) -> None:
    """Links are relative to the file, and npm's scripts those of the nearest package.json."""
    (nowhere / "docs").mkdir()
    (nowhere / "package.json").write_text('{"scripts": {"smoke:sso": "true"}}')
    (nowhere / "docs" / "there.md").write_text("")
    file = nowhere / "docs" / "R.md"
    file.write_text("# R\n\n[a](there.md) [b](gone.md) `npm run smoke:sso` `npm run smoke:none`\n")
    assert main(["runbook", "lint", str(file), "--policy", str(nowhere / "sluice.toml"), "--json"]) == 1
    found = [json.loads(line)["finding"] for line in capsys.readouterr().out.splitlines()[:-1]]
    said = [one["sentence"] for one in found if one["line"] == 3]
    assert said == ["There is no file gone.md.", "package.json has no script 'smoke:none'."]


def test_a_file_that_is_no_runbook(nowhere, capsys) -> None:
    """Bytes that are no text, and more of them than a runbook has, are refused."""
    (nowhere / "binary.md").write_bytes(b"\xff\xfe\x00")
    (nowhere / "huge.md").write_text("x" * 300_000)
    for name in ("binary.md", "huge.md"):
        assert main(["runbook", "lint", str(nowhere / name), "--policy", str(nowhere / "sluice.toml")]) == 2
    assert "not UTF-8" in capsys.readouterr().err
