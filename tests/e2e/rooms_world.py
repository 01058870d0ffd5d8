"""One machine with Boltorezka on it: an origin, an environment `test` of either runtime, a development SSO, `sluice`.

The demo's own parts, so that what is proven here is what people try.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import os
import re
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from images import Images
from workbench import ROOT, Engine, wait_until

from sluice.runtimes.supervisor import SupervisorClient

sys.path.insert(0, str(ROOT / "scripts"))

import demo_origin

BIN = Path(sys.executable).parent
POLICY = "deploy/sluice.toml"
WATCH_S = 15  # the load shares the cores: calls take longer, and a watch that saw too few ends inconclusive
COMMAND_S = 240  # a rollout whose image is built anew, on a busy machine
Change = dict[str, Callable[[str], str]]  # path -> what becomes of its text; a new file's is empty


@dataclass
class Ran:
    """A command that ended."""

    code: int
    text: str
    seconds: float


class RoomsWorld:
    """Makes the files and starts the SSO; `stop` ends and removes everything."""

    def __init__(self, folder: Path, runtime: str, ports: int, images: Images | None) -> None:
        """`ports`: the first of sixty that nobody else uses."""
        self.folder, self.runtime = folder, runtime
        # Names on the engine are the whole machine's.
        self.service = f"rooms-{secrets.token_hex(3)}" if runtime == "compose" else "boltorezka"
        self.url, self.sso = f"http://127.0.0.1:{ports}", f"http://127.0.0.1:{ports + 1}"
        self.origin, self.state = folder / "origin.git", folder / "state"
        self._helpers: list[subprocess.Popen[bytes]] = []
        demo_origin.refresh(ROOT, self.origin, self.service if runtime == "compose" else "")
        spec = self._text("refs/heads/main", POLICY)
        longer = re.sub(r"(?m)^duration_s = .*$", f"duration_s = {WATCH_S}", spec)
        main = demo_origin.with_file(self.origin, "refs/heads/main", POLICY, longer, "Watch longer")
        demo_origin.set_branch(self.origin, "main", main)
        self._write_env_file(ports, images)
        self._write_host_file(ports)
        self._start_sso(ports + 1)

    def _write_env_file(self, ports: int, images: Images | None) -> None:
        values = {
            "BOLTOREZKA_ENVIRONMENT": "test",
            "BOLTOREZKA_DATABASE_URL": f"sqlite:///{self.folder}/test.sqlite3",
            "BOLTOREZKA_PUBLIC_ORIGIN": self.url,
            "BOLTOREZKA_AUTH_SSO_BASE_URL": self.sso,
            "BOLTOREZKA_JWT_SECRET": secrets.token_urlsafe(48),
            "BOLTOREZKA_METRICS_TOKEN": secrets.token_urlsafe(24),
            # Two hundred people sign in from one address, and some of the steady requests are tried sign-ins.
            "BOLTOREZKA_LOGINS_PER_MINUTE": "100000",
        }
        if images is not None:
            values |= {
                "BOLTOREZKA_DATABASE_URL": "sqlite:////var/lib/boltorezka/boltorezka.sqlite3",
                "PYTHON_BASE": images.python,
                "NODE_BASE": images.node,
                "DEMO_SSO_PORT": str(ports + 1),
                "DEMO_SSO_FOLDER": str(self.folder / "sso"),
            }
        path = self.folder / "test.env"
        path.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
        path.chmod(0o600)

    def _write_host_file(self, ports: int) -> None:
        (self.folder / "host.toml").write_text(
            f'[service.{self.service}]\nrepo = "{self.origin}"\npolicy_ref = "main"\ndemo = true\n\n'
            f'[service.{self.service}.env.test]\nruntime = "{self.runtime}"\npublic_url = "{self.url}"\n'
            f'expect_sso_host = "{self.sso.removeprefix("http://")}"\nenv_file = "{self.folder}/test.env"\n'
            f"ports = [{ports + 20}, {ports + 39}]\n",
        )

    def _start_sso(self, port: int) -> None:
        self._keep(str(BIN / "boltorezka"), "dev-sso", "--host", "127.0.0.1", "--port", str(port))
        wait_until(lambda: _answers(f"{self.sso}/auth/current-user"), "the development SSO answers")
        if self.runtime == "compose":
            path = self.folder / "sso" / "socket"
            path.parent.mkdir(mode=0o755)
            self._keep(sys.executable, str(ROOT / "scripts/demo_relay.py"), "outside", str(path), str(port))
            wait_until(path.is_socket, "the relay listens")

    def _keep(self, *command: str) -> None:
        with (self.folder / "helpers.log").open("ab") as log:
            self._helpers.append(subprocess.Popen(command, stdout=log, stderr=log))

    def stop(self) -> None:
        """End everything this world started; nothing of it stays on the engine."""
        if self.runtime == "compose":
            engine = Engine()
            own = engine.docker("ps", "--all", "--quiet", "--filter", f"label=dev.sluice.service={self.service}")
            projects = {
                engine.inspect(one)["Config"]["Labels"].get("com.docker.compose.project") for one in own.split()
            }
            engine.remove(f"dev.sluice.service={self.service}")
            for project in projects - {None}:
                engine.remove(f"com.docker.compose.project={project}")
            built = f"label=dev.sluice.built-for={self.service}"
            tags = engine.docker("images", "--filter", built, "--format", "{{.Repository}}:{{.Tag}}").split()
            for tag in tags:
                engine.docker("image", "rm", tag)
        else:
            SupervisorClient(self.state / "supervisor").shutdown()
        for helper in self._helpers:
            helper.terminate()
            helper.wait(10)

    # ------------------------------------------------------------ branches

    def _text(self, ref: str, path: str) -> str:
        try:
            # git() strips, and every text file ends with a newline.
            return demo_origin.git(["show", f"{ref}:{path}"], cwd=self.origin) + "\n"
        except SystemExit:
            return ""

    def branch(self, name: str, changes: Change) -> str:
        """A branch one feature ahead of main; its commit. A change that changes nothing fails the test."""
        sha = "refs/heads/main"
        # The policy wants the documents changed with the code; what is told there is no part of a release.
        told: Change = {"docs/changed.md": lambda _: f"What {name} changes.\n"}
        for path, change in (changes | told).items():
            before = self._text(sha, path)
            after = change(before)
            assert after != before, f"{path} stays as it was"
            sha = demo_origin.with_file(self.origin, sha, path, after, f"Change {path}")
        demo_origin.set_branch(self.origin, name, sha)
        return sha

    # ------------------------------------------------------------ commands

    async def sluice(self, verb: str, *more: str) -> Ran:
        """A command about the environment, as somebody types it."""
        argv = [str(BIN / "sluice"), verb, "--env", "test", "--service", self.service, *more]
        around = os.environ | {"SLUICE_STATE": str(self.state), "SLUICE_HOST_CONFIG": str(self.folder / "host.toml")}
        pipe, begun = asyncio.subprocess.PIPE, time.monotonic()
        child = await asyncio.create_subprocess_exec(*argv, env=around, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
        try:
            out, _ = await asyncio.wait_for(child.communicate(), COMMAND_S)
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.wait()
        return Ran(child.returncode or 0, out.decode(errors="replace"), time.monotonic() - begun)

    async def rollout(self, branch: str) -> Ran:
        """Roll a branch out."""
        return await self.sluice("rollout", "--branch", branch)

    async def served(self) -> str:
        """The commit that answers at the public address."""
        return await asyncio.to_thread(_served, self.url)

    def journal(self) -> list[tuple[str, str, dt.datetime]]:
        """The newest run's entries: which, of which step, when."""
        newest = max((self.state / self.service / "envs/test/journal").glob("*.jsonl"))
        entries = [json.loads(line) for line in newest.read_text().splitlines()]
        return [(one["entry"], one["state"], dt.datetime.fromisoformat(one["at"])) for one in entries]

    def steps(self) -> dict[str, float]:
        """The newest run's steps, in order: seconds from intent to observation."""
        begun: dict[str, dt.datetime] = {}
        took: dict[str, float] = {}
        for entry, state, at in self.journal():
            if entry == "intent":
                begun[state] = at
            elif entry == "observed" and state in begun:  # a step that is skipped has no intent
                took[state] = (at - begun[state]).total_seconds()
        return took


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:  # noqa: S310 - loopback
            return bool(reply.status == 200)
    except OSError:
        return False


def _served(url: str) -> str:
    with urllib.request.urlopen(f"{url}/version", timeout=10) as reply:  # noqa: S310 - loopback
        answer: dict[str, Any] = json.load(reply)
        return str(answer["sha"])
