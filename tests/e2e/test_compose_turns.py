"""The compose runtime where two slots stand beside each other: who has the names, whose turn it is, who is ready."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import msgspec
import pytest
from compose_stage import COMPOSE, SERVICE, TOML, WAIT, Stage, changed, command

from sluice.checks.containers import compose_complete, containers_up
from sluice.model.verdict import Verdict

pytestmark = pytest.mark.e2e

PORT = 19230
SAYS = f"import os; u = os.environ['URL']; print('it is', u + ', that is', u[9:-3]); {WAIT}"
EXTRA = "[compose.services.extra]\nready_after_s = 0.1\n"


class Street:
    """An external network, and somebody else's container on it who asks for names."""

    def __init__(self, base: str) -> None:
        label = ("--label", f"dev.sluice.service={SERVICE}")  # removed with the rest
        command("docker", "network", "create", *label, f"{SERVICE}-edge")
        place = ("--network", f"{SERVICE}-edge", "--network-alias", "caller")
        self.caller = command("docker", "run", "--detach", *label, *place, base, "python3", "-c", WAIT)

    def named(self, name: str) -> set[str]:
        """The addresses that answer to this name."""
        look = f"import socket\ntry: print(*socket.gethostbyname_ex('{name}')[2])\nexcept OSError: pass"
        return set(command("docker", "exec", self.caller, "python3", "-c", look).split())

    def address(self, container: str) -> str:
        """Of a container."""
        return command(
            "docker",
            "inspect",
            "-f",
            f'{{{{(index .NetworkSettings.Networks "{SERVICE}-edge").IPAddress}}}}',
            container,
        )


@pytest.fixture
async def stage(tmp_path, images) -> AsyncIterator[Stage]:
    """A fresh environment."""
    made = Stage(tmp_path, images.python, PORT)
    yield made
    await made.clean()


async def test_a_slot_answers_to_names_on_external_networks_once_it_is_handed_over(stage, images):
    """Unproven it reaches the network under no name; the slot before keeps its names, and alone has them after an undo.

    A kill between leaving the network and joining it again is mended by the same call.
    """
    street = Street(images.python)
    edge = {"networks": {"default": None, "edge": {"aliases": ["shop"]}}}
    document = changed(
        web=edge,
        worker={"networks": {"edge": {"aliases": ["jobs"]}}},
        store={"networks": {"edge": {"aliases": ["data"]}}},
    )
    document["networks"] = {"edge": {"external": True, "name": f"{SERVICE}-edge"}}
    runtime, engine = stage.env.runtime, stage.env.runtime._engine
    old, one = await stage.serve(await stage.release(document))
    (before,) = await stage.containers("web")
    assert street.named("shop") == {street.address(before)}
    (store,) = await stage.containers("store")
    assert street.named("data") == {street.address(store)}
    newer = await stage.release(document, TOML + "# newer\n")
    two = stage.slot(newer)
    await runtime.start(newer, two)
    (unproven,) = set(await stage.containers("web")) - {before}
    assert street.named("shop") == {street.address(before)}
    assert len(street.named("jobs")) == 1
    command("docker", "exec", unproven, "python3", "-c", "import socket; socket.gethostbyname('caller')")
    at = street.address(unproven)
    await engine.disconnect(f"{SERVICE}-edge", unproven)  # as a kill would leave it
    await runtime.hand_over(newer, two, one)
    assert street.named("shop") == {street.address(before), at}
    await runtime.hand_over(old, one, two)
    assert street.address(before) in street.named("shop")
    await runtime.stop(newer, two)
    assert street.named("shop") == {street.address(before)}
    (worker,) = await stage.containers("worker")
    assert street.named("jobs") == {street.address(worker)}
    assert not any(each.drift for each in (await runtime.containers(old, one)).found)


async def test_what_runs_only_once_is_made_with_its_slot_and_waits_for_its_turn(stage):
    """Made, not started, it is no fault; an older one runs on meanwhile, and the very one that was made takes over."""
    runtime = stage.env.runtime
    old, one = await stage.serve(await stage.release())
    (running,) = await stage.containers("worker")
    newer = await stage.release(toml=TOML + "# newer\n")
    two = stage.slot(newer)
    await runtime.start(newer, two)
    (made,) = set(await stage.containers("worker")) - {running}
    now = await runtime.containers(newer, two)
    assert [(each.state, each.drift) for each in now.found if each.id == made] == [("created", ())]
    assert containers_up(now).verdict is Verdict.PASS
    assert await runtime.alive(two)
    assert "worker" in (await runtime.logs(newer, two, 5)).lines
    assert [each.state for each in (await runtime.containers(old, one)).found if each.id == running] == ["running"]
    await runtime.hand_over(newer, two, one)
    assert await stage.containers("worker") == [made]
    found = (await runtime.containers(newer, two)).found
    assert [(each.state, each.drift) for each in found if each.id == made] == [("running", ())]


async def test_a_healthcheck_with_a_long_interval_holds_nothing_up(stage):
    """Whoever waits for health starts once the check's own command succeeds, not after the engine's first interval."""
    check = {"test": ["CMD", "python3", "-c", "open('/tmp/up')"], "interval": "1h", "retries": 1}
    serves = "open('/tmp/up', 'w'); " + WAIT
    side = {"image": "${BASE}", "command": ["python3", "-c", serves], "healthcheck": check}
    document = changed(side=side, web={"depends_on": {"side": {"condition": "service_healthy"}}})
    toml = TOML + '[compose.services.side]\nmode = "slotted"\n'
    release, slot = await stage.serve(await stage.release(document, toml))
    now = await stage.env.runtime.containers(release, slot)
    assert {each.health for each in now.found if each.service == "side"} == {"healthy"}
    assert containers_up(now).verdict is Verdict.PASS


async def test_what_cannot_be_started_again_is_known_before_anything_is_touched(stage: Stage) -> None:
    """A variable the files demand, taken out of the env file, and an image that is gone: each is named."""
    stage.say("TOKEN=first")
    document = changed(web={"environment": {"TOKEN": "${TOKEN:?it signs the cookies}"}})
    release = await stage.release(document)
    assert await stage.env.runtime.startable(release, False) == ""
    text = stage.env_file.read_text()
    stage.env_file.write_text(text.replace("TOKEN=first\n", ""))
    assert "TOKEN" in await stage.open("state").runtime.startable(release, False)
    stage.env_file.write_text(text)
    gone = msgspec.structs.replace(
        release,
        artifact=msgspec.structs.replace(
            release.artifact, digests={**release.artifact.digests, "web": "sha256:" + "0" * 64}
        ),
    )
    assert "web is not on this machine" in await stage.open("state").runtime.startable(gone, True)


async def test_a_release_that_drops_a_shared_service_is_no_worse_for_it(stage):
    """What the old release still uses runs on beside the new one, is named, and is judged and read with its own alone.

    Of a container that somebody else put into the shared project that is not so.
    """
    runtime = stage.env.runtime
    extra = {"image": "${BASE}", "command": ["python3", "-c", WAIT], "volumes": ["data:/extra"]}
    old, one = await stage.serve(await stage.release(changed(extra=extra), TOML + EXTRA))
    newer = await stage.release(COMPOSE, TOML + "# newer\n")
    two = stage.slot(newer)
    await runtime.start(newer, two)
    await runtime.hand_over(newer, two, one)
    now = await runtime.containers(newer, two)
    assert [each.service for each in now.left] == ["extra"]
    finding = compose_complete(now, math.inf)
    assert (finding.verdict, "extra-1 is left of another release" in finding.detail) == (Verdict.PASS, True)
    assert containers_up(now).verdict is Verdict.PASS
    assert "extra" not in (await runtime.logs(newer, two, 5)).lines
    before = await runtime.containers(old, one)
    assert (before.left, "extra" in {each.service for each in before.found}) == ((), True)
    assert not any(each.drift for each in before.found if each.service == "extra")
    (known,) = await stage.containers("extra")
    labels = [("com.docker.compose.service", "foreign"), ("com.docker.compose.project", f"{SERVICE}-test-shared")]
    labels += [("dev.sluice.service", SERVICE), ("dev.sluice.environment", "test")]
    words = [word for label in labels for word in ("--label", "=".join(label))]
    image = command("docker", "inspect", "--format", "{{.Image}}", known)
    command("docker", "run", "--detach", *words, image, "python3", "-c", WAIT)
    assert "foreign of" in compose_complete(await runtime.containers(newer, two), math.inf).detail


async def test_a_value_that_was_changed_is_hidden_in_what_a_container_said_before(stage):
    """The shared service runs on with the old one, which its log has; what came by its command is not known, nor shown.

    Where a slot was started with the values of today, nothing is withheld.
    """
    old = "s3ntinel-old-value"
    stage.say(f"KEY={old}", f"WORD={old}-of-the-command")
    says = {"environment": {"URL": "pg://app:${KEY}@db"}, "command": ["python3", "-uc", SAYS]}
    document = changed(store=says, worker={"command": ["python3", "-uc", f"print('${{WORD}}'); {WAIT}"]})
    release, slot = await stage.serve(await stage.release(document))
    stage.env_file.write_text(stage.env_file.read_text().replace(old, "n3w-value"))
    stage.env = stage.open("state")
    logs = await stage.env.runtime.logs(release, slot, 5)
    assert logs.lines["store"] == ["it is [redacted], that is [redacted]"]
    assert set(logs.withheld) == {"worker"}
    assert old not in f"{await stage.env.runtime.tail(release, slot, 5)}"
    print_ = stage.env.env_file.fingerprint(stage.env.paths.read_host_key())
    today = msgspec.structs.replace(release, env_fingerprint=print_)
    assert (await stage.env.runtime.logs(today, slot, 5)).withheld == {}
