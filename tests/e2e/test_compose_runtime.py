"""The compose runtime on a real engine: what a Compose file becomes, what stays when slots go, what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from workbench import wait_until

from sluice.config import Environment, load_host, load_service, open_environment
from sluice.model.errors import ConfigError, Refused, StepFailed
from sluice.model.release import Release, Slot

pytestmark = pytest.mark.e2e

# Files of tests run side by side, and another one has such a stage: of the same ports, names or layers of an image, one
# would take away what the other one builds upon.
SERVICE = f"crt{os.getpid()}"
PORT = 18300
SERVER = """
import http.server, os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        found = {name: socket.gethostbyname_ex(name)[2] for name in ("store", "side")}
        body = repr({"me": socket.gethostname(), "words": os.environ.get("WORDS"), **found}).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
print("serving", flush=True)
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
"""
WAIT = "import signal, sys, threading; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); threading.Event().wait()"
COMPOSE = {
    "services": {
        "web": {
            "build": {"context": ".", "args": {"BASE": "${BASE}"}},
            "container_name": f"{SERVICE}-fixed",
            "ports": ["8000:8000"],
            "environment": {"WORDS": "${WORDS}"},
            "depends_on": {"store": {"condition": "service_started"}, "side": {"condition": "service_started"}},
        },
        "side": {"image": "${BASE}", "command": ["python3", "-c", WAIT]},
        "worker": {"image": "${BASE}", "command": ["python3", "-c", WAIT]},
        "store": {"image": "${BASE}", "command": ["python3", "-c", WAIT], "volumes": ["data:/data"]},
    },
    "volumes": {"data": None},
}
TOML = """
name = "SERVICE"
[run]
ready_timeout_s = 20
stop_grace_s = 2
[compose]
files = ["compose.json"]
route = "web"
port = 8000
[compose.environment]
RELEASE = "{sha} {ingress}"
[compose.services.side]
mode = "slotted"
ready_after_s = 0.2
[compose.services.worker]
ready_after_s = 0.2
[compose.services.store]
ready_command = ["python3", "-c", "open('/data/seen', 'a')"]
""".replace("SERVICE", SERVICE)


def git(folder: Path, *arguments: str) -> str:
    """Run git in the origin."""
    identity = ["-c", "user.name=T", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def docker(*arguments: str) -> None:
    """What somebody types by hand."""
    subprocess.run(["docker", *arguments], check=True, capture_output=True)


class Stage:
    """An origin and one environment; everything it starts is removed with it."""

    def __init__(self, folder: Path, base: str, port: int = PORT) -> None:
        """`port`: the public one; the twenty after it are the slots'."""
        self.folder, self.origin = folder, folder / "origin"
        self.origin.mkdir()
        git(self.origin, "init", "--quiet")
        self.env_file = folder / "test.env"
        self.env_file.write_text(f"BASE={base}\nWORDS=sentinel $x 'y\"\n")
        self.env_file.chmod(0o600)
        (folder / "host.toml").write_text(
            f'[service.{SERVICE}]\nrepo = "{self.origin}"\n[service.{SERVICE}.env.test]\nruntime = "compose"\n'
            f'public_url = "http://127.0.0.1:{port}"\nenv_file = "{self.env_file}"\nports = [{port + 1}, {port + 20}]\n'
        )
        self.env: Environment = open_environment(load_host(folder / "host.toml"), folder / "state", SERVICE, "test")
        self.slots: list[tuple[Release, Slot]] = []
        self.number = 0

    async def release(self, compose: dict | None = None, toml: str = TOML, server: str = SERVER) -> Release:
        """Commit these files and build them."""
        files = {
            "compose.json": json.dumps(compose or COMPOSE),
            "sluice.toml": toml,
            "server.py": f"# {SERVICE}\n{server}",
        }
        files["Dockerfile"] = 'ARG BASE\nFROM ${BASE}\nCOPY server.py /server.py\nCMD ["python3", "/server.py"]\n'
        for name, text in files.items():
            (self.origin / name).write_text(text)
        git(self.origin, "add", "--all")
        git(self.origin, "commit", "--quiet", "--allow-empty", "--message", "work")
        await self.env.repo.fetch()
        commit = await self.env.repo.resolve("main")
        spec = load_service(toml.encode(), "sluice.toml")
        artifact = await self.env.runtime.build(commit, spec, lambda _text: None)
        self.number += 1
        return Release(f"r{self.number}", SERVICE, "test", commit, artifact, spec, "fingerprint")

    async def start(self, release: Release) -> Slot:
        """Choose a slot and start it."""
        slot = self.env.runtime.choose_slot(release, [slot for _, slot in self.slots])
        self.slots.append((release, slot))
        await self.env.runtime.start(release, slot)
        return slot

    async def clean(self) -> None:
        """Remove every container, network, volume and image of this service."""
        engine = self.env.runtime._engine
        for found in await engine.containers({"dev.sluice.service": SERVICE}):
            await engine.remove_container(found.id, anonymous_volumes=True)
        for network in await engine.networks({"dev.sluice.service": SERVICE}):
            await engine.remove_network(network.id)
        for project in {slot.unit for _, slot in self.slots}:
            for network in await engine.networks({"com.docker.compose.project": project}):
                await engine.remove_network(network.id)
        docker("volume", "rm", "--force", f"{SERVICE}-test_data")
        for image in await engine.images({"dev.sluice.built-for": SERVICE}):
            for name in image.tags or (image.id,):
                await engine.remove_image(name)


@pytest.fixture
async def stage(tmp_path, images) -> AsyncIterator[Stage]:
    """A fresh environment."""
    made = Stage(tmp_path, images.python)
    yield made
    await made.clean()


def ask(slot: Slot) -> dict:
    """What the routed service of a slot says of its surroundings, once it listens."""
    answer: list[str] = []

    def listens() -> bool:
        try:
            with urllib.request.urlopen(slot.url, timeout=5) as reply:  # noqa: S310 - our own loopback address
                answer.append(reply.read().decode())
        except OSError:
            return False
        return True

    wait_until(listens, f"{slot.url} answers", 20)
    return eval(answer[0])  # noqa: S307 - a literal of our own server


async def names(stage: Stage, slot: Slot) -> set[str]:
    """service@project of what runs."""
    release = next(release for release, known in stage.slots if known == slot)
    containers = await stage.env.runtime.containers(release, slot)
    return {f"{one.service}@{one.project}" for one in containers.found if one.state == "running"}


async def test_two_slots_share_the_store_and_never_each_others_services(stage):
    """Each slot finds its own `side` and the one store; a secret arrives exactly; nothing kept on disk holds it."""
    first = await stage.release()
    one = await stage.start(first)
    two = await stage.start(await stage.release(server=SERVER + "# changed\n"))
    here, there = ask(one), ask(two)
    assert here["me"] != there["me"]
    assert here["store"] == there["store"]
    assert len(here["side"]) == len(there["side"]) == 1
    assert here["side"] != there["side"]
    assert here["words"] == "sentinel $x 'y\""
    assert not any(b"sentinel" in path.read_bytes() for path in (stage.folder / "state").rglob("*") if path.is_file())
    assert await stage.env.runtime.alive(one)
    assert await stage.env.runtime.alive(two)
    assert {f"{name}@{one.unit}" for name in ("web", "side")} <= await names(stage, one)
    assert not any(name.startswith("worker") for name in await names(stage, one))


async def test_a_worker_runs_once_wherever_it_is_handed_to(stage):
    """hand_over ends it in the other slot before it starts here, and back again; stopping a slot leaves the store."""
    one, two = [await stage.start(await stage.release(server=f"{SERVER}#{n}\n")) for n in range(2)]
    (first, _), (second, _) = stage.slots
    await stage.env.runtime.hand_over(first, one, None)
    assert f"worker@{one.unit}" in await names(stage, one)
    await stage.env.runtime.hand_over(second, two, one)
    assert f"worker@{two.unit}" in await names(stage, two)
    assert f"worker@{one.unit}" not in await names(stage, one)
    await stage.env.runtime.hand_over(first, one, two)
    await stage.env.runtime.stop(second, two)
    left = await names(stage, one)
    assert left == {f"{name}@{one.unit}" for name in ("web", "side", "worker")} | {f"store@{SERVICE}-test-shared"}
    assert not await stage.env.runtime.alive(two)
    containers = await stage.env.runtime.containers(first, one)
    assert {expected.service for expected in containers.expected} == {"web", "side", "worker", "store"}
    await stage.env.runtime.stop(first, one)
    await stage.env.runtime.stop(first, one)
    assert await names(stage, one) == {f"store@{SERVICE}-test-shared"}


async def test_starting_again_adopts_what_a_kill_left(stage):
    """A slot that was created but not connected or started is finished by the same call; running, it stays as it is."""
    release = await stage.release()
    slot = await stage.start(release)
    before = ask(slot)["me"]
    await stage.env.runtime.start(release, slot)
    assert ask(slot)["me"] == before
    engine = stage.env.runtime._engine
    for found in await engine.containers({"com.docker.compose.project": slot.unit}):
        await engine.disconnect(f"sluice-{SERVICE}-test", found.id)
        await engine.stop(found.id, 1)
    await stage.env.runtime.start(release, slot)
    assert ask(slot)["store"]


async def test_a_container_that_does_not_come_up_is_the_releases_fault_with_its_log(stage):
    """Ending at once, or a readiness that never comes: StepFailed, blaming the release, with the last lines."""
    dying = json.loads(json.dumps(COMPOSE))
    dying["services"]["side"]["command"] = ["python3", "-c", "import sys; sys.exit('no such config')"]
    with pytest.raises(StepFailed, match="no such config") as caught:
        await stage.start(await stage.release(dying, TOML.replace("0.2", "3")))
    assert caught.value.bad_release
    never = TOML.replace(
        '[compose.services.side]\nmode = "slotted"\nready_after_s = 0.2',
        '[compose.services.side]\nmode = "slotted"\nready_port = 9999',
    ).replace("ready_timeout_s = 20", "ready_timeout_s = 2")
    with pytest.raises(StepFailed, match="port 9999 does not accept"):
        await stage.start(await stage.release(toml=never))


async def test_a_changed_shared_service_is_refused_kept_or_recreated_as_policy_says(stage):
    """Nothing touches the store unless sluice.toml says so, and then it is another container on the same volume."""
    slot = await stage.start(await stage.release())
    engine = stage.env.runtime._engine

    async def store() -> str:
        (found,) = await engine.containers({"com.docker.compose.project": f"{SERVICE}-test-shared"})
        return found.id

    before = await store()
    changed = json.loads(json.dumps(COMPOSE))
    changed["services"]["store"]["environment"] = {"CACHE": "1"}
    refused = await stage.release(changed)
    with pytest.raises(Refused, match="shared service store changed"):
        await stage.start(refused)
    with pytest.raises(Refused, match="on_change"):
        await stage.env.runtime.overlaps(refused.commit, refused.spec)
    await stage.start(await stage.release(changed, TOML + 'on_change = "keep"\n'))
    assert await store() == before
    await stage.start(await stage.release(changed, TOML + 'on_change = "recreate"\n'))
    assert await store() != before
    assert ask(slot)["store"]


async def test_what_is_changed_by_hand_is_seen(stage):
    """`docker update`, another network, a recreated container: each is drift, named; an untouched slot has none."""
    release = await stage.release()
    slot = await stage.start(release)
    assert all(not one.drift for one in (await stage.env.runtime.containers(release, slot)).found)
    docker("update", "--cpus", "0.5", f"{slot.unit}-side-1")
    drift = {one.service: one.drift for one in (await stage.env.runtime.containers(release, slot)).found if one.drift}
    assert list(drift) == ["side"]
    assert "changed by hand" in drift["side"][0]


async def test_images_and_artifacts_that_no_kept_release_needs_go_and_running_ones_stay(stage, monkeypatch):
    """Pruning removes a built image only once its artifact is gone, and never one that a container runs."""
    monkeypatch.setattr("sluice.runtimes.prune.UNNAMED_S", -1)
    old, kept = await stage.release(), await stage.release(server=SERVER + "# two\n")
    running = await stage.release(server=SERVER + "# three\n")
    slot = await stage.start(running)
    said: list[str] = []
    await stage.env.runtime.prune([kept], said.append)
    engine = stage.env.runtime._engine
    present = [await engine.image(release.artifact.digests["web"]) is not None for release in (old, kept, running)]
    assert present == [False, True, True], said
    assert not Path(old.artifact.path).exists()
    assert Path(kept.artifact.path).exists()
    assert Path(running.artifact.path).exists()
    assert ask(slot)["store"]
    with pytest.raises(StepFailed, match="gone"):
        await stage.start(old)


async def test_files_that_say_too_little_are_refused_with_what_to_write(stage):
    """A service without a healthcheck or a declared readiness, a missing variable, a file that is not there."""
    with pytest.raises(ConfigError, match="neither the file nor the image says how to see that side is ready"):
        await stage.release(
            toml=TOML.replace("ready_after_s = 0.2\n[compose.services.worker]", "[compose.services.worker]")
        )
    lacking = json.loads(json.dumps(COMPOSE))
    lacking["services"]["web"]["environment"]["KEY"] = "${SHOP_KEY:?set it}"
    with pytest.raises(ConfigError, match="SHOP_KEY"):
        await stage.release(lacking)
    with pytest.raises(ConfigError, match=r"compose.prod.json is not in this commit"):
        await stage.release(toml=TOML.replace('"compose.json"', '"compose.json", "compose.prod.json"'))


async def test_replicas_of_the_route_each_have_a_port_and_drain_reaches_all(stage):
    """Two replicas take two ports of the range; stopping the slot ends both."""
    double = json.loads(json.dumps(COMPOSE))
    double["services"]["web"]["deploy"] = {"replicas": 2}
    del double["services"]["web"]["container_name"]  # Compose itself takes no two containers of one name
    release = await stage.release(double)
    slot = await stage.start(release)
    beside = Slot("", "", 0, f"http://127.0.0.1:{slot.port + 1}")
    assert {ask(slot)["me"], ask(beside)["me"]} == {
        one.id[:12] for one in (await stage.env.runtime.containers(release, slot)).found if one.service == "web"
    }
    other = stage.env.runtime.choose_slot(release, [slot])
    assert other.port >= slot.port + 2
    assert threading.active_count() < 50
    await stage.env.runtime.stop(release, slot)
    assert not await stage.env.runtime.alive(slot)
