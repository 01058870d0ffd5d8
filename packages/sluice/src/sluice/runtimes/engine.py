"""The container engine (Docker) over its socket: a small client that knows what Sluice needs and nothing more.

Methods whose name says what should be true afterwards may be called again: what is so already stays as it is. Every
method has a deadline and raises StepFailed with the engine's own words, redacted; `unreachable=True` in its data says
that the engine could not be asked at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from sluice.model.errors import Refused, StepFailed
from sluice.model.release import Completed
from sluice.model.secret import Redactor, Secret
from sluice.ports import Progress
from sluice.runtimes.engine_documents import (
    Found,
    Image,
    Network,
    container_of,
    found_of,
    image_of,
    label_filter,
    network_of,
    split_reference,
)
from sluice.runtimes.engine_http import ANSWER_S, CHUNK, EngineHttp
from sluice.runtimes.engine_streams import MAX_BYTES, LogLines, demultiplexed
from sluice.runtimes.registry import registry_auth

TRANSFER_S = 1800.0  # an image of some gigabytes over a slow line
REMOVE_S = 120.0  # layers of a big image on a slow disk
STOP_MARGIN_S = 20.0  # beyond the grace: SIGKILL, and the engine's own bookkeeping

__all__ = ["DockerEngine", "Found", "Image", "Network", "container_of", "split_reference"]


class DockerEngine:
    """One engine. Keeps no connection open between calls: nothing is to be closed."""

    def __init__(self, socket_path: str | Path, redactor: Redactor) -> None:
        """Touches nothing."""
        self._http = EngineHttp(socket_path, redactor)
        self._redact = redactor

    @property
    def socket_path(self) -> str:
        return self._http.socket_path

    # ------------------------------------------------------------ the engine itself

    async def version(self) -> str:
        """The engine's version, e.g. `20.10.24`. Raises StepFailed when it cannot be asked or is too old."""
        return str((await self._http.negotiate()).get("Version", ""))

    async def info(self) -> dict[str, Any]:
        """What the engine says of itself (`DockerRootDir`, `NCPU`, ...). Asks for nothing that takes long."""
        return dict((await self._http.ask("GET", "/info")).document)

    # ------------------------------------------------------------ containers

    async def containers(self, labels: Mapping[str, str] | None = None) -> list[Found]:
        """Those with all of these labels, running or not; an empty value asks for the label alone. None: all."""
        answer = await self._http.ask(
            "GET", "/containers/json", query={"all": 1, "filters": label_filter(labels or {})}
        )
        return [found_of(item) for item in answer.document]

    async def inspect(self, ids: Iterable[str]) -> list[dict[str, Any]]:
        """The engine's documents, in the order asked; a container that is gone is left out.

        Environment values, arguments and the output of healthchecks are redacted. `container_of` reads one.
        """

        async def one(reference: str) -> dict[str, Any] | None:
            answer = await self._http.ask("GET", f"/containers/{reference}/json", accept=(404,))
            return None if answer.status == 404 else self._shown(answer.document)

        await self._http.ready()
        # Asked all at once; the client itself bounds how many are under way.
        found = await asyncio.gather(*(one(reference) for reference in ids))
        return [document for document in found if document is not None]

    def _shown(self, document: dict[str, Any]) -> dict[str, Any]:
        config, state = document.get("Config") or {}, document.get("State") or {}
        for holder, key in ((config, "Env"), (config, "Cmd"), (config, "Entrypoint"), (document, "Args")):
            if isinstance(holder.get(key), list):
                holder[key] = [self._redact(str(text)) for text in holder[key]]
        if state.get("Error"):
            state["Error"] = self._redact(state["Error"])
        for probe in (state.get("Health") or {}).get("Log") or []:
            probe["Output"] = self._redact(str(probe.get("Output", "")))
        return document

    async def environment(self, container: str) -> dict[str, Secret]:
        """What it was created with beside its image's own variables; nothing when it is gone."""
        answer = await self._http.ask("GET", f"/containers/{container}/json", accept=(404,))
        if answer.status == 404:
            return {}
        image = await self._http.ask("GET", f"/images/{answer.document['Image']}/json", accept=(404,))
        own = (image.document.get("Config") or {}).get("Env") if image.status != 404 else []
        given = [entry for entry in answer.document["Config"].get("Env") or [] if entry not in (own or [])]
        return {name: Secret(value) for name, _, value in (entry.partition("=") for entry in given)}

    async def logs(self, container: str, tail: int) -> list[str]:
        """The newest lines of both streams, redacted, in the order they came; at most 1 MiB, the end is kept."""
        query: dict[str, str | int] = {"stdout": 1, "stderr": 1, "tail": tail}
        path = f"/containers/{container}/logs"
        lines = LogLines(tail, self._redact)
        # Asked before, not meanwhile: calls that each need a second connection could wait for one another for ever.
        documents = await self.inspect([container])
        plain = bool(documents and documents[0]["Config"].get("Tty"))
        async with self._http.open("GET", path, query=query) as response:
            if plain:
                async for chunk in response.aiter_raw(CHUNK):
                    lines.feed(1, chunk)
            else:
                async for stream, chunk in demultiplexed(response.aiter_raw(CHUNK)):
                    lines.feed(stream, chunk)
        return lines.close()

    async def create_container(self, name: str, spec: Mapping[str, Any]) -> str:
        """Create, and give its id. `spec` is the body of the engine's own call (Image, Cmd, HostConfig, ...)."""
        answer = await self._http.ask("POST", "/containers/create", query={"name": name}, body=dict(spec))
        return str(answer.document["Id"])

    async def start(self, container: str) -> None:
        """Running afterwards, or StepFailed with the engine's reason."""
        await self._http.ask("POST", f"/containers/{container}/start")

    async def stop(self, container: str, grace_s: float) -> None:
        """Its stop signal, then SIGKILL after the grace. One that does not run, or is gone, is fine."""
        # The engine counts whole seconds, and its -1 means for ever.
        query = {"t": max(0, round(grace_s))}
        path = f"/containers/{container}/stop"
        await self._http.ask("POST", path, query=query, accept=(404,), timeout_s=grace_s + STOP_MARGIN_S)

    async def kill(self, container: str, signal_name: str = "SIGKILL") -> bool:
        """Signal its first process. False when it does not run."""
        query = {"signal": signal_name}
        answer = await self._http.ask("POST", f"/containers/{container}/kill", query=query, accept=(404, 409))
        return answer.status < 400

    async def remove_container(self, container: str, *, anonymous_volumes: bool = False) -> None:
        """Gone afterwards, whatever it was doing; named volumes stay. One that is gone is fine."""
        path, query = f"/containers/{container}", {"force": 1, "v": int(anonymous_volumes)}
        answer = await self._http.ask("DELETE", path, query=query, accept=(404, 409), timeout_s=REMOVE_S)
        if answer.status == 409 and "already in progress" not in str(answer.document):
            raise self._http.refused(path, answer)

    async def rename_container(self, container: str, name: str) -> None:
        """Called `name` afterwards; running or not."""
        await self._http.ask("POST", f"/containers/{container}/rename", query={"name": name})

    async def wait(self, container: str, timeout_s: float) -> int | None:
        """Its exit code once it has ended; None when the deadline came first."""
        path = f"/containers/{container}/wait"
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._http.ask("POST", path, timeout_s=timeout_s + ANSWER_S)
        except TimeoutError:
            return None
        return int(answer.document["StatusCode"])

    async def execute(self, container: str, argv: Sequence[str], timeout_s: float) -> Completed:
        """Run a command in a running container. At the deadline `timed_out` is set; the engine cannot end it then."""
        clock = asyncio.get_running_loop().time
        begun = clock()
        body = {"AttachStdout": True, "AttachStderr": True, "Cmd": list(argv)}
        made = (await self._http.ask("POST", f"/containers/{container}/exec", body=body)).document["Id"]
        output = {1: bytearray(), 2: bytearray()}
        timed_out = False
        try:
            async with asyncio.timeout(timeout_s):
                await self._collect(made, output, timeout_s + ANSWER_S)
        except TimeoutError:
            timed_out = True
        state = (await self._http.ask("GET", f"/exec/{made}/json")).document
        code = state.get("ExitCode")
        out, err = (self._redact.end(bytes(output[stream]), MAX_BYTES) for stream in (1, 2))
        shown = tuple(self._redact(part) for part in argv)
        return Completed(shown, -1 if code is None else int(code), out, err, round((clock() - begun) * 1000), timed_out)

    async def _collect(self, made: str, output: dict[int, bytearray], timeout_s: float) -> None:
        content, path = msgspec.json.encode({"Detach": False, "Tty": False}), f"/exec/{made}/start"
        async with self._http.open("POST", path, content=content, timeout_s=timeout_s) as response:
            async for stream, chunk in demultiplexed(response.aiter_raw(CHUNK)):
                kept = output.setdefault(stream, bytearray())
                kept += chunk
                if len(kept) > 2 * (limit := MAX_BYTES + self._redact.reach):
                    del kept[:-limit]

    # ------------------------------------------------------------ networks and volumes

    async def network(self, name: str) -> Network | None:
        """The network of exactly this name (or id)."""
        answer = await self._http.ask("GET", f"/networks/{name}", accept=(404,))
        return None if answer.status == 404 else network_of(answer.document)

    async def networks(self, labels: Mapping[str, str] | None = None) -> list[Network]:
        """Those with all of these labels. The list does not say who is on them."""
        answer = await self._http.ask("GET", "/networks", query={"filters": label_filter(labels or {})})
        return [network_of(item) for item in answer.document]

    async def ensure_network(self, name: str, labels: Mapping[str, str]) -> Network:
        """A bridge network of this name. Raises Refused when one is there that has not these labels."""
        if await self.network(name) is None:
            body = {"Name": name, "Driver": "bridge", "CheckDuplicate": True, "Labels": dict(labels)}
            # 409: another command made it in the same moment.
            await self._http.ask("POST", "/networks/create", body=body, accept=(409,))
        found = await self.network(name)
        if found is None or any(found.labels.get(key) != value for key, value in labels.items()):
            raise Refused(
                f"the network {name} exists and is not Sluice's: its labels are others.",
                next=f"see who uses it (docker network inspect {name}), then rename or remove it",
            )
        return found

    async def connect(self, network: str, container: str, aliases: Sequence[str] = ()) -> None:
        """On the network, answering to these aliases. Where it is on it under other aliases, it is connected anew.

        Then the engine gives it the lowest free address, which is the one it had unless a lower one became free since:
        at the same address its connections on this network go on, at another they are lost.
        """
        documents = await self.inspect([container])
        ends = documents[0]["NetworkSettings"]["Networks"] if documents else {}
        here = [end for name, end in ends.items() if network in (name, end.get("NetworkID"))]
        if here:
            # Asked again, the engine refuses a running container and forgets the aliases of one that does not run.
            if set(aliases) <= set(here[0].get("Aliases") or []):
                return
            await self.disconnect(network, container)
        body = {"Container": container, "EndpointConfig": {"Aliases": list(aliases)}}
        await self._http.ask("POST", f"/networks/{network}/connect", body=body)

    async def disconnect(self, network: str, container: str) -> None:
        """Not on the network afterwards; a container or network that is gone is fine."""
        path = f"/networks/{network}/disconnect"
        body = {"Container": container, "Force": True}
        answer = await self._http.ask("POST", path, body=body, accept=(404, 403, 500))
        if answer.status >= 400 and answer.status != 404 and "not connected" not in str(answer.document):
            raise self._http.refused(path, answer)

    async def remove_network(self, name: str) -> None:
        """Gone afterwards. Raises StepFailed while somebody is on it."""
        await self._http.ask("DELETE", f"/networks/{name}", accept=(404,))

    async def ensure_volume(
        self, name: str, labels: Mapping[str, str], driver: str = "", options: Mapping[str, str] | None = None
    ) -> None:
        """A volume of this name; one that is there stays as it is, its labels too."""
        body = {"Name": name, "Labels": dict(labels), "Driver": driver or "local", "DriverOpts": dict(options or {})}
        if await self.volume_labels(name) is None:
            await self._http.ask("POST", "/volumes/create", body=body)

    async def volume_labels(self, name: str) -> dict[str, str] | None:
        """The labels of a volume; None when there is no such volume. Volumes are never removed by Sluice."""
        answer = await self._http.ask("GET", f"/volumes/{name}", accept=(404,))
        return None if answer.status == 404 else dict(answer.document.get("Labels") or {})

    # ------------------------------------------------------------ images

    async def image(self, reference: str) -> Image | None:
        """By id, tag or digest."""
        answer = await self._http.ask("GET", f"/images/{reference}/json", accept=(404,))
        return None if answer.status == 404 else image_of(answer.document)

    async def images(self, labels: Mapping[str, str], *, everything: bool = False) -> list[Image]:
        """Those with all of these labels; `everything`: also what only other images stand upon."""
        query: dict[str, str | int] = {"filters": label_filter(labels), "all": int(everything)}
        answer = await self._http.ask("GET", "/images/json", query=query)
        return [image_of(item) for item in answer.document]

    async def pull(self, reference: str, progress: Progress) -> Image:
        """From its registry, with the credentials of the user's own Docker configuration."""
        repository, tag = split_reference(reference)
        query: dict[str, str | int] = {"fromImage": repository, "tag": tag}
        headers = await registry_auth(repository)
        try:
            await self._http.follow(
                "/images/create",
                lambda event: self._tell(event, progress),
                query=query,
                timeout_s=TRANSFER_S,
                headers=headers,
            )
        except StepFailed as error:
            raise StepFailed(
                f"The image {reference} cannot be pulled: {error.what}",
                next=f"correct its name, or `docker login`; `docker pull {reference}` tries the same",
                unreachable=bool(error.data.get("unreachable")),
            ) from error
        found = await self.image(reference)
        if found is None:
            raise self._http.failed("/images/create", f"pulled {reference} and does not know it")
        return found

    async def push(self, reference: str, progress: Progress) -> str:
        """To its registry; gives REPOSITORY@sha256:... as the registry stored it."""
        repository, tag = split_reference(reference)
        path, stored = f"/images/{repository}/push", [""]

        def told(event: dict[str, Any]) -> None:
            stored[0] = str((event.get("aux") or {}).get("Digest", stored[0]))
            self._tell(event, progress)

        headers = await registry_auth(repository) or {"X-Registry-Auth": "e30="}  # the engine demands one; {} is none
        await self._http.follow(path, told, query={"tag": tag}, timeout_s=TRANSFER_S, headers=headers)
        if not stored[0]:
            raise self._http.failed(path, f"pushed {reference} and told no digest")
        return f"{repository}@{stored[0]}"

    def _tell(self, event: dict[str, Any], progress: Progress) -> None:
        # Bars of single layers would be hundreds of lines: what begins and what is complete is enough.
        status = str(event.get("status", ""))
        if status and (not event.get("id") or status.endswith(("complete", "exists", "Pushed"))):
            progress(self._redact(status))

    async def tag(self, reference: str, name: str) -> None:
        """Also called `name` (REPOSITORY:TAG) afterwards."""
        repository, tag = split_reference(name)
        await self._http.ask("POST", f"/images/{reference}/tag", query={"repo": repository, "tag": tag})

    async def remove_image(self, reference: str, *, parents: bool = True) -> bool:
        """Gone afterwards, or False: a container or another name needs it, and then it stays. Never by force.

        `parents`: with the unnamed images that it alone stood upon.
        """
        path, query = f"/images/{reference}", {"force": 0, "noprune": int(not parents)}
        answer = await self._http.ask("DELETE", path, query=query, accept=(404, 409), timeout_s=REMOVE_S)
        return answer.status != 409

    async def import_tar(self, tar: bytes | IO[bytes], name: str, changes: Sequence[str] = ()) -> str:
        """An image of one layer made of a root folder's tar; gives its id. `changes` are Dockerfile lines."""
        repository, tag = split_reference(name)
        query = {"fromSrc": "-", "repo": repository, "tag": tag, "changes": list(changes)}
        made = [""]

        def told(event: dict[str, Any]) -> None:
            made[0] = str(event.get("status", made[0]))

        headers = {"Content-Type": "application/x-tar"}
        await self._http.follow(
            "/images/create", told, query=query, timeout_s=TRANSFER_S, content=_chunks(tar), headers=headers
        )
        return made[0]


async def _chunks(tar: bytes | IO[bytes]) -> AsyncIterator[bytes]:
    if isinstance(tar, bytes):
        for begin in range(0, len(tar), CHUNK):
            yield tar[begin : begin + CHUNK]
        return
    while chunk := await asyncio.to_thread(tar.read, CHUNK):
        yield chunk
