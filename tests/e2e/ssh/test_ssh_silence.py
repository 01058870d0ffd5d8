"""A line that dies without a word: packets are dropped, and neither end is told that the other is gone."""

from __future__ import annotations

import contextlib
import json
import re
import selectors
import socket
import threading
import time

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.alone]
# Gives up coming back after a second of tries.
HASTY = "import sluice.cli.remote_run as r; r.RETURN_S = 1.0; import sys; from sluice.cli import main; sys.exit(main())"
# OPTIONS of sluice.hosts.ssh: a question every 5 s, and the fourth silence is the end.
NOTICED_S = 20.0
BUSY_S = 10.0  # and what a machine with other work takes for it: a start, a second of tries, an end
ALIAS = """
Host faraway
  IdentityFile {folder}/ann
  Port {relay}
  HostKeyAlias [127.0.0.1]:{port}
"""


class Relay:
    """Passes bytes between the laptop's ssh and sshd until it falls silent: then it takes them and says nothing."""

    def __init__(self, port):
        """`port`: where sshd listens."""
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._looks = selectors.DefaultSelector()
        self._looks.register(self._listener, selectors.EVENT_READ)
        self._open = [self._listener]
        self._silent, self._over = threading.Event(), threading.Event()
        self.swallowed = 0  # bytes
        self._thread = threading.Thread(target=self._pass_on, name="relay")
        self._thread.start()

    def fall_silent(self):
        """From now on nothing arrives, and no connection ends."""
        self._silent.set()

    def close(self):
        """Let go of everything."""
        self._over.set()
        self._thread.join(10)
        for each in self._open:
            each.close()
        self._looks.close()

    def _pass_on(self):
        while not self._over.is_set():
            for key, _ in self._looks.select(0.05):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._take(key.fileobj, key.data)

    def _accept(self):
        near, _ = self._listener.accept()
        far = socket.create_connection(("127.0.0.1", self._port), 10)
        self._open += [near, far]
        self._looks.register(near, selectors.EVENT_READ, far)
        self._looks.register(far, selectors.EVENT_READ, near)

    def _take(self, source, target):
        data = b""
        with contextlib.suppress(OSError):
            data = source.recv(1 << 16)
        if not data:
            self._looks.unregister(source)
        if self._silent.is_set():
            self.swallowed += len(data)
            return
        with contextlib.suppress(OSError):
            target.sendall(data) if data else target.shutdown(socket.SHUT_WR)


@pytest.fixture
def relay(laptop, shop):
    """The way to the server `faraway`; a smoke of feature/x may wait at the gate for as long as a silence lasts."""
    shop.git("checkout", "-q", "feature/x")
    spec = shop.folder / "origin/sluice.toml"
    spec.write_text(spec.read_text().replace("\ntimeout_s = 10\n", "\ntimeout_s = 60\n"))
    shop.git("commit", "-q", "-a", "-m", "patience")
    shop.git("checkout", "-q", "main")
    made = Relay(laptop.port)
    config = laptop.folder / "ssh_config"
    alias = ALIAS.format(folder=laptop.folder, relay=made.port, port=laptop.port)
    config.write_text(alias + config.read_text())
    yield made
    made.close()


def test_a_line_that_falls_silent_is_noticed_and_does_not_stop_the_run(laptop, shop, relay):
    """Exit code 8 once ssh's questions stay unanswered; the run goes on there, `status` and `follow` show it."""
    laptop.close_gate()
    with laptop.start("rollout", "--env", "test", "--branch", "feature/x", host="faraway", code=HASTY) as client:
        run = laptop.at_gate()
        relay.fall_silent()
        began = time.monotonic()
        out = "".join(client.communicate(timeout=60))
        took = time.monotonic() - began
    print(f"  silence was noticed and told after {took:.1f} s")
    assert client.returncode == 8, out
    assert relay.swallowed > 0
    assert took <= NOTICED_S + BUSY_S
    assert "The run goes on there." in out
    next_ = re.search(rf"Next: sluice --host ssh://faraway (follow --env test --run {re.escape(run)})", out)
    assert next_, out
    code, out = laptop.sluice("status", "--env", "test", "--json")
    assert code == 0, out
    now = json.loads(out)
    assert any(one.startswith(f"{run}: ") for one in now["unfinished"]), now
    assert "ann@example.org" in now["lock"]
    with laptop.start(*next_.group(1).split()) as follower:
        laptop.open_gate()
        out = "".join(follower.communicate(timeout=60))
    assert follower.returncode == 0, out
    assert re.findall(r"^ok +([a-z ]+?) +\d+\.\d s", out, re.MULTILINE)[0] == "planning", out
    assert re.search(r"^ok +watching ", out, re.MULTILINE), out
    assert shop.served() == shop.git("rev-parse", "feature/x")
