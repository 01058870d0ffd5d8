"""`make demo`, `demo-broken`, `demo-promote`, `demo-stop`: the whole product on one machine, in one folder (.demo).

Everything lives under .demo: a bare origin made from this checkout, the environment file, host.toml, Sluice's state.
With RUNTIME=compose the same, in containers, beside it: .demo/compose, other ports, a service name of its own.
Each verb can be repeated, and follows a Ctrl-C or a kill of the one before: what it finds running it uses or ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import demo_engine
import demo_origin
import demo_promote

from sluice.hosts.system import process_start
from sluice.runtimes.supervisor import SupervisorClient

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".cache" / "env"
HOST = "127.0.0.1"
RESTORED = {3, 4}  # Sluice's exit codes when users had been on the new release: the environment is locked
START_DEADLINE_S = 20  # the SSO page: an interpreter start on a busy machine, several times over


@dataclass(frozen=True)
class Demo:
    """One demo: where it lives, and where it looks for ports."""

    runtime: str
    folder: Path
    service: str
    # Public address, SSO, and twenty ports for the slots; where somebody listens on the first two, the next is taken.
    bases: range

    @property
    def state(self) -> Path:
        """Sluice's state."""
        return self.folder / "state"

    def where(self, env: str = "test") -> tuple[str, ...]:
        """The options that name an environment of it."""
        return ("--env", env, "--service", self.service)


PROCESS = Demo("process", ROOT / ".demo", "boltorezka", range(18080, 18980, 100))
# Containers, networks and volumes are the whole machine's: their names must be this checkout's alone.
MARK = hashlib.sha256(str(ROOT).encode()).hexdigest()[:6]
COMPOSE = Demo("compose", PROCESS.folder / "compose", f"boltorezka-demo-{MARK}", range(19080, 19980, 100))
DEMOS = {demo.runtime: demo for demo in (PROCESS, COMPOSE)}


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


def settings(demo: Demo) -> dict[str, int]:
    """The demo's ports, chosen once and kept, so that a second run meets the first one's ingress."""
    path = demo.folder / "ports.json"
    if path.exists():
        kept: dict[str, int] = json.loads(path.read_text())
        return kept
    for base in demo.bases:
        if is_free(base) and is_free(base + 1):
            chosen = {"public": base, "sso": base + 1, "prod": base + 2, "first": base + 20, "last": base + 39}
            path.write_text(json.dumps(chosen))
            return chosen
    first, last = demo.bases.start, demo.bases.stop
    raise DemoError(f"no free pair of ports between {first} and {last}; stop what listens there")


def write_env_file(demo: Demo, env: str, ports: dict[str, int]) -> None:
    """The file of one environment; its secrets are its own, made once, and stay on this machine."""
    path = demo.folder / f"{env}.env"
    known = dict(line.split("=", 1) for line in path.read_text().splitlines()) if path.exists() else {}
    values = {
        "BOLTOREZKA_JWT_SECRET": secrets.token_urlsafe(48),
        "BOLTOREZKA_METRICS_TOKEN": secrets.token_urlsafe(24),
        **known,
        # A server that is told it is prod insists on https, for itself and for the SSO; here is none.
        "BOLTOREZKA_ENVIRONMENT": {"prod": "development"}.get(env, env),
        "BOLTOREZKA_DATABASE_URL": f"sqlite:///{demo.folder}/{env}.sqlite3",
        "BOLTOREZKA_PUBLIC_ORIGIN": address(ports, env),
        "BOLTOREZKA_AUTH_SSO_BASE_URL": f"http://{HOST}:{ports['sso']}",
    }
    if demo is COMPOSE:
        values |= demo_engine.base_images(ROOT / "deploy/Dockerfile", known) | {
            "BOLTOREZKA_DATABASE_URL": "sqlite:////var/lib/boltorezka/boltorezka.sqlite3",  # on the volume
            "DEMO_SSO_FOLDER": str(relay_socket(demo).parent),
            "DEMO_SSO_PORT": str(ports["sso"]),
        }
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in values.items())
    new.replace(path)


def address(ports: dict[str, int], env: str) -> str:
    """Where users of an environment go."""
    return f"http://{HOST}:{ports['prod' if env == 'prod' else 'public']}"


def write_host_file(demo: Demo, ports: dict[str, int]) -> None:
    """host.toml: `test` and `prod`, each with its own address, settings and slots."""
    slots = {"test": (ports["first"], ports["last"]), "prod": (ports["last"] + 1, ports["last"] + 20)}
    socket_line = f'[host]\ndocker = "{demo_engine.socket_path()}"\n\n' if demo is COMPOSE else ""
    (demo.folder / "host.toml").write_text(
        f'{socket_line}[service.{demo.service}]\nrepo = "{demo.folder}/origin.git"\npolicy_ref = "main"\n'
        f"demo = true\n"
        + "".join(
            f'\n[service.{demo.service}.env.{env}]\nruntime = "{demo.runtime}"\npublic_url = "{address(ports, env)}"\n'
            f'expect_sso_host = "{HOST}:{ports["sso"]}"\nenv_file = "{demo.folder}/{env}.env"\n'
            f"ports = [{low}, {high}]\n"
            for env, (low, high) in slots.items()
        ),
    )


def relay_socket(demo: Demo) -> Path:
    """The socket file through which containers reach the SSO; its folder is mounted."""
    return demo.folder / "sso" / "socket"


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


def running(demo: Demo, name: str) -> int | None:
    """The pid of a helper we started, if that very process still lives: a pid alone may be somebody else's by now."""
    try:
        note = json.loads((demo.folder / f"{name}.json").read_text())
    except (OSError, ValueError):
        return None
    return int(note["pid"]) if process_start(note["pid"]) == note["start"] else None


def keep_running(demo: Demo, name: str, command: list[str], ready: Callable[[], bool]) -> None:
    """A helper that stays alive after this command ends."""
    log_path = demo.folder / f"{name}.log"
    with log_path.open("ab") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    note = demo.folder / f"{name}.json.new"
    note.write_text(json.dumps({"pid": child.pid, "start": process_start(child.pid)}))
    note.replace(demo.folder / f"{name}.json")
    if not wait_for(ready, START_DEADLINE_S):
        raise DemoError(f"the demo's {name} did not start; its log is {log_path}")


def start_sso(demo: Demo, port: int) -> None:
    """The development SSO, in the server's own locked environment, and the way to it from containers."""
    if running(demo, "sso") is None:
        if not is_free(port):
            raise DemoError(f"port {port} of the development SSO is taken; stop who has it, or delete {demo.folder}")
        command = [str(TOOLS / "server/bin/boltorezka"), "dev-sso", "--host", HOST, "--port", str(port)]
        keep_running(demo, "sso", command, lambda: answers(f"http://{HOST}:{port}/auth/current-user"))
    if demo is COMPOSE and running(demo, "relay") is None:
        path = relay_socket(demo)
        path.parent.mkdir(exist_ok=True, mode=0o755)
        path.unlink(missing_ok=True)
        command = [sys.executable, str(ROOT / "scripts/demo_relay.py"), "outside", str(path), str(port)]
        keep_running(demo, "relay", command, path.is_socket)


def environment(demo: Demo) -> dict[str, str]:
    """What Sluice's commands are given."""
    return os.environ | {"SLUICE_STATE": str(demo.state), "SLUICE_HOST_CONFIG": str(demo.folder / "host.toml")}


def sluice(demo: Demo, *arguments: str) -> int:
    """Run Sluice in this terminal. Ctrl-C reaches it as it reaches us; it undoes its work and we wait for that."""
    print(f"\n$ sluice {shlex.join(arguments)}\n", flush=True)
    child = subprocess.Popen([str(TOOLS / "sluice/bin/sluice"), *arguments], env=environment(demo))
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return child.wait()
    finally:
        signal.signal(signal.SIGINT, previous)


def prepare(demo: Demo, *, merged: bool = False) -> dict[str, int]:
    """What both start and broken need: origin (`merged`: with what was merged there), configuration, SSO."""
    if demo is COMPOSE:
        demo_engine.require_engine()
    ports = settings(demo)
    for env in ("test", "prod"):
        write_env_file(demo, env, ports)
    write_host_file(demo, ports)
    service = demo.service if demo is COMPOSE else ""
    origin = demo.folder / "origin.git"
    demo_origin.refresh(ROOT, origin, service, demo_promote.signers(demo.folder), merged=merged)
    start_sso(demo, ports["sso"])
    return ports


def rollout(demo: Demo, branch: str) -> int:
    """One rollout to the demo's test environment."""
    return sluice(demo, "rollout", *demo.where(), "--branch", branch)


def asked(demo: Demo, *arguments: str) -> str:
    """What Sluice prints, unseen."""
    command = [str(TOOLS / "sluice/bin/sluice"), *arguments]
    done = subprocess.run(command, env=environment(demo), capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise DemoError(f"`sluice {arguments[0]}` ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def unlock(demo: Demo, reason: str, env: str = "test") -> None:
    """A release that was rolled back locks the environment until somebody has looked, so say that somebody did."""
    locked = json.loads(asked(demo, "status", *demo.where(env), "--json"))["locked"]
    if locked:
        print(f"\nThe environment is locked: {locked}")
        if sluice(demo, "unlock", *demo.where(env), "--reason", reason):
            raise DemoError("the environment could not be unlocked; the message above says why")


def served(ports: dict[str, int], env: str = "test") -> str:
    """What really serves now, from the public address; empty when nothing does."""
    try:
        with urllib.request.urlopen(f"{address(ports, env)}/version", timeout=5) as reply:  # noqa: S310 - loopback
            return str(json.load(reply)["sha"])
    except (OSError, ValueError):
        return ""


def start(demo: Demo) -> int:
    """`make demo`."""
    ports = prepare(demo)
    unlock(demo, "the demo begins again")
    code = rollout(demo, "feature/demo")
    if code == 0:
        print(f"\nTwo people can talk now: open this twice, once in a private window.\n\n  {address(ports, 'test')}/")
    return code


def broken(demo: Demo) -> int:
    """`make demo-broken`: succeeds when the bad release was caught and the good one goes on serving."""
    ports = prepare(demo, merged=True)
    before = served(ports)
    if not before:
        raise DemoError("nothing is running yet, so there is nothing to protect; run `make demo` first")
    demo_origin.add_broken(ROOT, demo.folder / "origin.git")
    unlock(demo, "to see the broken release caught once more")
    code = rollout(demo, "feature/demo-broken")
    after = served(ports)
    if code == 0 or after != before:
        print(f"\nThe broken release was NOT caught: exit {code}, {after[:12]} serves.", file=sys.stderr)
        return code or 1
    print(f"\nCaught (sluice exited with {code}). Still serving what served before, {after[:12]}:")
    print(f"\n  {address(ports, 'test')}/")
    if code in RESTORED:
        print(
            "\nNo rollout follows until somebody has looked and typed `sluice unlock`; `make demo` does that, visibly."
        )
    return 0


def promote(demo: Demo) -> int:
    """`make demo-promote`: of what `make demo` brought to test, and of nothing newer."""
    ports = settings(demo)
    if not served(ports):
        raise DemoError("nothing is running in test yet, so nothing is proven; run `make demo` first")
    branch = demo_origin.git(["rev-parse", "feature/demo"], cwd=demo.folder / "origin.git")
    if served(ports) != branch:
        raise DemoError("test serves something else than the demo's branch as it is now; run `make demo` first")
    unlock(demo, "the demo promotes once more", "prod")

    story = demo_promote.Story(
        folder=demo.folder.relative_to(ROOT),
        service=demo.service,
        show=lambda *words: sluice(demo, *words),
        ask=lambda *words: asked(demo, *words),
        git=lambda *words: demo_origin.git([*words], cwd=demo.folder / "origin.git"),
    )
    story.tell(lambda: served(ports, "prod"))
    print(f"\n  test  {address(ports, 'test')}/\n  prod  {address(ports, 'prod')}/")
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


def stop(demo: Demo) -> int:
    """`make demo-stop`: everything this folder started ends; what was built is kept for the next demo."""
    if demo is COMPOSE:
        demo_engine.remove(demo.service)
    else:
        SupervisorClient(demo.state / "supervisor").shutdown()
    for name in ("relay", "sso"):
        pid = running(demo, name)
        if pid is not None:
            end(pid, 5)
        (demo.folder / f"{name}.json").unlink(missing_ok=True)
    again = "make demo" if demo is PROCESS else "make demo RUNTIME=compose"
    print(f"the demo ({demo.runtime}) is stopped; `{again}` starts it again")
    return 0


def stop_all(demos: list[Demo]) -> int:
    """Those of these demos that were ever started."""
    begun = [demo for demo in demos if (demo.folder / "ports.json").exists()]
    if not begun:
        print("nothing to stop: there is no demo here")
    return max((locked(demo, stop) for demo in begun), default=0)


def locked(demo: Demo, verb: Callable[[Demo], int]) -> int:
    """Run a verb under the lock of its folder; the kernel frees it when we die."""
    for folder in (PROCESS.folder, demo.folder):
        folder.mkdir(exist_ok=True, mode=0o700)
    descriptor = os.open(demo.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return verb(demo)
    except BlockingIOError:
        raise DemoError("another demo command is running in this checkout; wait for it or press Ctrl-C there") from None
    finally:
        os.close(descriptor)


def main() -> int:
    """Run one verb; a DemoError becomes one sentence and exit 1. Without a runtime: `process`, and `stop` ends all."""
    verbs: dict[str, Callable[[Demo], int]] = {"start": start, "broken": broken, "promote": promote}
    verb, runtime = [*sys.argv[1:], "", ""][:2]
    if verb not in {*verbs, "stop"} or runtime not in {"", *DEMOS}:
        sys.exit(f"usage: demo.py {'|'.join((*verbs, 'stop'))} [{'|'.join(DEMOS)}] (make demo RUNTIME=...)")
    if shutil.which("git") is None:
        sys.exit("git is needed for the demo's origin repository; install it and try again")
    os.chdir(ROOT)  # paths are shown as they are typed in the checkout
    try:
        if verb == "stop":
            return stop_all([DEMOS[runtime]] if runtime else list(DEMOS.values()))
        return locked(DEMOS[runtime or "process"], verbs[verb])
    except (DemoError, demo_engine.NotThere, demo_promote.Unexpected) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: stopped by Ctrl-C; run the same command again, or `make demo-stop`", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
