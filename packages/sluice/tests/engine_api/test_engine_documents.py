"""The engine's documents and streams as values, without an engine."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.model.containers import Container
from sluice.model.secret import Redactor, Secret
from sluice.runtimes import engine_streams
from sluice.runtimes.engine import container_of, split_reference
from sluice.runtimes.engine_documents import found_of, image_of, label_filter, network_of
from sluice.runtimes.engine_streams import LogLines, demultiplexed

DOCUMENT = {
    "Id": "abc",
    "Name": "/rooms-test-1-api-1",
    "Image": "sha256:1",
    "RestartCount": 3,
    "Config": {
        "Image": "rooms:1",
        "Labels": {"com.docker.compose.project": "rooms-test-1", "com.docker.compose.service": "api"},
    },
    "State": {
        "Status": "exited",
        "ExitCode": 137,
        "OOMKilled": True,
        "StartedAt": "2026-01-02T03:04:05.6Z",
        "Health": {"Status": "unhealthy"},
    },
}


def test_a_container_is_read_from_its_document():
    """Service and project come from Compose's labels; state, health, restarts, exit code and memory death are told."""
    assert container_of(DOCUMENT) == Container(
        id="abc",
        name="rooms-test-1-api-1",
        service="api",
        project="rooms-test-1",
        image="rooms:1",
        image_id="sha256:1",
        state="exited",
        health="unhealthy",
        restarts=3,
        exit_code=137,
        oom_killed=True,
        started_at="2026-01-02T03:04:05.6Z",
    )


def test_a_container_that_nobody_started_yet():
    """No labels, no healthcheck and the engine's year 1 are empty, not guessed."""
    state = {"Status": "created", "StartedAt": "0001-01-01T00:00:00Z", "Health": {"Status": "none"}}
    found = container_of({"Id": "a", "Name": "/a", "Config": {"Labels": None}, "State": state})
    assert (found.service, found.project, found.health, found.started_at, found.restarts) == ("", "", "", "", 0)


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("rooms", ("rooms", "latest")),
        ("rooms:1.2", ("rooms", "1.2")),
        ("localhost:5000/rooms", ("localhost:5000/rooms", "latest")),
        ("localhost:5000/team/rooms:1", ("localhost:5000/team/rooms", "1")),
        ("localhost:5000/rooms@sha256:ab", ("localhost:5000/rooms", "sha256:ab")),
        ("localhost:5000/rooms:1@sha256:ab", ("localhost:5000/rooms", "sha256:ab")),
    ],
)
def test_references_are_split(reference, parts):
    """A registry's port is not a tag, and a digest goes before a tag."""
    assert split_reference(reference) == parts


def test_lists_are_read_whatever_is_missing():
    """Null labels, ports that are not published, images without a name and networks without IPv4 are no error."""
    ports = [{"PrivatePort": 80, "PublicPort": 8080}, {"PrivatePort": 81}, {"PrivatePort": 80, "PublicPort": 8080}]
    found = found_of({"Id": "a", "Names": ["/x"], "State": "running", "Labels": None, "Ports": ports})
    assert (found.name, found.labels, found.ports) == ("x", {}, (8080,))
    image = image_of({"Id": "a", "RepoTags": ["<none>:<none>"], "RepoDigests": None})
    assert (image.tags, image.digests, image.labels) == ((), (), {})
    both = {"Config": [{"Subnet": "fd00::/64"}, {"Subnet": "172.20.0.0/16"}]}
    assert network_of({"Id": "a", "Name": "n", "IPAM": both}).subnet == "172.20.0.0/16"
    assert network_of({"Id": "a", "Name": "n", "IPAM": {"Config": None}}).subnet == ""
    assert json.loads(label_filter({"a": "b", "c": ""})) == {"label": ["a=b", "c"]}
    assert json.loads(label_filter({})) == {}


def framed(pieces: list[tuple[int, bytes]]) -> bytes:
    """Pieces as the engine multiplexes them."""
    return b"".join(bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data for stream, data in pieces)


async def chunked(raw: bytes, size: int) -> AsyncIterator[bytes]:
    """The bytes in chunks that respect no frame."""
    for begin in range(0, len(raw), size):
        yield raw[begin : begin + size]


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=12), st.integers(1, 50))
async def test_streams_are_told_apart_however_they_arrive(pieces, size):
    """Both outputs come back whole, whatever the chunks of the connection."""
    output = {1: b"", 2: b""}
    async for stream, data in demultiplexed(chunked(framed(pieces), size)):
        output[stream] += data
    assert output == {number: b"".join(data for stream, data in pieces if stream == number) for number in (1, 2)}


async def test_a_frame_that_is_cut_gives_what_came():
    """A connection that ends in a frame or in its header loses nothing that arrived."""
    raw = framed([(1, b"whole"), (2, b"cut off")])
    assert [piece async for piece in demultiplexed(chunked(raw[:-4], 1000))] == [(1, b"whole"), (2, b"cut")]
    assert [piece async for piece in demultiplexed(chunked(raw[:15], 1000))] == [(1, b"whole")]


def test_lines_are_whole_and_bounded(monkeypatch):
    """A line split over pieces is one line; more lines or bytes than allowed lose the oldest; an endless one is cut."""
    lines = LogLines(3, Redactor())
    for stream, data in ((1, b"ab"), (2, b"err\n"), (1, b"c\r\nd\ne"), (1, b"f\ng\n"), (2, b"\xff")):
        lines.feed(stream, data)
    assert lines.close() == ["ef", "g", "\N{REPLACEMENT CHARACTER}"]
    monkeypatch.setattr(engine_streams, "MAX_LINE", 4)
    monkeypatch.setattr(engine_streams, "MAX_BYTES", 10)
    lines = LogLines(100, Redactor())
    lines.feed(1, b"abcdefghijklmnopqr\n")
    assert lines.close() == ["ijkl", "mnop", "qr"]


def test_a_secret_is_hidden_before_its_line_is_cut(monkeypatch):
    """Neither the pieces of a long line nor two chunks nor two lines hold a part of it; the other stream goes on."""
    monkeypatch.setattr(engine_streams, "MAX_LINE", 12)
    lines = LogLines(100, Redactor([Secret("sentinel-99"), Secret("one\ntwo!")]))
    for stream, data in ((1, b"xxxxxxsentin"), (2, b"one\n"), (1, b"el-99 yy\n"), (2, b"two! zz\n")):
        lines.feed(stream, data)
    assert lines.close() == ["xxxxxx[redac", "ted] yy", "[redacted] z", "z"]
