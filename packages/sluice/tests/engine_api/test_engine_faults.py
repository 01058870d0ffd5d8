"""What the client does when the engine is not there, says no, or says nonsense."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket

import pytest

from sluice.model.errors import Refused, StepFailed
from sluice.runtimes import engine_http, registry
from sluice.runtimes.engine import DockerEngine
from sluice.runtimes.engine_http import EngineHttp

SECRET = "hunter2-swordfish"


async def test_an_engine_that_is_not_there_is_told_with_what_to_do(tmp_path, redactor, monkeypatch):
    """No socket, a socket nobody listens on, and one this user may not use are three sentences with three advices."""
    path = tmp_path / "engine.sock"
    engine = DockerEngine(path, redactor)
    with pytest.raises(StepFailed, match=r"is not there.*install and start") as caught:
        await engine.version()
    assert caught.value.data["unreachable"]
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(StepFailed, match=r"does not answer.*systemctl start docker"):
        await engine.containers()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StepFailed, match=r"may not be used by this user.*add the user to the group"):
        await engine.containers()


@pytest.mark.parametrize(("newest", "oldest"), [("1.40", "1.12"), ("1.60", "1.45"), ("", ""), ("one", "two")])
async def test_engines_that_are_too_old_or_too_new_are_refused(fake, client, newest, oldest):
    """When no version is spoken by both, the error says which ones there are, and nothing else is asked."""
    fake.version = {"ApiVersion": newest, "MinAPIVersion": oldest}
    with pytest.raises(StepFailed, match=r"Sluice speaks 1\.41 to 1\.44"):
        await client.containers()
    assert fake.asked == ["GET /version"]


@pytest.mark.parametrize(
    ("newest", "oldest", "spoken"),
    [("1.41", "1.12", "v1.41"), ("1.43", "1.12", "v1.43"), ("1.51", "1.24", "v1.44"), ("1.52", "1.44", "v1.44")],
)
async def test_the_newest_version_both_know_is_spoken(fake, client, newest, oldest, spoken):
    """Engines from 20.10 to 29 are asked in a version they take; the engine is asked for it once."""
    fake.version = {"ApiVersion": newest, "MinAPIVersion": oldest}
    fake.says("GET /info", 200, {})
    await client.info()
    await client.info()
    assert fake.asked == ["GET /version", f"GET /{spoken}/info", f"GET /{spoken}/info"]


async def test_a_silent_engine_ends_at_the_deadline(fake, client, redactor):
    """A call that is not answered raises after its deadline, and `wait` says None."""
    await client.version()
    fake.hold = asyncio.Event()
    with pytest.raises(StepFailed, match=r"did not answer within 0\.05 s"):
        await EngineHttp(fake.path, redactor).ask("GET", "/info", timeout_s=0.05)
    assert await client.wait("c", 0.05) is None


async def test_cancelling_ends_the_call(fake, client):
    """A cancelled call lets go of its connection."""
    fake.hold = asyncio.Event()
    call = asyncio.create_task(client.info())
    await fake.held.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_answers_that_are_cut_or_no_json_or_endless(fake, client, monkeypatch):
    """Each is a StepFailed that says so; an answer is never held beyond its bound."""
    fake.says("GET /info", 200, raw=b"<html>" + SECRET.encode())
    with pytest.raises(StepFailed, match="no JSON") as caught:
        await client.info()
    assert SECRET not in str(caught.value)
    fake.says("GET /images/a/json", 500, raw=b"plain text")
    with pytest.raises(StepFailed, match="plain text"):
        await client.image("a")
    fake.says("POST /images/create", 200, raw=b'{"status": "x"}\n' + b"x" * 2000)
    monkeypatch.setattr(engine_http, "MAX_LINE", 1000)
    with pytest.raises(StepFailed, match="endless line"):
        await client.import_tar(b"tar", "a:1")
    monkeypatch.setattr(engine_http, "MAX_ANSWER", 3)
    with pytest.raises(StepFailed, match="more than 3 bytes"):
        await client.info()
    fake.cut = True
    monkeypatch.setattr(engine_http, "MAX_ANSWER", 1000)
    with pytest.raises(StepFailed, match="broke off"):
        await client.info()


async def test_what_the_engine_says_is_redacted(fake, client):
    """A secret in the engine's message, in a container's environment, arguments, probe or logs does not come out."""
    fake.says("POST /containers/c/start", 500, {"message": f"exec {SECRET}: not found"})
    with pytest.raises(StepFailed, match=r"exec \[redacted\]: not found"):
        await client.start("c")
    state = {"Error": SECRET, "Health": {"Status": "healthy", "Log": [{"Output": f"token {SECRET}"}]}}
    config = {"Env": [f"A={SECRET}"], "Cmd": ["run", SECRET], "Entrypoint": None, "Tty": True, "Labels": {"a": "b"}}
    fake.says("GET /containers/c/json", 200, {"Config": config, "State": state, "Args": [SECRET]})
    fake.says("GET /containers/c/logs", 200, raw=f"one\r\nsaw {SECRET}\r\nthree".encode())
    (document,) = await client.inspect(["c"])
    assert SECRET not in json.dumps(document)
    assert document["Config"]["Labels"] == {"a": "b"}
    assert await client.logs("c", 10) == ["one", "saw [redacted]", "three"]
    assert await client.logs("c", 2) == ["saw [redacted]", "three"]


async def test_many_containers_are_asked_at_once_and_a_vanished_one_is_left_out(fake, client):
    """Inspections overlap, within the bound; the order asked is kept; who is gone is missing and no error."""
    names = [f"c{number}" for number in range(40)]
    for name in names:
        fake.says(f"GET /containers/{name}/json", 200, {"Id": name})
    fake.hold, fake.wanted = asyncio.Event(), engine_http.CONNECTIONS
    asking = asyncio.create_task(client.inspect([*names[:20], "gone", *names[20:]]))
    await asyncio.wait_for(fake.held.wait(), 10)
    fake.hold.set()
    assert [document["Id"] for document in await asking] == names
    assert fake.most_at_once == engine_http.CONNECTIONS
    assert fake.asked.count("GET /version") == 1


async def test_things_that_are_so_already_are_fine(fake, client):
    """Stopping, removing, killing and disconnecting what is gone, and starting what runs, raise nothing."""
    fake.says("POST /containers/c/start", 304)
    await client.start("c")
    await client.stop("gone", 1)
    await client.remove_container("gone")
    await client.disconnect("n", "gone")
    await client.remove_network("gone")
    assert not await client.kill("gone")
    assert await client.remove_image("gone")
    assert await client.volume_labels("gone") is None
    fake.says("DELETE /containers/c", 409, {"message": "removal of container c is already in progress"})
    await client.remove_container("c")
    fake.says("POST /networks/n/disconnect", 500, {"message": "container c is not connected to network n"})
    await client.disconnect("n", "c")
    fake.says("POST /containers/c/kill", 409, {"message": "Container c is not running"})
    assert not await client.kill("c")


async def test_what_is_not_so_is_said(fake, client):
    """The same statuses with another meaning are errors; an image in use stays and says False."""
    fake.says("DELETE /containers/c", 409, {"message": "driver failed"})
    fake.says("POST /networks/n/disconnect", 500, {"message": "driver failed"})
    fake.says("POST /networks/n/connect", 403, {"message": "driver failed"})
    fake.says("DELETE /networks/n", 403, {"message": "driver failed"})
    for call in (
        client.remove_container("c"),
        client.disconnect("n", "c"),
        client.connect("n", "c"),
        client.remove_network("n"),
    ):
        with pytest.raises(StepFailed, match="driver failed") as caught:
            await call
        assert caught.value.data["status"] >= 400
    fake.says("DELETE /images/a", 409, {"message": "image is being used by running container"})
    assert not await client.remove_image("a")
    assert "force=0" in fake.asked[-1]


async def test_connected_already_is_compared_with_the_aliases(fake, client):
    """On the network under these aliases: nothing happens. Under others, or only on another network: anew."""
    ends = {"n": {"NetworkID": "id-n", "Aliases": ["a"]}, "other": {"NetworkID": "id-o", "Aliases": ["b"]}}
    fake.says("GET /containers/c/json", 200, {"NetworkSettings": {"Networks": ends}})
    for network in ("n", "id-n"):
        await client.connect(network, "c", ["a"])
    assert not any(call.startswith("POST") for call in fake.asked)
    fake.says("POST /networks/n/connect", 200)
    fake.says("POST /networks/n/disconnect", 200)
    await client.connect("n", "c", ["b"])
    assert [call.rpartition("/")[2] for call in fake.asked[-3:]] == ["json", "disconnect", "connect"]
    fake.says("POST /networks/third/connect", 200)
    await client.connect("third", "c", ["a"])
    assert [call.rpartition("/")[2] for call in fake.asked[-2:]] == ["json", "connect"]


async def test_network_of_somebody_else_is_refused(fake, client):
    """A network of the name with other labels is Refused; one that appears meanwhile with ours is taken."""
    fake.says("GET /networks/n", 200, {"Id": "1", "Name": "n", "Labels": {"a": "other"}})
    with pytest.raises(Refused, match="is not Sluice's"):
        await client.ensure_network("n", {"a": "b"})
    fake.says("GET /networks/m", 404, {"message": "no such network"})
    ours = {"Id": "2", "Name": "m", "Labels": {"a": "b"}, "IPAM": {"Config": [{"Subnet": "172.30.0.0/16"}]}}
    fake.says("GET /networks/m", 200, ours)
    fake.says("POST /networks/create", 409, {"message": "network with name m already exists"})
    assert (await client.ensure_network("m", {"a": "b"})).subnet == "172.30.0.0/16"


def lines(*events: dict) -> bytes:
    """JSON lines as the engine streams them."""
    return b"".join(json.dumps(event).encode() + b"\r\n" for event in events)


async def test_a_pull_or_push_that_fails_half_way(fake, client, tmp_path, monkeypatch):
    """An error inside the stream is the call's error, although the status was 200; a push must tell the digest."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    bars = [{"status": "Downloading", "id": "l1", "progressDetail": {"current": 1}}] * 50
    fake.says("POST /images/create", 200, raw=lines({"status": "Pulling"}, *bars, {"error": "manifest unknown"}))
    said: list[str] = []
    with pytest.raises(StepFailed, match="manifest unknown"):
        await client.pull("registry.example.org/a:1", said.append)
    assert said == ["Pulling"]
    fake.says("POST /images/registry.example.org/a/push", 200, raw=lines({"status": "Pushed", "id": "l1"}))
    with pytest.raises(StepFailed, match="told no digest"):
        await client.push("registry.example.org/a:1", said.append)
    fake.answers.clear()
    told = {"aux": {"Tag": "1", "Digest": "sha256:ab", "Size": 3}}
    fake.says("POST /images/registry.example.org/a/push", 200, raw=lines({"status": "done"}, told))
    assert await client.push("registry.example.org/a:1", said.append) == "registry.example.org/a@sha256:ab"


async def test_registry_credentials_go_into_the_header_alone(fake, client, tmp_path, monkeypatch):
    """From Docker's own file or from its credential helper; never into an address; none where nobody logged in."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    file = tmp_path / "config.json"
    auth = base64.b64encode(b"me:pass-word").decode()
    file.write_text(json.dumps({"auths": {"registry.example.org": {"auth": auth}}}))
    fake.says("POST /images/create", 200, raw=lines({"status": "done"}))
    fake.says("GET /images/registry.example.org/a:1/json", 200, {"Id": "sha256:1"})
    await client.pull("registry.example.org/a:1", lambda _: None)
    asked = next(head for head in fake.heads if "/images/create" in head)
    sent = next(line for line in asked.split("\r\n") if line.lower().startswith("x-registry-auth"))
    assert json.loads(base64.urlsafe_b64decode(sent.partition(": ")[2]))["password"] == "pass-word"
    assert "pass-word" not in "".join(fake.asked)
    assert await registry.registry_auth("a") == {}

    helper = tmp_path / "docker-credential-test"
    helper.write_text('#!/bin/sh\nread server\necho "{\\"Username\\": \\"me\\", \\"Secret\\": \\"from-$server\\"}"\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    file.write_text('{"credsStore": "test"}')
    header = (await registry.registry_auth("registry.example.org/a"))["X-Registry-Auth"]
    assert json.loads(base64.urlsafe_b64decode(header))["password"] == "from-registry.example.org"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read"),
        ('{"auths": {"r.example.org": {"auth": "%%%"}}}', "are damaged"),
        ('{"credsStore": "../evil"}', "no program's name"),
        ('{"credsStore": "not-installed-here"}', "cannot be started"),
        ("[]", "cannot be read"),
        ('{"auths": ["r.example.org"]}', "cannot be read"),
        ('{"auths": {"r.example.org": "%%%"}}', "cannot be read"),
        ('{"auths": {"r.example.org": {"auth": "\u00e4"}}}', "are damaged"),
        ('{"credsStore": "garbled"}', "printed no credentials"),
        ('{"credsStore": "partial"}', "printed no credentials"),
    ],
)
async def test_broken_credentials_are_named_without_being_shown(tmp_path, monkeypatch, content, said):
    """A damaged file, entry or helper raises StepFailed that names which, and never runs a path out of the file."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for name, printed in (("garbled", "%%%"), ("partial", '{"Username": "%%%"}')):
        helper = tmp_path / f"docker-credential-{name}"
        helper.write_text(f"#!/bin/sh\necho '{printed}'\n")
        helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(StepFailed, match=said) as caught:
        await registry.registry_auth("r.example.org/a")
    assert "%%%" not in str(caught.value)
    assert "log" in caught.value.next
