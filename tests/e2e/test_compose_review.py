"""The compose runtime where things went wrong before: going back, hands on containers, files that are not there."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from compose_stage import SERVICE, TOML, WAIT, Stage, changed, command
from workbench import wait_until

from sluice.model.errors import ConfigError, Refused, StepFailed
from sluice.runtimes.build import key_lock

pytestmark = pytest.mark.e2e

PORT = 19200


@pytest.fixture
async def stage(tmp_path, images) -> AsyncIterator[Stage]:
    """A fresh environment."""
    made = Stage(tmp_path, images.python, PORT)
    yield made
    await made.clean()


async def test_the_way_back_leads_over_a_shared_service_that_changed_meanwhile(stage):
    """What ran here before takes its worker back, and the store goes on running as the newer release made it."""
    old, one = await stage.serve(await stage.release())
    newer = await stage.release(changed(store={"environment": {"CACHE": "1"}}), TOML + 'on_change = "recreate"\n')
    _, two = await stage.serve(newer)
    store = await stage.containers("store")
    await stage.env.runtime.hand_over(old, one, two)
    await stage.env.runtime.stop(newer, two)
    found = (await stage.env.runtime.containers(old, one)).found
    assert {(each.service, each.state) for each in found} == {
        ("web", "running"),
        ("worker", "running"),
        ("store", "running"),
    }
    assert await stage.containers("store") == store
    with pytest.raises(Refused, match="shared service store changed"):
        await stage.env.runtime.start(await stage.release(), stage.slot(newer))


async def test_an_env_file_that_changes_what_a_file_means_leaves_earlier_releases_as_they_were(stage):
    """A profile that is switched on with the same commit: the release before starts from what it was built from."""
    well = {"test": ["CMD", "python3", "-c", "pass"], "interval": "1s"}
    extra = {"image": "${BASE}", "command": ["python3", "-c", WAIT], "profiles": ["more"], "healthcheck": well}
    document = changed(extra=extra)
    old, one = await stage.serve(await stage.release(document))
    stage.say("COMPOSE_PROFILES=more")
    newer, two = await stage.serve(await stage.release(document))
    assert await stage.containers("extra")
    assert old.artifact.path == newer.artifact.path
    await stage.env.runtime.hand_over(old, one, two)
    assert not await stage.containers("extra")
    stage.env_file.write_text(stage.env_file.read_text().replace("COMPOSE_PROFILES=more\n", ""))
    await stage.env.runtime.hand_over(newer, two, one)
    assert await stage.containers("extra")


async def test_what_prepares_a_shared_service_runs_once(stage):
    """A one-shot that somebody waits for is not started again by every later step."""
    seed = ["python3", "-c", "open('/data/seeds', 'a').write('x')"]
    document = changed(
        seed={"image": "${BASE}", "command": seed, "volumes": ["data:/data"]},
        store={"depends_on": {"seed": {"condition": "service_completed_successfully"}}},
    )
    await stage.serve(await stage.release(document))
    (store,) = await stage.containers("store")
    assert command("docker", "exec", store, "cat", "/data/seeds") == "x"


async def test_a_slot_without_its_routed_container_is_not_alive_and_is_started_again(stage):
    """Removed by hand, or ended by itself with 0 under `restart: no`: neither is taken for running."""
    side = {"image": "${BASE}", "command": ["python3", "-c", WAIT]}
    toml = TOML + '[compose.services.side]\nmode = "slotted"\nready_after_s = 0.1\n'
    release, slot = await stage.serve(await stage.release(changed(web={"restart": "no"}, side=side), toml))
    runtime = stage.env.runtime
    assert await runtime.alive(slot)
    (web,) = await stage.containers("web")
    command("docker", "stop", web)
    assert not await runtime.alive(slot)
    await runtime.start(release, slot)
    assert await runtime.alive(slot)
    command("docker", "rm", "--force", web)
    assert not await runtime.alive(slot)
    await runtime.start(release, slot)
    assert await runtime.alive(slot)


async def test_a_port_that_somebody_took_is_not_the_releases_fault(stage):
    """The start fails with the engine's words and blames nobody; so does one without an engine."""
    release = await stage.release()
    slot = stage.slot(release)
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", slot.port))
        other.listen()
        with pytest.raises(StepFailed, match=r"address already in use|already allocated") as caught:
            await stage.env.runtime.start(release, slot)
    assert not caught.value.bad_release


@pytest.mark.parametrize("kind", ["secret", "mount"])
async def test_a_file_that_is_not_there_is_asked_for_and_no_folder_is_made_in_its_place(stage, kind):
    """A secret or a mounted file that git does not have: the sentence says where to put it, and then it is mounted."""
    document = changed(
        web={"secrets": ["key"]} if kind == "secret" else {"volumes": ["./own.conf:/etc/own.conf:ro"]},
    )
    if kind == "secret":
        document["secrets"] = {"key": {"file": "./own.conf"}}
    release = await stage.release(document)
    place = stage.env.paths.data_dir / "binds" / "own.conf"
    with pytest.raises(Refused, match=str(place)):
        await stage.env.runtime.overlaps(release.commit, release.spec)
    slot = stage.slot(release)
    with pytest.raises(Refused, match=str(place)):
        await stage.env.runtime.start(release, slot)
    assert not place.exists()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("words")
    await stage.env.runtime.start(release, slot)
    (web,) = await stage.containers("web")
    inside = "/run/secrets/key" if kind == "secret" else "/etc/own.conf"
    assert command("docker", "exec", web, "cat", inside) == "words"


async def test_no_image_goes_while_somebody_builds_nor_with_another_state_folder(stage, monkeypatch):
    """Pruning for nobody: a build under way, and images that another state folder made, are left alone."""
    monkeypatch.setattr("sluice.runtimes.prune.UNNAMED_S", -1)
    release = await stage.release()
    image = release.artifact.digests["web"]
    engine = stage.env.runtime._engine
    await stage.open("other").runtime.prune([], lambda _text: None)
    assert await engine.image(image) is not None
    notes = Path(release.artifact.path) / "compose"
    for note in notes.glob("*.json"):  # as before a build's end
        note.unlink()
    said: list[str] = []
    async with key_lock(notes / release.artifact.key, said.append):
        await stage.env.runtime.prune([release], said.append)
    assert await engine.image(image) is not None
    await stage.env.runtime.prune([release], said.append)
    assert await engine.image(image) is None


async def test_a_migration_that_is_not_waited_for_any_more_does_not_go_on(stage):
    """At its deadline and after an interrupt its container is ended too: Compose alone would leave it running."""
    toml = TOML.replace("port = 8000", f'port = 8000\nmigrate = ["python3", "-c", {json.dumps(WAIT)}]')
    release = await stage.release(toml=toml + "[migrate]\ntimeout_s = 3\n")
    runtime = stage.env.runtime
    with pytest.raises(StepFailed, match="deadline") as caught:
        await runtime.migrate(release, lambda _text: None)
    assert not caught.value.bad_release
    running = ("docker", "ps", "--quiet", "--filter", f"label=com.docker.compose.project={SERVICE}-test-migrate")
    assert not command(*running)
    task = asyncio.ensure_future(runtime.migrate(release, lambda _text: None))
    await asyncio.to_thread(wait_until, lambda: bool(command(*running)), "the migration runs", 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not command(*running)


async def test_another_state_folder_that_runs_the_environment_is_told_by_the_gate(stage):
    """Before anything is touched: what runs belongs to another state folder, which the sentence names."""
    release = await stage.release()
    labels = {"service": SERVICE, "environment": "test", "mode": "ingress", "state": "/elsewhere"}
    options = [part for key, value in labels.items() for part in ("--label", f"dev.sluice.{key}={value}")]
    command("docker", "run", "--detach", *options, release.artifact.digests["store"], "python3", "-c", WAIT)
    (sentence,) = await stage.env.runtime.overlaps(release.commit, release.spec)
    assert "/elsewhere" in sentence


async def test_an_image_that_keeps_data_of_its_own_needs_a_word(stage):
    """A service that a rollout replaces, whose image declares a volume the file does not name: it would be lost."""
    document = changed(worker={"build": {"context": ".", "args": {"BASE": "${BASE}"}}})
    with pytest.raises(ConfigError, match=r"worker.*/kept"):
        await stage.release(document, dockerfile="VOLUME /kept\n")
    await stage.release(document, TOML.replace("worker]\n", 'worker]\nmode = "recreate"\n'), "VOLUME /kept\n")
