"""Who says which release serves, when the service itself does not."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec
import pytest

from sluice.checks import served_release
from sluice.checks.served import read_header
from sluice.model.containers import Container, Containers, Expected
from sluice.model.spec import RunSpec
from sluice.model.verdict import Verdict

SILENT = RunSpec(version_path="")
IMAGE = "sha256:" + "a" * 64


def answering(head: bytes):
    """A server that answers every request with this head."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head + b"Content-Length: 0\r\n\r\n")
        await writer.drain()

    return one


@pytest.mark.parametrize(
    ("head", "verdict", "says"),
    [
        (b"HTTP/1.1 200 OK\r\n", Verdict.FAIL, "did not pass this environment's ingress"),
        (b"HTTP/1.1 200 OK\r\nSluice-Release: r0\r\n", Verdict.FAIL, "asked release r0; expected r1"),
        (b"HTTP/1.1 502 Bad Gateway\r\nSluice-Release: r1\r\n", Verdict.FAIL, "answered 502"),
        (b"HTTP/1.1 200 OK\r\nSluice-Release: r1\r\n", Verdict.PASS, "asked release r1"),
        (b"HTTP/1.1 404 Not Found\r\nSluice-Release: r1\r\n", Verdict.PASS, "asked release r1"),
    ],
)
async def test_through_the_public_url_the_ingress_is_the_witness(listen, head, verdict, says):
    """Its header names the release it asked; without it the answer came from somewhere else."""
    async with listen(answering(head)) as port:
        finding = await read_header(f"http://127.0.0.1:{port}", SILENT, "r1")
    assert finding.verdict is verdict
    assert says in finding.detail


async def test_nobody_there_serves_nothing():
    """A refused connection is a fail, not an exception."""
    assert (await read_header("http://127.0.0.1:1", SILENT, "r1")).verdict is Verdict.FAIL


async def test_on_a_private_address_containers_or_the_supervisor_are_the_witness(target, runtime):
    """With containers their images decide, without them whether the slot runs."""
    digests = msgspec.structs.replace(target.release.artifact, digests={"api": IMAGE})
    spec = msgspec.structs.replace(target.release.spec, run=SILENT)
    silent = replace(target, release=msgspec.structs.replace(target.release, spec=spec, artifact=digests))
    assert (await served_release(silent, 0)).verdict is Verdict.PASS
    runtime.runs = False
    assert (await served_release(silent, 0)).verdict is Verdict.FAIL
    one = Container("1", "n", "api", target.slot.unit, IMAGE, IMAGE, "running", started_at="2025-01-01T00:00:00Z")
    runtime.now = Containers((Expected("api", target.slot.unit),), (one,), "2026-01-01T00:00:00Z")
    assert (await served_release(silent, 0)).verdict is Verdict.PASS
    runtime.now = msgspec.structs.replace(runtime.now, found=(msgspec.structs.replace(one, image_id="x", image="y"),))
    assert (await served_release(silent, 0)).verdict is Verdict.FAIL


async def test_a_private_smoke_asks_the_containers_once(target, runtime, site):
    """One question answers served-release, containers-up and compose-complete."""
    from sluice.checks import server_probes
    from sluice.checks.together import ask_all

    spec = msgspec.structs.replace(target.release.spec, run=SILENT)
    silent = replace(target, release=msgspec.structs.replace(target.release, spec=spec))
    findings = await ask_all(server_probes(silent), lambda _finding: None)
    verdicts = {f.name: f.verdict for f in findings}
    assert verdicts["served-release"] is Verdict.PASS
    assert verdicts["containers-up"] is Verdict.SKIPPED
    assert runtime.asked == 1
    assert not any("/version" in asked for asked in site.asked)
