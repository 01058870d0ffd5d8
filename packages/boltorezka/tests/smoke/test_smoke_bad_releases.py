"""A growing corpus of bad releases: each is the real server with one fault, and each is caught by the right check."""

from __future__ import annotations

import asyncio
import json
import time

import httpx
import pytest

from boltorezka.smoke import canary, voice, voice_peer, whole

REQUIRED = {
    "health", "sso-mode", "sso-only", "sso-redirect", "login", "rooms", "ws-ticket", "ws-handshake", "room-join",
    "message", "message-retry", "presence", "ticket-replay", "voice",
}  # fmt: skip


async def test_a_good_release_passes_every_check(place, credentials):
    """The proxy changes nothing, and nothing is found."""
    lines = await place.smoke(whole.run, credentials=credentials)
    assert set(lines) >= REQUIRED
    assert [line for line in lines.values() if line["verdict"] != "pass"] == []


def answers(path: str, status: int, body: object = None, method: str = "", **headers: str):
    """A fault: this route answers something else."""

    def answer(asked: str, at: str, real: httpx.Response) -> httpx.Response:
        if at != path or (method and asked != method):
            return real
        content = real.content if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.Response(status, content=content, headers=headers)

    return answer


HTTP_FAULTS = {
    "degraded": ("health", answers("/health", 503, {"status": "degraded"})),
    "no HEAD": ("health", answers("/health", 405, b"", "HEAD")),
    "local mode": ("sso-mode", answers("/v1/auth/mode", 200, {"mode": "local"})),
    "mode is a page": ("sso-mode", answers("/v1/auth/mode", 200, b"<html>")),
    "register works": ("sso-only", answers("/v1/auth/register", 200, {"token": "t"})),
    "login works": ("sso-only", answers("/v1/auth/login", 200, {"token": "t"})),
    "gone, for another reason": ("sso-only", answers("/v1/auth/login", 410, {"error": "Gone"})),
    "another SSO": ("sso-redirect", answers("/v1/auth/sso/start", 302, b"", location="http://127.0.0.1:1/auth/google")),
    "an SSO that begins alike": (
        "sso-redirect",
        answers("/v1/auth/sso/start", 302, b"", location="http://127.0.0.1:1@evil.example/auth"),
    ),
    "no redirect": ("sso-redirect", answers("/v1/auth/sso/start", 200, b"")),
    "nobody comes back": ("login", answers("/v1/auth/sso/session", 200, {"authenticated": False})),
    "everybody is somebody": (
        "sso-session",
        answers("/v1/auth/sso/session", 200, {"authenticated": True, "token": "t", "user": {"id": "u"}}),
    ),
    "no general": ("rooms", answers("/v1/rooms", 200, {"rooms": []})),
    "rooms without a session": ("rooms", answers("/v1/rooms", 200, {"rooms": [{"slug": "general"}]})),
    "no ticket": ("ws-ticket", answers("/v1/auth/ws-ticket", 500, {})),
}


@pytest.mark.parametrize("fault", HTTP_FAULTS)
async def test_a_route_that_answers_otherwise_is_caught(place, fault):
    """The check that looks at the route fails; it is the service's fault and not the probe's."""
    name, place.proxy.answer = HTTP_FAULTS[fault]
    lines = await place.smoke(whole.run)
    assert lines[name]["verdict"] == "fail", lines


def every(kind: str, change):
    """A fault: frames of this type become what `change` makes of them (payload, how many before it)."""

    def socket():
        seen = 0

        def frames(frame):
            nonlocal seen
            if frame["type"] != kind:
                return [frame]
            seen += 1
            return change(frame, seen)

        return frames

    return socket


def without(*names: str):
    """The frame without these fields of its payload."""
    return lambda frame, _: [frame | {"payload": {k: v for k, v in frame["payload"].items() if k not in names}}]


SOCKET_FAULTS = {
    "loses every message": ("message", every("chat.message", lambda _f, _n: [])),
    "changes the text": (
        "message",
        every("chat.message", lambda f, _: [f | {"payload": f["payload"] | {"text": "?"}}]),
    ),
    "changes the seq": ("message", every("chat.message", lambda f, _: [f | {"payload": f["payload"] | {"seq": 9}}])),
    "doubles messages": ("message-retry", every("chat.message", lambda f, _: [f, f])),
    "forgets keys": ("message-retry", every("ack", without("duplicate"))),
    "sees nobody": ("presence", every("room.presence", lambda f, _: [f | {"payload": f["payload"] | {"users": []}}])),
    "joins without a word": ("room-join", every("room.joined", lambda _f, _n: [])),
    "greets somebody else": (
        "ws-handshake",
        every("server.ready", lambda f, _: [f | {"payload": f["payload"] | {"userId": "u"}}]),
    ),
}


@pytest.mark.parametrize("fault", SOCKET_FAULTS)
async def test_a_socket_that_says_otherwise_is_caught(place, fault):
    """The check that listens for it fails."""
    name, place.proxy.frames = SOCKET_FAULTS[fault]
    lines = await place.smoke(whole.run, deadline_s=3.0)
    assert lines[name]["verdict"] == "fail", lines


async def test_loss_on_one_of_two_sockets_is_caught(place):
    """The sender hears itself and the other hears nothing."""
    sockets = 0

    def socket():
        nonlocal sockets
        sockets += 1
        deaf = sockets == 2
        return lambda frame: [] if deaf and frame["type"] == "chat.message" else [frame]

    place.proxy.frames = socket
    lines = await place.smoke(whole.run, deadline_s=3.0)
    assert lines["message"]["verdict"] == "fail"


VOICE_FAULTS = {
    "relays no answers": ("call.answer", "call.answer to smoke-2 did not come"),
    "relays no candidates": ("call.ice", "call.ice of smoke-2 to smoke-1 did not come"),
    "tells nobody who left": ("call.left", "call.left of smoke-2 to smoke-1 did not come"),
    "shows newcomers nobody": ("call.initial_state", "call.initial_state did not come"),
}


@pytest.mark.parametrize("fault", VOICE_FAULTS)
async def test_a_call_that_does_not_come_up_or_end_is_caught(place, credentials, monkeypatch, fault):
    """The real server's own voice, with one kind of its events lost: `voice` fails and says who missed what."""
    kind, sentence = VOICE_FAULTS[fault]
    for module, patience in ((voice_peer, "SIGNAL_S"), (voice_peer, "GATHER_S"), (voice, "TOLD_WITHIN_S")):
        monkeypatch.setattr(module, patience, 1.5)
    place.proxy.frames = every(kind, lambda _f, _n: [])
    line = (await place.smoke(voice.check_voice, credentials=credentials))["voice"]
    assert line["verdict"] == "fail", line
    assert sentence in line["detail"]


async def test_a_run_that_was_killed_does_not_spoil_the_next(place, credentials):
    """It left a muted seat behind, which the server holds for a while: the next run gives it back and sits anew."""
    with pytest.MonkeyPatch.context() as killed:
        killed.setattr(voice_peer.VoicePeer, "leave", lambda _self: asyncio.sleep(0))
        killed.setattr(voice, "TOLD_WITHIN_S", 1.5)
        assert (await place.smoke(voice.check_voice, credentials=credentials))["voice"]["verdict"] == "fail"
    line = (await place.smoke(voice.check_voice, credentials=credentials))["voice"]
    assert line["verdict"] == "pass", line


async def test_a_ticket_that_may_be_used_again_is_caught(place):
    """Another close code than 4002 is not a refusal of the ticket."""
    place.proxy.close_code = lambda _: 1000
    assert (await place.smoke(whole.run))["ticket-replay"]["verdict"] == "fail"


async def test_a_refused_upgrade_is_caught_and_what_needs_it_is_skipped(place):
    """One fault is one fail; what could not be tried is skipped, never passed."""
    place.proxy.refuse_sockets = True
    lines = await place.smoke(whole.run)
    assert lines["ws-handshake"]["verdict"] == "fail"
    assert {lines[name]["verdict"] for name in ("room-join", "message", "message-retry", "presence")} == {"skipped"}


async def test_a_call_is_judged_even_where_nobody_can_sign_in(place, credentials):
    """It has sessions of its own and is asked beside everything else: one fault never hides another."""
    place.proxy.answer = answers("/v1/auth/sso/session", 200, {"authenticated": False})
    lines = await place.smoke(whole.run, credentials=credentials)
    assert lines["login"]["verdict"] == "fail"
    assert lines["room-join"]["verdict"] == "skipped"
    assert lines["voice"]["verdict"] == "pass", lines


async def test_a_call_and_everything_else_go_on_at_the_same_time(place, credentials, monkeypatch):
    """The call waits in the middle until all other checks are done, and they do not wait for it."""
    others, take_seat = asyncio.Event(), voice_peer.VoicePeer.take_seat

    async def when_all_are_done(peer):
        async with asyncio.timeout(15):
            await others.wait()
        await take_seat(peer)

    async def told(target, report):
        await check_all(target, report)
        others.set()

    check_all = whole.check_all_but_voice
    monkeypatch.setattr(voice_peer.VoicePeer, "take_seat", when_all_are_done)
    monkeypatch.setattr(whole, "check_all_but_voice", told)
    lines = await place.smoke(whole.run, credentials=credentials)
    assert {line["verdict"] for line in lines.values()} == {"pass"}, lines


async def test_without_an_expectation_the_redirect_is_not_judged(place):
    """The expected host never comes from the server itself; the sentence names the variable."""
    line = (await place.smoke(whole.run, expect_sso_host=""))["sso-redirect"]
    assert line["verdict"] == "inconclusive"
    assert "SMOKE_EXPECT_SSO_HOST" in line["detail"]


async def test_an_sso_that_is_down_is_not_the_releases_fault(place):
    """The login cannot be judged then."""
    place.proxy.answer = answers("/v1/auth/sso/start", 302, b"", location="http://127.0.0.1:1/auth/google")
    lines = await place.smoke(whole.run, expect_sso_host="127.0.0.1:1")
    assert lines["login"]["verdict"] == "error"
    assert "SSO did not answer" in lines["login"]["detail"]


async def test_a_service_that_is_not_there_fails(place):
    """A refused connection is the service's fault."""
    lines = await place.smoke(whole.run, url="http://127.0.0.1:1")
    assert lines["health"]["verdict"] == "fail"
    assert "error" not in {line["verdict"] for line in lines.values()}


async def watch(place, credentials, **changes):
    """The canary for a moment: the proxy is the new slot, the server itself the old one. Its counts and its words."""
    deadline = canary.TAIL_S + 3
    lines = await place.smoke(
        canary.run, deadline, credentials=credentials, **({"old_url": place.server.url} | changes)
    )
    return lines["messages"]["metrics"], lines["messages"]["detail"]


@pytest.mark.drill
async def test_the_canary_sees_no_fault_in_a_good_release(place, credentials):
    """Everything sent on each slot is heard on both, once and in order, and the canary ends before its deadline."""
    began = time.monotonic()
    counts, words = await watch(place, credentials)
    assert time.monotonic() - began < canary.TAIL_S + 2.5
    for slot in ("new", "old"):
        assert counts[slot]["sent"] >= 2
        assert counts[slot]["received"] == canary.LISTENERS * (counts["new"]["sent"] + counts["old"]["sent"])
        assert counts[slot]["connected"] == counts[slot]["listeners"] + counts[slot]["senders"]
        assert [counts[slot][fault] for fault in ("lost", "duplicated", "reordered", "cut")] == [0, 0, 0, 0], words


CANARY_FAULTS = {
    "loses every second message": ("lost", every("chat.message", lambda f, n: [f] * (n % 2))),
    "doubles messages": ("duplicated", every("chat.message", lambda f, _: [f, f])),
}


@pytest.mark.drill
@pytest.mark.parametrize("fault", CANARY_FAULTS)
async def test_the_canary_sees_the_fault_on_the_new_slot_alone(place, credentials, fault):
    """The old slot, on the same database at the same time, is the proof that it is the release."""
    what, place.proxy.frames = CANARY_FAULTS[fault]
    counts, words = await watch(place, credentials)
    assert counts["new"][what] > 0, words
    assert counts["old"][what] == 0


@pytest.mark.drill
async def test_a_slot_that_takes_nothing_loses_what_is_said_to_it(place, credentials):
    """Nothing acknowledged is not a quiet slot: it counts as lost, and as cut."""
    counts, words = await watch(place, credentials, url="http://127.0.0.1:1")
    assert counts["new"]["lost"] > 0, words
    assert counts["new"]["cut"] == canary.LISTENERS + canary.SENDERS, "each once, however often it was tried"
    assert counts["new"]["connected"] == 0
    assert (counts["old"]["lost"], counts["old"]["cut"]) == (0, 0)


@pytest.mark.drill
async def test_a_drain_is_no_fault(place, credentials):
    """A drained slot sends its sockets away; they come back, and nothing is lost, doubled or counted as cut."""
    drained = False

    def socket():
        def frames(frame):
            nonlocal drained
            if frame["type"] == "chat.message" and not drained:
                drained = True
                place.server.server.drain()
            return [frame]

        return frames

    place.proxy.frames = socket
    counts, words = await watch(place, credentials)
    assert drained
    for slot in ("new", "old"):
        assert counts[slot]["drained"] >= canary.LISTENERS, "a sender that had not joined yet is none"
        assert counts[slot]["connected"] == canary.LISTENERS + canary.SENDERS, words
        assert [counts[slot][fault] for fault in ("lost", "duplicated", "reordered", "cut")] == [0, 0, 0, 0], words


@pytest.mark.drill
async def test_a_slot_that_cuts_sockets_is_seen_and_the_old_one_is_not_blamed(place, credentials):
    """Everybody on the new slot is sent away once, without notice; they resume, so nothing is lost by it."""

    def socket():
        def frames(frame):
            if frame["type"] == "chat.message" and len(cut) < canary.LISTENERS:
                cut.append(frame)
                raise RuntimeError("as if the connection broke")
            return [frame]

        return frames

    cut: list[dict] = []
    place.proxy.frames = socket
    counts, words = await watch(place, credentials)
    assert counts["new"]["cut"] == canary.LISTENERS, words
    assert (counts["old"]["cut"], counts["new"]["drained"], counts["new"]["lost"]) == (0, 0, 0), words


@pytest.mark.drill
async def test_calls_on_both_slots_at_once_do_not_meet(place, credentials):
    """Each side has its people and its room in the database they share: four calls, two at a time, all come up."""
    for _ in range(2):
        new, old = await asyncio.gather(
            place.smoke(voice.check_call, url=place.server.url, credentials=credentials, side="new"),
            place.smoke(voice.check_call, url=place.server.url, credentials=credentials, side="old"),
        )
        assert [line["call"]["verdict"] for line in (new, old)] == ["pass", "pass"], (new, old)
        assert all(line["call"]["metrics"]["setup_ms"] > 0 for line in (new, old))


async def test_a_call_that_was_killed_does_not_spoil_the_next(place, credentials):
    """It left its seats to the server, which holds them for a while: the next call gives them back and sits anew."""
    with pytest.MonkeyPatch.context() as killed:
        killed.setattr(voice_peer.VoicePeer, "leave", lambda _self: asyncio.sleep(0))
        assert (await place.smoke(voice.check_call, credentials=credentials))["call"]["verdict"] == "pass"
    line = (await place.smoke(voice.check_call, credentials=credentials))["call"]
    assert line["verdict"] == "pass", line


async def test_a_call_of_a_side_that_was_not_prepared_is_skipped(place, credentials):
    """There are two sides; the sentence names the third."""
    line = (await place.smoke(voice.check_call, credentials=credentials, side="third"))["call"]
    assert line["verdict"] == "skipped"
    assert "'third'" in line["detail"]
