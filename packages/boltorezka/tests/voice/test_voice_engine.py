"""The mesh behind the port of engines, and the counting of setups."""

from __future__ import annotations

import pytest

from boltorezka.errors import TargetNotInRoom
from boltorezka.voice.engine import Grant, MediaEngine, Message, Stats
from boltorezka.voice.mesh import MAX_SEATS, MeshEngine
from boltorezka.voice.setups import Setups


async def test_an_unknown_session_is_refused():
    """Signals and mutes of somebody the engine does not know are an error; leaving twice is not."""
    engine: MediaEngine = MeshEngine()
    with pytest.raises(TargetNotInRoom):
        await engine.signal("nobody", Message("offer", "{}"))
    with pytest.raises(TargetNotInRoom):
        await engine.set_publish("nobody", allowed=False)
    await engine.leave("nobody")
    await engine.kick("nobody")


async def test_a_signal_for_the_server_is_refused_by_a_mesh():
    """In a mesh nobody but the participants can answer an offer."""
    engine = MeshEngine()
    session = (await engine.join("r", Grant("s1", "ann", "Ann"))).session
    with pytest.raises(TargetNotInRoom, match="participant"):
        await engine.signal(session, Message("offer", "{}"))


async def test_the_mesh_counts_who_takes_part():
    """Joining again is the same session; rooms and sessions are counted until they leave or it stops."""
    engine = MeshEngine()
    heard: list[object] = []
    await engine.start(heard.append)
    assert await engine.healthy()
    assert (engine.caps.name, engine.caps.topology, engine.caps.max_seats) == ("mesh", "mesh", MAX_SEATS)
    first = await engine.join("r", Grant("s1", "ann", "Ann"))
    assert await engine.join("r", Grant("s1", "ann", "Ann")) == first
    await engine.join("r", Grant("s2", "bob", "Bob"))
    await engine.join("q", Grant("s3", "cid", "Cid"))
    await engine.set_publish("s2", allowed=False)
    assert await engine.stats() == Stats(2, 3)
    await engine.kick("s3")
    assert await engine.stats() == Stats(1, 2)
    await engine.stop()
    assert await engine.stats() == Stats(0, 0)
    assert heard == []


def test_a_report_counts_once_and_only_for_a_setup_that_started():
    """Nobody to hear, an unknown seat, or a second report: nothing is counted."""
    setups = Setups()
    assert setups.reported("s1", connected=True) is None
    assert setups.seated("s1", company=False) is None
    assert setups.reported("s1", connected=True) is None
    assert setups.company("s1") == "started"
    assert setups.company("s1") is None
    assert setups.reported("s1", connected=False) == "failed"
    assert setups.reported("s1", connected=True) is None
    assert setups.gone("s1") is None


def test_a_seat_given_up_before_a_report_is_neither_ok_nor_failed():
    """A client that never reports must not look like a failure; one that was alone started nothing."""
    setups = Setups()
    assert setups.seated("s1", company=True) == "started"
    assert setups.gone("s1") == "unreported"
    assert setups.seated("s2", company=False) is None
    assert setups.gone("s2") is None
    assert setups.seated("s3", company=True) == "started"
    assert setups.reported("s3", connected=True) == "ok"
