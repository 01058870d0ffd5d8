"""The real command line over a real host: processes, supervisor, Traefik, git, kills and interrupts."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
import time

import pytest

from sluice.engine import State

pytestmark = pytest.mark.drill
SENTINEL = "s3ntinel-" + "value-of-the-env-file"
WAIT_S = 30


def established(shop):
    """The commit that serves after a first good rollout."""
    code, out = shop.rollout("feature/good", "--owner", "ann")
    assert code == 0, out
    assert shop.served() == shop.git("rev-parse", "feature/good")
    return shop.served()


def wait_for(condition, what):
    """Look until it holds, at most WAIT_S."""
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, what
        threading.Event().wait(0.02)


def newest_entry(shop):
    """How many runs there were, and the last whole entry of the newest one."""
    journals = sorted(shop.paths.journal_dir.glob("*.jsonl"))
    entry = json.loads(journals[-1].read_bytes().rpartition(b"\n")[0].rpartition(b"\n")[2] or b"{}")
    return len(journals), entry.get("entry"), entry.get("state")


class Client(threading.Thread):
    """Somebody who asks all the time; what failed is kept."""

    def __init__(self, port):
        """Not started yet."""
        super().__init__(daemon=True)
        self.port, self.asked, self.failed, self.over = port, 0, [], threading.Event()

    def run(self):
        """One request after another over one connection, a hundredth of a second apart at the least."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        while not self.over.wait(0.01):
            self.asked += 1
            try:
                connection.request("GET", "/version")
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    self.failed.append(answer.status)
            except OSError as error:
                self.failed.append(repr(error))
                connection.close()
        connection.close()

    def stop(self):
        """End, and say what failed."""
        self.over.set()
        self.join(10)
        return self.failed


def test_rollout_and_rollback_fail_no_request_and_leave_a_whole_audit_trail(shop):
    """A client that asks all the time notices neither; the secret is in no output and no file of Sluice."""
    first = established(shop)
    second = shop.branch("feature/second")
    client = Client(shop.port)
    client.start()
    outputs = [shop.rollout("feature/second", "--json"), shop.sluice("rollback", "--env", "test")]
    assert client.stop() == []
    assert client.asked > len(outputs), "it must have asked during each"
    assert [code for code, _ in outputs] == [0, 0], outputs
    assert shop.served() == first
    events = [json.loads(line) for line in outputs[0][1].splitlines()]
    assert (events[-1]["event"], events[-1]["data"]["record"]["commit"]) == ("result", second)
    outputs += [shop.sluice(*words, "--env", "test") for words in (["log"], ["log", "verify"], ["status"], ["smoke"])]
    assert {code for code, _ in outputs} == {0}, outputs
    assert first[:12] in outputs[2][1]
    assert "anchored: all 3 records are on the origin" in outputs[3][1]
    assert not [out for _, out in outputs if SENTINEL in out]
    files = [path for path in shop.paths.root.rglob("*") if path.is_file() and "artifacts" not in path.parts]
    told = [path for path in files if SENTINEL.encode() in path.read_bytes()]
    # The service itself prints it: its own log is the operator's, and is redacted when Sluice shows it.
    assert {path.parent for path in told} <= {shop.paths.logs_dir}


def test_a_kill_at_any_of_seven_steps_is_recovered_by_the_next_command(shop):
    """SIGKILL of the real process, then `resume`: one good release serves and the ledger verifies."""
    serving = established(shop)
    entries = (
        "intent:building",
        "intent:starting",
        "observed:smoking_private",
        "intent:smoking_public",
        "intent:watching",
        "intent:retiring",
        "observed:recording",
    )
    for number, entry in enumerate(entries):
        mine = shop.branch(f"feature/kill-{number}")
        code, _ = shop.rollout(f"feature/kill-{number}", kill_after=entry)
        assert code == -signal.SIGKILL, entry
        code, out = shop.sluice("resume", "--env", "test")
        assert code == 0, (entry, out)
        serving = mine if entry.partition(":")[2] in {State.RETIRING, State.RECORDING} else serving
        assert shop.served() == serving, (entry, out)
        code, out = shop.sluice("log", "verify", "--env", "test")
        assert code == 0, out
        code, out = shop.sluice("status", "--env", "test", "--json")
        assert json.loads(out)["commit"] == serving
        assert json.loads(out)["unfinished"] == []


def test_a_bad_release_never_stays(shop):
    """One that dies, one that serves another commit, one that is only ill through the public URL: each is caught."""
    serving = established(shop)
    for mode, code, says in (("dies", 1, "died"), ("lies", 1, "serves instead"), ("unhealthy", 3, "http-health")):
        shop.branch(f"feature/{mode}", mode)
        assert_says(shop.rollout(f"feature/{mode}"), code, says, "goes on serving")
        assert shop.served() == serving
        if code == 3:  # users saw it, so the environment is locked until somebody has looked
            assert_says(shop.rollout("feature/good"), 6, "is locked since", "was rolled back", "sluice unlock")
            assert_says(shop.sluice("status", "--env", "test"), 0, "was rolled back")
            assert_says(shop.sluice("unlock", "--env", "test", "--reason", "looked"), 0, "looked", "unlocked")
        assert_says(shop.rollout(f"feature/{mode}"), 1, "failed in this environment before", "--override")
    assert_says(shop.sluice("unlock", "--env", "test", "--reason", "again"), 1, "not locked")
    assert_says(shop.sluice("lock", "--env", "test", "--reason", "holidays", "--owner", "bob"), 0, "holidays")
    refused = shop.rollout("feature/good")
    assert_says(refused, 6, "holidays", "bob")
    assert refused[1].count("is locked since") == 1, refused[1]
    code, out = shop.sluice("log", "--env", "test", "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert [r["bad_release"] for r in records if r["type"] == "rollout"] == [False, *[True, False] * 3]
    assert [r["type"] for r in records if r["type"] != "rollout"] == ["unlock", "lock"]
    assert_says(shop.sluice("log", "verify", "--env", "test"), 0, "the chain holds")
    assert_says(shop.sluice("promote", "--env", "prod"), 2, "no environment 'prod'")


def test_bad_input_gets_one_clear_message_and_touches_nothing(shop):
    """Each mistake has its exit code and names what to do; the old release goes on serving."""
    serving = established(shop)
    env_file, host = shop.folder / "test.env", shop.folder / "host.toml"
    good_host = host.read_text()
    shop.git("branch", "wip", "feature/good")
    assert_says(shop.rollout("feature/typo"), 2, "feature/typo", "goes on serving")
    assert_says(shop.rollout("wip"), 1, "branch-policy", "goes on serving")
    assert_says(shop.sluice("rollout", "--env", "stage", "--branch", "feature/good"), 2, "stage", "test")
    assert_says(shop.sluice("rollout", "--env", "test", "--service", "shoe", "--branch", "x"), 2, "shoe", "shop")
    assert_says(shop.sluice("rollout", "--branch", "x"), 2, "--env")
    env_file.chmod(0o644)
    assert_says(shop.rollout("feature/good"), 1, "0644", "chmod 600", "goes on serving")
    env_file.chmod(0o600)
    env_file.rename(shop.folder / "aside")
    assert_says(shop.rollout("feature/good"), 1, "does not exist", "goes on serving")
    (shop.folder / "aside").rename(env_file)
    host.write_text(good_host.replace("ports", "port"))
    assert_says(shop.rollout("feature/good"), 2, "$.service.shop.env.test.port", "ports")
    host.write_text(good_host + "[")
    assert_says(shop.rollout("feature/good"), 2, "not valid TOML")
    host.write_text(good_host.replace("/origin", "/nowhere"))
    assert_says(shop.rollout("feature/good"), 1, "nowhere", "goes on serving")
    host.write_text(good_host)
    assert shop.served() == serving
    code, out = shop.sluice("log", "verify", "--env", "test")
    assert code == 0, out


def assert_says(result, code, *words):
    """One message with these words in it, the code, and no traceback."""
    got, out = result
    assert got == code, out
    assert not [word for word in words if word not in out], out
    assert "Traceback" not in out
    assert SENTINEL not in out


def test_a_taken_public_port_is_refused_before_any_user_is_concerned(shop):
    """Somebody else on the public address: exit code 1, nothing runs, the port is named."""
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", shop.port))
        stranger.listen()
        code, out = shop.rollout("feature/good")
    assert code in {1, 7}, out
    assert str(shop.port) in out
    assert "taken" in out


def test_ctrl_c_undoes_and_a_second_run_is_refused_meanwhile(shop):
    """While one run watches, another is refused with who and what; Ctrl-C brings the old release back."""
    serving = established(shop)
    shop.branch("feature/second")
    (shop.folder / "origin" / "smoke.py").write_text("import signal\nsignal.pause()\n")
    shop.git("commit", "-qam", "slow")
    shop.branch("feature/slow")
    journals = shop.paths.journal_dir
    ended = set(journals.iterdir())  # the first rollout's journal speaks of a smoke too
    with shop.start("rollout", "--env", "test", "--branch", "feature/slow", "--owner", "bob") as running:
        wait_for(
            lambda: any(b"smoking_private" in path.read_bytes() for path in set(journals.iterdir()) - ended),
            "the smoke began",
        )
        assert_says(shop.rollout("feature/second"), 6, "bob", "rollout feature/slow", "since")
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=WAIT_S)
    assert running.returncode == 1, out + err
    assert "interrupted" in out
    assert shop.served() == serving
