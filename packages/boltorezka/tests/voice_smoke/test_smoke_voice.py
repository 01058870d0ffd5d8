"""The checks `voice` and `call` against good and bad services: real WebRTC over loopback, a sentence for each fault."""

from __future__ import annotations

import asyncio
import sys

import aioice.ice
import pytest

from boltorezka.smoke import voice, voice_peer
from boltorezka.smoke.voice import is_loopback

FIRST, SECOND = voice.TONES


@pytest.fixture
def impatient(monkeypatch):
    """What will not come is not waited for long; what must come first still has its time on a busy machine."""
    monkeypatch.setattr(voice, "HEARD_WITHIN_S", 2.0)
    monkeypatch.setattr(voice, "SILENT_WITHIN_S", 2.0)
    monkeypatch.setattr(voice_peer, "SIGNAL_S", 1.0)
    monkeypatch.setattr(voice_peer, "GATHER_S", 1.0)
    monkeypatch.setattr(voice, "TOLD_WITHIN_S", 1.0)


async def test_a_good_service_passes_with_its_evidence(voice_place):
    """Each hears the other's tone, a mute is silence, a leave frees the seat; the time to the first audio is told."""
    line = await voice_place.smoke()
    assert line["verdict"] == "pass", line
    assert f"{FIRST} Hz at -18 dB and {SECOND} Hz at -18 dB" in line["detail"]
    assert 0 < line["metrics"]["setup_ms"] < line["ms"]
    said = [event for user, event, _ in voice_place.relay.heard if user == "u2"]
    assert said[:3] == ["room.join", "call.join", "call.offer"]
    assert [said.count(event) for event in ("call.mic_state", "call.leave")] == [1, 1]
    assert voice_place.relay.seats == {}, "both seats were given back"


async def test_a_seat_left_by_a_killed_run_is_given_back_first(voice_place):
    """It would come back without a word to the others; so it is left, and a new one is taken that they hear of."""
    voice_place.relay.seats["u2"] = "seat-of-u2"
    line = await voice_place.smoke()
    assert line["verdict"] == "pass", line
    said = [event for user, event, _ in voice_place.relay.heard if user == "u2"]
    assert said[:4] == ["room.join", "call.join", "call.leave", "call.join"]


async def test_a_call_is_the_set_up_alone(voice_place):
    """Seats, signals, the first audio both ways, the set-up's time told, and the seats given back; nobody mutes."""
    line = await voice_place.smoke(check=voice.check_call)
    assert (line["name"], line["verdict"]) == ("call", "pass"), line
    assert 0 < line["metrics"]["setup_ms"] < line["ms"]
    said = [event for user, event, _ in voice_place.relay.heard if user == "u2"]
    assert [said.count(event) for event in ("call.mic_state", "call.setup", "call.leave")] == [0, 1, 1]
    assert voice_place.relay.seats == {}


async def test_the_setup_is_reported_as_a_client_does(voice_place):
    """Each tells the service that it heard the other, and how long that took; the slower one is the evidence."""
    line = await voice_place.smoke()
    told = {user: said for user, event, said in voice_place.relay.heard if event == "call.setup"}
    assert {user: said["connected"] for user, said in told.items()} == {"u1": True, "u2": True}
    assert max(said["setupMs"] for said in told.values()) == line["metrics"]["setup_ms"]


@pytest.mark.usefixtures("impatient")
async def test_a_setup_that_failed_is_reported_too(voice_place):
    """Who hears nobody says so, before the seat is given back."""
    voice_place.relay.faults.drops = ("call.answer",)
    await voice_place.smoke()
    told = [(user, said) for user, event, said in voice_place.relay.heard if event == "call.setup"]
    assert sorted(told) == [("u1", {"connected": False}), ("u2", {"connected": False})]


async def test_addresses_come_by_call_ice_alone(voice_place):
    """No description holds an address: that the two connect proves that call.ice is relayed."""
    await voice_place.smoke()
    signals = [payload["signal"] for _, event, payload in voice_place.relay.heard if event in voice_peer.SIGNALS]
    assert [signal for signal in signals if "a=candidate" in signal.get("sdp", "")] == []
    assert [signal["candidate"] for signal in signals if "127.0.0.1" in signal.get("candidate", "")] != []


async def test_the_host_s_addresses_are_what_they_were_afterwards(voice_place):
    """Loopback is offered inside the check and nowhere else."""
    before = aioice.ice.get_host_addresses
    await voice_place.smoke()
    assert aioice.ice.get_host_addresses is before


FAULTS = {
    "mixes users up": ({"returns_to_sender": True}, "smoke-2's own call.offer came back to smoke-2"),
    "forwards no offers": ({"drops": ("call.offer",)}, "smoke-2's call.offer to smoke-1 did not come"),
    "forwards no answers": ({"drops": ("call.answer",)}, "smoke-1's call.answer to smoke-2 did not come"),
    "forwards no ICE": ({"drops": ("call.ice",)}, "the last call.ice of smoke-2 to smoke-1 did not come"),
    "mangles descriptions": ({"mangles_sdp": True}, "cannot be read as it was relayed"),
    "tells nobody who joins": ({"drops": ("call.joined",)}, "call.joined of smoke-2 to smoke-1 did not come"),
    "tells a newcomer of nobody": ({"forgets_participants": True}, "does not list smoke-1, who is in voice"),
    "is always full": ({"refuses_join": "VoiceFull"}, "call.join was refused: VoiceFull"),
    "does not tell of a mute": ({"drops": ("call.mic_state",)}, "call.mic_state of smoke-2 to smoke-1 did not come"),
    "does not tell who left": ({"drops": ("call.left",)}, "call.left of smoke-2 to smoke-1 did not come"),
    "leaves the seat behind": ({"keeps_seats": True}, "smoke-2 left voice, and call.initial_state still lists"),
    "shows newcomers nothing": ({"drops": ("call.initial_state",)}, "call.initial_state did not come"),
    "names TURN servers nobody can use": (
        {"ice_servers": [{"urls": ["turn:"], "username": "u", "credential": "c"}]},
        "the iceServers of call.join cannot be used",
    ),
    "lets one hear themselves": (
        {"impostors": {"u1": FIRST, "u2": FIRST}},
        f"smoke-1 does not hear smoke-2: expected {SECOND} Hz, heard {FIRST} Hz at -18 dB, its own tone",
    ),
    "connects strangers": (
        {"impostors": {"u1": 2_000, "u2": FIRST}},
        f"smoke-1 does not hear smoke-2: expected {SECOND} Hz, heard 2000 Hz at -18 dB, for",
    ),
    "does not stop audio": (
        {"impostors": {"u1": SECOND, "u2": FIRST}},
        f"smoke-2 is muted: expected silence, smoke-1 heard {SECOND} Hz at -18 dB, for",
    ),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_bad_service_fails_with_what_is_wrong(voice_place, fault):
    """Each fault is a fail, named with who missed what, or with what was heard."""
    changes, sentence = FAULTS[fault]
    for name, value in changes.items():
        setattr(voice_place.relay.faults, name, value)
    line = await voice_place.smoke()
    assert line["verdict"] == "fail", line
    assert sentence in line["detail"]


CALL_FAULTS = {
    "forwards no answers": ({"drops": ("call.answer",)}, "smoke-1's call.answer to smoke-2 did not come"),
    "is always full": ({"refuses_join": "VoiceFull"}, "call.join was refused: VoiceFull"),
    "mangles descriptions": ({"mangles_sdp": True}, "cannot be read as it was relayed"),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", CALL_FAULTS)
async def test_a_call_that_does_not_come_up_fails(voice_place, fault):
    """The same faults are seen by the short check, and the seats are given back."""
    changes, sentence = CALL_FAULTS[fault]
    for name, value in changes.items():
        setattr(voice_place.relay.faults, name, value)
    line = await voice_place.smoke(check=voice.check_call)
    assert line["verdict"] == "fail", line
    assert sentence in line["detail"]
    assert voice_place.relay.seats == {}


@pytest.mark.usefixtures("impatient")
async def test_a_call_without_audio_fails(voice_place, monkeypatch):
    """Connected is not enough: something must be heard."""
    never = asyncio.Event()
    monkeypatch.setattr(voice_peer.Microphone, "recv", lambda _self: never.wait())
    line = await voice_place.smoke(check=voice.check_call)
    assert line["verdict"] == "fail"
    assert "is connected and hears nothing" in line["detail"]


@pytest.mark.usefixtures("impatient")
async def test_a_connection_that_never_comes_up_is_named(voice_place, monkeypatch):
    """The signals came through and the addresses lead nowhere: the sentence tells the two apart."""
    monkeypatch.setattr(voice_peer, "CONNECT_S", 0.5)
    real = voice_place.relay._to_user

    async def nowhere(user, kind, payload):
        if payload["signal"].get("candidate"):
            words = payload["signal"]["candidate"].split()
            words[4], words[5] = "127.0.0.1", "9"
            payload["signal"]["candidate"] = " ".join(words)
        await real(user, kind, payload)

    monkeypatch.setattr(voice_place.relay, "_to_user", nowhere)
    line = await voice_place.smoke()
    assert line["verdict"] == "fail"
    assert "was not connected within 0 s: the signals came through, the connection is connecting" in line["detail"]


async def test_a_turn_server_that_gives_no_address_is_caught(voice_place):
    """The two could talk without it here, and others could not: a TURN server of the ack must give an address."""
    turn = {"urls": ["turn:127.0.0.1:9?transport=tcp"], "username": "1:u", "credential": "c"}
    voice_place.relay.faults.ice_servers = [turn]
    line = await voice_place.smoke()
    assert line["verdict"] == "fail"
    assert line["detail"].startswith("turn:127.0.0.1:9 gave smoke-2 no relay address")


async def test_another_engine_is_not_judged(voice_place):
    """The smoke speaks mesh: of an SFU it can say nothing, which is neither good nor bad."""
    voice_place.relay.faults.engine = "janus"
    line = await voice_place.smoke()
    assert line["verdict"] == "inconclusive"
    assert "'janus'" in line["detail"]


async def test_without_sessions_for_the_canary_room_voice_is_skipped(voice_place):
    """Nobody's call in a public room is disturbed; the sentence says what is missing."""
    line = await voice_place.smoke(credentials=None)
    assert line["verdict"] == "skipped"
    assert "SLUICE_CREDENTIALS" in line["detail"]


async def test_the_whole_of_it_has_a_deadline(voice_place, monkeypatch):
    """However the steps' own deadlines add up, the check ends, names the step, and gives the seats back."""
    never = asyncio.Event()
    monkeypatch.setattr(voice_peer.VoicePeer, "connected", lambda _self: never.wait())
    line = await voice_place.smoke(deadline_s=1.5)
    assert line["verdict"] == "fail"
    assert "it stopped at: connecting" in line["detail"]
    assert voice_place.relay.seats == {}


async def test_a_service_that_is_not_there_fails_voice(voice_place):
    """A refused connection is the service's fault."""
    assert (await voice_place.smoke(url="http://127.0.0.1:1"))["verdict"] == "fail"


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:8080", True),
        ("http://[::1]:8080", True),
        ("http://localhost:8080", True),
        ("https://rooms.example", False),
        ("http://10.0.0.7:8080", False),
        ("https://localhost.example", False),
    ],
)
def test_only_this_machine_is_loopback(url, loopback):
    """Loopback addresses are offered only where the service itself is reached over loopback."""
    assert is_loopback(url) is loopback


async def test_codecs_are_loaded_by_this_check_alone():
    """The other parts of the smoke, which run every second of a watch, never pay for WebRTC."""
    code = "import sys, boltorezka.smoke.__main__; sys.exit('aiortc' in sys.modules or 'av' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await asyncio.wait_for(process.wait(), 30) == 0
