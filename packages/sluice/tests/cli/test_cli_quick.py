"""The quick check: everything at once, in time whatever hangs, and honest about what it could not see."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from sluice.checks.together import probe_of
from sluice.cli.main import main
from sluice.cli.quick import Group, exit_code_of, judge_runs, judge_serving, within
from sluice.model.errors import StepFailed
from sluice.model.release import Slot
from sluice.model.verdict import Finding, Verdict
from sluice.testing import SPEC, commit_of


async def test_a_probe_that_hangs_does_not_hold_the_check_beyond_its_deadline():
    """It is an error then; what answered in time stands beside it."""

    async def hang() -> Finding:
        await asyncio.Event().wait()
        return Finding("hang", Verdict.PASS)

    async def good() -> Finding:
        return Finding("good", Verdict.PASS)

    async def prepare():
        return [probe_of("hang", hang, 600), probe_of("good", good, 600)]

    began = time.monotonic()
    findings = await within(0.5, prepare, str)
    assert time.monotonic() - began < 60
    assert {f.name: f.verdict for f in findings} == {"hang": Verdict.ERROR, "good": Verdict.PASS}


@pytest.mark.parametrize("hanging", [True, False])
async def test_what_cannot_even_be_prepared_is_an_error(hanging):
    """A mirror that hangs or a state that cannot be read: one finding, in time."""

    async def prepare():
        if hanging:
            await asyncio.Event().wait()
        raise StepFailed("The state is gone.")

    began = time.monotonic()
    findings = await within(0.1, prepare, str)
    assert time.monotonic() - began < 60
    assert [(f.name, f.verdict) for f in findings] == [("environment", Verdict.ERROR)]
    assert ("had not answered" if hanging else "The state is gone.") in findings[0].detail


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (Verdict.FAIL, 1),
        (Verdict.ERROR, 1),
        (Verdict.INCONCLUSIVE, 0),
        (Verdict.SKIPPED, 0),
        (Verdict.PASS, 0),
    ],
)
def test_only_failures_and_broken_probes_are_an_exit_code(verdict, code):
    """What was skipped or could not be told is shown and no failure."""
    good = Finding("a", Verdict.PASS)
    assert exit_code_of([Group("x", "s", "test", [good]), Group("y", "", "", [Finding("b", verdict)])]) == code


def test_an_unfinished_run_fails_unless_somebody_is_at_it():
    """With the command that sets it right."""
    left = judge_runs(["run-1: rollout in switching"], None, "sluice resume --env test")
    assert (left.verdict, left.fix) == (Verdict.FAIL, "sluice resume --env test")
    busy = judge_runs(["run-1: rollout in switching"], "ann: rollout, since noon", "")
    assert (busy.verdict, "under way: ann" in busy.detail) == (Verdict.PASS, True)
    assert judge_runs([], None, "").verdict is Verdict.PASS


def test_what_serves_is_named_by_commit_and_tree():
    """Dead it fails; where nothing was rolled out nothing is asked."""
    from sluice.model.release import Artifact, Release

    commit = commit_of("feature/good")
    release = Release("r1", "shop", "test", commit, Artifact("k", "/a", commit.tree), SPEC, "f")
    slot = Slot("r1", "shop-test-1", 1, "http://127.0.0.1:1")
    alive = judge_serving((release, slot), alive=True, fix="")
    assert (alive.verdict, commit.sha in alive.detail, commit.tree in alive.detail) == (Verdict.PASS, True, True)
    dead = judge_serving((release, slot), alive=False, fix="sluice rollback --env test")
    assert (dead.verdict, dead.fix) == (Verdict.FAIL, "sluice rollback --env test")
    assert judge_serving(None, alive=False, fix="").verdict is Verdict.SKIPPED


@pytest.fixture
def host(monkeypatch, tmp_path):
    """A host with two environments, one of them not usable."""
    env = tmp_path / "test.env"
    env.write_text("A=b\n")
    env.chmod(0o600)
    base = f'repo = "{tmp_path}"\ndemo = true\n'
    environments = "".join(
        f'[service.shop.env.{name}]\npublic_url = "http://127.0.0.1:{port}"\nenv_file = "{env}"\n'
        f"ports = [{port + 1}, {port + 9}]\n"
        for name, port in (("test", 18100), ("prod", 18200))
    )
    (tmp_path / "host.toml").write_text(f"[host]\nmin_free_mb = 0\n[service.shop]\n{base}{environments}")
    monkeypatch.setenv("SLUICE_HOST_CONFIG", str(tmp_path / "host.toml"))
    monkeypatch.setenv("SLUICE_STATE", str(tmp_path / "state"))
    return tmp_path


def told(capsys) -> list[dict]:
    """The JSON objects on stdout."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.usefixtures("host")
def test_without_env_every_environment_and_the_server_itself_are_looked_at(capsys):
    """An environment where nothing was rolled out is no failure."""
    assert main(["quick-check", "--json"]) == 0
    objects = told(capsys)
    seen = {(one["environment"], one["finding"]["name"]) for one in objects if one["event"] == "finding"}
    state = {"serving", "runs", "ledger", "ingress"}
    assert seen == {(env, name) for env in ("test", "prod") for name in state} | {("", "disk"), ("", "clock")}
    assert (objects[-1]["event"], objects[-1]["ok"]) == ("quick-check", True)
    assert main(["quick-check", "--env", "test", "--service", "shop"]) == 0
    text = capsys.readouterr().out
    assert "shop in test" in text
    assert "shop in prod" not in text
    assert "nothing fails" in text


@pytest.mark.usefixtures("host")
def test_an_environment_that_is_not_there_is_a_usage_error(capsys):
    """Exit code 2, not an empty table."""
    assert main(["quick-check", "--service", "nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err


def test_a_damaged_ledger_fails_and_the_rest_is_told_all_the_same(host, capsys):
    """Exit code 1, with the damage named."""
    assert main(["quick-check", "--env", "test"]) == 0
    (host / "state" / "shop" / "envs" / "test" / "ledger.jsonl").write_text('{"n":1,"hash":"x"}\n')
    capsys.readouterr()
    assert main(["quick-check", "--env", "test", "--json"]) == 1
    verdicts = {one["finding"]["name"]: one["finding"]["verdict"] for one in told(capsys) if "finding" in one}
    assert verdicts["ledger"] == "fail"
    assert verdicts["runs"] == "pass"


@pytest.mark.drill
def test_a_server_that_serves_is_seen_whole(shop):
    """After a rollout every check of the runtime `process` answers; when the service dies, the check says so."""
    assert shop.rollout("feature/good")[0] == 0
    code, text = shop.sluice("quick-check", "--json")
    objects = [json.loads(line) for line in text.splitlines()]
    found = {one["finding"]["name"]: one["finding"] for one in objects if one["event"] == "finding"}
    verdicts = {name: finding["verdict"] for name, finding in found.items()}
    assert code == 0, verdicts
    for name in ("serving", "http-health", "served-release", "logs", "runs", "ledger", "disk"):
        assert verdicts[name] == "pass", found[name]
    for name in ("containers-up", "compose-complete", "websocket", "domain-dns", "domain-tls", "domain-redirect"):
        assert verdicts[name] == "skipped", found[name]
    assert shop.served() in found["serving"]["detail"]
    assert objects[-1]["ms"] < 3000
    assert shop.sluice("smoke", "--env", "test")[0] == 0
