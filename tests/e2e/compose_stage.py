"""One environment of a small Compose project, driven through its runtime; whatever it starts is removed with it."""

from __future__ import annotations

import copy
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import msgspec

from sluice.config import Environment, load_host, load_service, open_environment
from sluice.model.release import Release, Slot

# Files of tests run side by side: each process has a service of its own, and each file its ports.
SERVICE = f"rv{os.getpid()}"
WAIT = "import signal, sys, threading; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); threading.Event().wait()"
SERVE = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=8000)"
ENDED = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); " + SERVE
COMPOSE: dict[str, Any] = {
    "services": {
        "web": {"build": {"context": ".", "args": {"BASE": "${BASE}"}}, "command": ["python3", "-c", ENDED]},
        "worker": {"image": "${BASE}", "command": ["python3", "-c", WAIT]},
        "store": {"image": "${BASE}", "command": ["python3", "-c", WAIT], "volumes": ["data:/data"]},
    },
    "volumes": {"data": None},
}
TOML = f"""
name = "{SERVICE}"
[run]
ready_timeout_s = 20
stop_grace_s = 1
[compose]
files = ["compose.json"]
route = "web"
port = 8000
[compose.services.worker]
ready_after_s = 0.1
[compose.services.store]
ready_command = ["python3", "-c", "open('/data/seen', 'a')"]
"""


def command(*argv: str) -> str:
    """What somebody types by hand."""
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


class Stage:
    """An origin and one environment; everything it starts is removed with it."""

    def __init__(self, folder: Path, base: str, port: int) -> None:
        """`port`: the public one; the twenty after it are the slots'."""
        self.folder, self.origin = folder, folder / "origin"
        self.origin.mkdir()
        self._git("init", "--quiet")
        self.env_file = folder / "test.env"
        self.say(f"BASE={base}")
        (folder / "host.toml").write_text(
            f'[service.{SERVICE}]\nrepo = "{self.origin}"\n[service.{SERVICE}.env.test]\nruntime = "compose"\n'
            f'public_url = "http://127.0.0.1:{port}"\nenv_file = "{self.env_file}"\n'
            f"ports = [{port + 1}, {port + 20}]\n"
        )
        self.env = self.open("state")
        self.slots: list[tuple[Release, Slot]] = []
        self.number = 0

    def open(self, state: str) -> Environment:
        """The environment, with this folder for its state."""
        return open_environment(load_host(self.folder / "host.toml"), self.folder / state, SERVICE, "test")

    def say(self, *lines: str) -> None:
        """Add lines to the env file."""
        before = self.env_file.read_text() if self.env_file.exists() else ""
        self.env_file.write_text(before + "".join(f"{line}\n" for line in lines))
        self.env_file.chmod(0o600)

    def _git(self, *arguments: str) -> None:
        identity = ["-c", "user.name=T", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main"]
        command("git", "-C", str(self.origin), *identity, *arguments)

    async def release(self, compose: dict[str, Any] = COMPOSE, toml: str = TOML, dockerfile: str = "") -> Release:
        """Commit these files and build them."""
        files = {"compose.json": json.dumps(compose), "sluice.toml": toml}
        files["Dockerfile"] = f"ARG BASE\nFROM ${{BASE}}\n{dockerfile}COPY sluice.toml /said\n"
        for name, text in files.items():
            (self.origin / name).write_text(text)
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message", "work")
        await self.env.repo.fetch()
        commit = await self.env.repo.resolve("main")
        spec = load_service(toml.encode(), "sluice.toml")
        artifact = await self.env.runtime.build(commit, spec, lambda _text: None)
        self.number += 1
        return Release(f"r{self.number}", SERVICE, "test", commit, artifact, spec, "fingerprint")

    def slot(self, release: Release) -> Slot:
        """A free slot, known for the tidying up."""
        slot = self.env.runtime.choose_slot(release, [slot for _, slot in self.slots])
        self.slots.append((release, slot))
        return slot

    async def serve(self, release: Release) -> tuple[Release, Slot]:
        """Start and hand over; the release is verified afterwards."""
        slot = self.slot(release)
        await self.env.runtime.start(release, slot)
        await self.env.runtime.hand_over(release, slot, None)
        return msgspec.structs.replace(release, verified=True), slot

    async def containers(self, service: str = "") -> list[str]:
        """Ids of what there is of a service of the file, or of everything."""
        labels = {"dev.sluice.service": SERVICE} | ({"com.docker.compose.service": service} if service else {})
        return [one.id for one in await self.env.runtime._engine.containers(labels)]

    async def clean(self) -> None:
        """Remove every container, network, volume and image of this service."""
        engine = self.env.runtime._engine
        for container in await self.containers():
            await engine.remove_container(container, anonymous_volumes=True)
        networks = await engine.networks({"dev.sluice.service": SERVICE})
        for _, slot in self.slots:
            networks += await engine.networks({"com.docker.compose.project": slot.unit})
        for network in networks:
            await engine.remove_network(network.id)
        command("docker", "volume", "rm", "--force", f"{SERVICE}-test_data")
        for image in await engine.images({"dev.sluice.built-for": SERVICE}):
            for name in image.tags or (image.id,):
                await engine.remove_image(name)


def changed(**services: dict[str, Any]) -> dict[str, Any]:
    """The Compose file with these keys of these services."""
    document = copy.deepcopy(COMPOSE)
    for name, more in services.items():
        document["services"].setdefault(name, {}).update(more)
    return document
