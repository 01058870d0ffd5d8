"""Bad input: one clear message, the right exit code, and the old release goes on serving."""

from __future__ import annotations

import contextlib
import socket

import pytest

pytestmark = pytest.mark.drill


def broken_spec(world, old: str, new: str) -> str:
    """The service's sluice.toml with one thing changed; the thing must be there."""
    assert old in world.spec
    return world.spec.replace(old, new)


def refused(world, done, code: int, *words: str) -> None:
    """The command ended with this code, said these words and no traceback, and the world is as it was."""
    text = done.stdout + done.stderr
    assert done.returncode == code, text
    assert "Traceback" not in text
    for word in words:
        assert word in text, (word, text)
    assert world.version()["sha"] == world.before
    assert len(world.slots_alive()) == 1, world.slots_alive()


@pytest.fixture
def world(served_world):
    """The shared world, which must serve after each test what it served before."""
    served_world.before = served_world.version()["sha"]
    yield served_world
    served_world.write_host()
    served_world.write_env_file()
    assert served_world.version()["sha"] == served_world.before


def test_unknown_service(world):
    """An unknown service is a usage error that names the known ones."""
    done = world.run("rollout", "--env", "test", "--service", "balalaika", "--branch", "feature/good")
    refused(world, done, 2, "balalaika", "boltorezka")


def test_unknown_environment(world):
    """An unknown environment is a usage error that names the known ones."""
    done = world.run("rollout", "--env", "staging", "--service", "boltorezka", "--branch", "feature/good")
    refused(world, done, 2, "staging", "test")


def test_unknown_branch(world):
    """A branch that does not exist is a usage error that names it."""
    refused(world, world.rollout("feature/nowhere"), 2, "feature/nowhere")


def test_branch_outside_the_policy(world):
    """A branch whose name the policy does not allow is refused by a gate."""
    world.branch("hotfix/quick", "changes/quick.md", "Quick.\n")
    refused(world, world.rollout("hotfix/quick"), 1, "branch-policy", "hotfix/quick")


def test_prod_refuses_a_feature_branch(world):
    """Production exists in the model and never takes a feature branch."""
    done = world.run("rollout", "--env", "prod", "--service", "boltorezka", "--branch", "feature/good")
    refused(world, done, 1, "prod", "promote")


def test_missing_repository(world):
    """A repository that is not there is refused with its address."""
    world.write_host(repo=str(world.folder / "nowhere.git"))
    refused(world, world.rollout("feature/good"), 1, "nowhere.git")


def test_broken_host_toml(world):
    """host.toml with a syntax error is a configuration error with its line."""
    with (world.folder / "host.toml").open("a") as file:
        file.write("this is not toml\n[more]\n")
    refused(world, world.rollout("feature/good"), 2, "host.toml", "line")


def test_unknown_key_in_host_toml(world):
    """An unknown key in host.toml is a configuration error with its path."""
    with (world.folder / "host.toml").open("a") as file:
        file.write('colour = "red"\n')
    refused(world, world.rollout("feature/good"), 2, "host.toml", "colour")


def test_broken_sluice_toml(world):
    """A candidate's sluice.toml with an unknown key is a configuration error with its path."""
    world.branch("feature/typo", "deploy/sluice.toml", broken_spec(world, "drain_notify", "drain_notfiy"))
    refused(world, world.rollout("feature/typo"), 2, "sluice.toml", "drain_notfiy")


def test_env_file_missing(world):
    """A missing env file is refused by its gate with the path."""
    world.env_file.unlink()
    refused(world, world.rollout("feature/good"), 1, "test.env")


def test_env_file_readable_by_others(world):
    """An env file others can read is refused with the command that mends it."""
    world.env_file.chmod(0o644)
    refused(world, world.rollout("feature/good"), 1, "test.env", "chmod 600")


def test_secret_in_the_diff(world):
    """A secret in the diff is refused with file and rule, and the value is not shown."""
    body = "".join(["MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj", "MzEfYyjiWA4R4"] * 8)
    dashes = "-" * 5
    key = f"{dashes}BEGIN PRIVATE KEY{dashes}\n{body}\n{dashes}END PRIVATE KEY{dashes}\n"
    world.branch("feature/leak", "deploy/server.key", key)
    done = world.rollout("feature/leak")
    refused(world, done, 1, "no-secrets", "deploy/server.key")
    assert "MIIEvQIBADANBg" not in done.stdout + done.stderr


def test_ports_taken(world):
    """When every port of the range is taken, the refusal names the range."""
    with contextlib.ExitStack() as taken:
        port = next(port for port in range(18600, 18700, 2) if both_taken(taken, port))
        world.write_host(ports=(port, port + 1))
        refused(world, world.rollout("feature/good"), 1, str(port))


def both_taken(stack: contextlib.ExitStack, first: int) -> bool:
    """Listen on a port and the one after it, until the stack closes; False when somebody has one of them."""
    for port in (first, first + 1):
        listener = stack.enter_context(socket.socket())
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        listener.listen()
    return True


def test_disk_that_takes_no_more_of_the_journal(world):
    """When the journal can no longer be written, the run is undone, and the message says what could not be written."""
    world.branch("feature/full", "changes/full.md", "Full.\n")
    built = world.rollout("feature/full")  # so that the build of the next run writes nothing
    assert built.returncode == 0, built.stdout + built.stderr
    world.before = world.version()["sha"]
    done = world.run("rollout", "--env", "test", "--branch", "feature/full", largest_file=9000)
    text = done.stdout + done.stderr
    assert done.returncode in (1, 3, 5), text
    assert "Traceback" not in text
    assert "journal" in text
    healed = world.run("resume", "--env", "test")
    assert healed.returncode == 0, healed.stdout + healed.stderr
    refused(world, done, done.returncode)
    assert world.run("log", "verify", "--env", "test").returncode == 0


def test_server_that_never_becomes_ready(world):
    """A slot that starts and never answers is stopped after its deadline; users never saw it."""
    spec = broken_spec(
        world,
        '"{python.server}/boltorezka", "serve", "--host", "{host}", "--port", "{port}"',
        '"{python.server}/python", "-c", "import threading; threading.Event().wait(600)"',
    )
    world.branch("feature/silent", "deploy/sluice.toml", spec.replace("ready_timeout_s = 30", "ready_timeout_s = 2"))
    refused(world, world.rollout("feature/silent"), 1, "ready")


def test_server_that_dies_at_start(world):
    """A slot that exits at once is reported with its last words, without waiting for the deadline."""
    spec = broken_spec(world, '"serve", "--host"', '"serve", "--no-such-option", "--host"')
    world.branch("feature/dies", "deploy/sluice.toml", spec)
    refused(world, world.rollout("feature/dies"), 1, "no-such-option")


def test_server_that_serves_another_commit(world):
    """A server that answers 200 but serves another commit never reaches users."""
    spec = broken_spec(world, 'BOLTOREZKA_RELEASE_SHA = "{sha}"', f'BOLTOREZKA_RELEASE_SHA = "{"0" * 40}"')
    world.branch("feature/liar", "deploy/sluice.toml", spec)
    refused(world, world.rollout("feature/liar"), 1, "served-release", "000000")


def test_wrong_sso_host(world):
    """A server that sends people to another SSO than the operator expects is refused."""
    world.write_host(expect_sso_host="sso.elsewhere.example")
    refused(world, world.rollout("feature/good"), 1, "sso-redirect")


def test_missing_variable(world):
    """A variable the service requires and the env file lacks is named."""
    text = "".join(line for line in world.env_file.read_text().splitlines(keepends=True) if "METRICS_TOKEN" not in line)
    world.env_file.write_text(text)
    refused(world, world.rollout("feature/good"), 1, "server-env", "BOLTOREZKA_METRICS_TOKEN")
