"""`make demo`, `make demo-broken`, `make demo-stop`: the whole product on one machine, in one folder (.demo).

Everything lives under .demo: a bare origin made from this checkout, the environment file, host.toml, Sluice's state.
Each verb can be repeated, and follows a Ctrl-C or a kill of the one before: what it finds running it uses or ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import demo_origin

from sluice.hosts.system import process_start
from sluice.runtimes.supervisor import SupervisorClient

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / ".demo"
TOOLS = ROOT / ".cache" / "env"
STATE = DEMO / "state"
HOST = "127.0.0.1"
# Public address, SSO, and twenty ports for the slots; where somebody listens on the first two, the next base is taken.
BASES = range(18080, 18980, 100)
START_DEADLINE_S = 20  # the SSO page: an interpreter start on a busy machine, several times over


class DemoError(Exception):
    """The demo cannot go on; the sentence says why and what to do."""


def is_free(port: int) -> bool:
    """Whether nobody listens on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def settings() -> dict[str, int]:
    """The demo's ports, chosen once and kept, so that a second run meets the first one's ingress."""
    path = DEMO / "ports.json"
    if path.exists():
        kept: dict[str, int] = json.loads(path.read_text())
        return kept
    for base in BASES:
        if is_free(base) and is_free(base + 1):
            chosen = {"public": base, "sso": base + 1, "prod": base + 2, "first": base + 20, "last": base + 39}
            path.write_text(json.dumps(chosen))
            return chosen
    raise DemoError(f"no free pair of ports between {BASES.start} and {BASES.stop}; stop what listens there")


def write_configuration(ports: dict[str, int]) -> None:
    """host.toml and the environment file; the secrets are made once and stay on this machine."""
    public = f"http://{HOST}:{ports['public']}"
    env_file = DEMO / "test.env"
    if not env_file.exists():
        lines = {
            "BOLTOREZKA_ENVIRONMENT": "test",
            "BOLTOREZKA_DATABASE_URL": f"sqlite:///{DEMO}/test.sqlite3",
            "BOLTOREZKA_PUBLIC_ORIGIN": public,
            "BOLTOREZKA_AUTH_SSO_BASE_URL": f"http://{HOST}:{ports['sso']}",
            "BOLTOREZKA_JWT_SECRET": secrets.token_urlsafe(48),
            "BOLTOREZKA_METRICS_TOKEN": secrets.token_urlsafe(24),
        }
        descriptor = os.open(env_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.writelines(f"{name}={value}\n" for name, value in lines.items())
    (DEMO / "host.toml").write_text(
        f'[service.boltorezka]\nrepo = "{DEMO}/origin.git"\npolicy_ref = "main"\ndemo = true\n\n'
        f'[service.boltorezka.env.test]\nruntime = "process"\npublic_url = "{public}"\n'
        f'expect_sso_host = "{HOST}:{ports["sso"]}"\nenv_file = "{env_file}"\n'
        f"ports = [{ports['first']}, {ports['last']}]\n\n"
        # Nothing runs here: it is there to refuse what was not proven in test.
        f'[service.boltorezka.env.prod]\nruntime = "process"\npublic_url = "http://{HOST}:{ports["prod"]}"\n'
        f'env_file = "{DEMO}/prod.env"\nports = [{ports["last"] + 1}, {ports["last"] + 20}]\n',
    )


def answers(url: str) -> bool:
    """Whether the address answers a request now."""
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:  # noqa: S310 - our own loopback address
            return bool(reply.status == 200)
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], deadline_s: float) -> bool:
    """Poll a condition of another process, which cannot call us, until it holds or the deadline passes."""
    end = time.monotonic() + deadline_s
    tick = 0.05
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(tick)
    return True


def sso_process() -> int | None:
    """The pid of the SSO we started, if that very process still lives: a pid alone may be somebody else's by now."""
    try:
        note = json.loads((DEMO / "sso.json").read_text())
    except (OSError, ValueError):
        return None
    return int(note["pid"]) if process_start(note["pid"]) == note["start"] else None


def start_sso(port: int) -> None:
    """The development SSO, in the server's own locked environment; kept alive after this command ends."""
    if sso_process() is not None:
        return
    if not is_free(port):
        raise DemoError(f"port {port} of the development SSO is taken by another program; stop it, or delete {DEMO}")
    command = [str(TOOLS / "server/bin/boltorezka"), "dev-sso", "--host", HOST, "--port", str(port)]
    with (DEMO / "sso.log").open("ab") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    note = DEMO / "sso.json.new"
    note.write_text(json.dumps({"pid": child.pid, "start": process_start(child.pid)}))
    note.replace(DEMO / "sso.json")
    if not wait_for(lambda: answers(f"http://{HOST}:{port}/auth/current-user"), START_DEADLINE_S):
        raise DemoError(f"the development SSO did not start; its log is {DEMO / 'sso.log'}")


def sluice(*arguments: str) -> int:
    """Run Sluice in this terminal. Ctrl-C reaches it as it reaches us; it undoes its work and we wait for that."""
    environment = os.environ | {"SLUICE_STATE": str(STATE), "SLUICE_HOST_CONFIG": str(DEMO / "host.toml")}
    child = subprocess.Popen([str(TOOLS / "sluice/bin/sluice"), *arguments], env=environment)
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return child.wait()
    finally:
        signal.signal(signal.SIGINT, previous)


def prepare() -> dict[str, int]:
    """What both start and broken need: origin, configuration, SSO."""
    ports = settings()
    write_configuration(ports)
    demo_origin.refresh(ROOT, DEMO / "origin.git")
    start_sso(ports["sso"])
    return ports


def rollout(branch: str) -> int:
    """One rollout to the demo's test environment."""
    print(f"\n$ sluice rollout --env test --service boltorezka --branch {branch}\n", flush=True)
    return sluice("rollout", "--env", "test", "--service", "boltorezka", "--branch", branch)


def served(ports: dict[str, int]) -> str:
    """What really serves now, from the public address; empty when nothing does."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{ports['public']}/version", timeout=5) as reply:
            return str(json.load(reply)["sha"])
    except (OSError, ValueError):
        return ""


def start() -> int:
    """`make demo`."""
    ports = prepare()
    code = rollout("feature/demo")
    if code == 0:
        print(
            f"\nTwo people can talk now: open this twice, once in a private window.\n\n  http://{HOST}:{ports['public']}/"
        )
    return code


def broken() -> int:
    """`make demo-broken`: succeeds when the bad release was caught and the good one goes on serving."""
    ports = prepare()
    before = served(ports)
    if not before:
        raise DemoError("nothing is running yet, so there is nothing to protect; run `make demo` first")
    demo_origin.add_broken(ROOT, DEMO / "origin.git")
    code = rollout("feature/demo-broken")
    after = served(ports)
    if code == 0 or after != before:
        print(f"\nThe broken release was NOT caught: exit {code}, {after[:12]} serves.", file=sys.stderr)
        return code or 1
    print(f"\nCaught (sluice exited with {code}). Still serving what served before, {after[:12]}:")
    print(f"\n  http://{HOST}:{ports['public']}/")
    return 0


def end(pid: int, deadline_s: float) -> None:
    """SIGTERM, and SIGKILL after the deadline, to one process that we started."""
    begun = process_start(pid)
    for number in (signal.SIGTERM, signal.SIGKILL):
        if begun is None or process_start(pid) != begun:
            return
        os.kill(pid, number)
        if wait_for(lambda: process_start(pid) != begun, deadline_s):
            return


def stop() -> int:
    """`make demo-stop`: everything this folder started ends; what was built is kept for the next demo."""
    if not DEMO.exists():
        print("nothing to stop: there is no demo here")
        return 0
    client = SupervisorClient(STATE / "supervisor")
    client.shutdown()
    pid = sso_process()
    if pid is not None:
        end(pid, 5)
    (DEMO / "sso.json").unlink(missing_ok=True)
    print("the demo is stopped; `make demo` starts it again")
    return 0


def only_one() -> int:
    """A lock for the verbs of this folder; the kernel frees it when we die."""
    DEMO.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(DEMO / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DemoError("another demo command is running in this checkout; wait for it or press Ctrl-C there") from None
    return descriptor


def main() -> int:
    """Run one verb; a DemoError becomes one sentence and exit 1."""
    verbs = {"start": start, "broken": broken, "stop": stop}
    if sys.argv[1:] not in [[verb] for verb in verbs]:
        sys.exit(f"usage: demo.py {'|'.join(verbs)}")
    if shutil.which("git") is None:
        sys.exit("git is needed for the demo's origin repository; install it and try again")
    try:
        descriptor = only_one()
        try:
            return verbs[sys.argv[1]]()
        finally:
            os.close(descriptor)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: stopped by Ctrl-C; run the same command again, or `make demo-stop`", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
