"""The wire contract over real sockets, rule by rule; what is said through one process is heard through another."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest
from websockets.exceptions import InvalidStatus

from boltorezka.adapters.realtime import RealtimeSettings
from boltorezka.ports import NewEvent
from boltorezka.rooms.connection import CHAT, DEFAULT_FRAMES, DEFAULT_RATES
from boltorezka.rooms.limits import Rate
from boltorezka.rooms.model import EventKind, Role, Room

DEADLINE_S = 15.0
WINDOW_S = 600

# What each event of the server holds at least, as the contract writes it; more may be added.
FIELDS = {
    "server.ready": "userId userName connectedAt connectionId heartbeatMs",
    "server.heartbeat": "rooms",
    "pong": "ts",
    "ack": "requestId eventType ts",
    "nack": "requestId eventType code message retryable ts",
    "room.joined": "roomId roomSlug roomTitle epoch lastSeq",
    "room.delta": "roomSlug epoch fromSeq toSeq events",
    "room.reset": "roomSlug epoch lastSeq",
    "room.presence": "roomId roomSlug users",
    "room.left": "",
    "room.read": "seq",
    "presence.joined": "userId userName roomSlug presenceCount",
    "presence.left": "userId userName roomSlug presenceCount",
    "chat.message": "id roomId roomSlug userId userName text createdAt seq epoch senderRequestId",
    "chat.edited": "id roomId roomSlug text editedAt editedByUserId seq epoch",
    "chat.deleted": "id roomId roomSlug deletedByUserId ts seq epoch",
    "chat.typing": "userId roomSlug",
    "member.joined": "userId seq epoch",
    "call.initial_state": "roomSlug participants",
    "call.joined": "userId seatId",
}
ACKS = {
    "room.join": "roomId roomSlug",
    "chat.send": "messageId seq",
    "call.join": "seatId engine iceServers participants engineData",
}
DURABLE = {"chat.message", "chat.edited", "chat.deleted", "member.joined", "member.left"}
# Positions of a log, which are no events of it.
PLACED = {"ack", "room.joined", "room.delta", "room.reset", "room.read"}


class MovedClock:
    """The machine's clocks, that can be put forward."""

    def __init__(self, clock) -> None:
        self._clock = clock
        self.ahead_s = 0

    def now(self) -> int:
        return self._clock.now() + self.ahead_s * 1_000_000

    def monotonic(self) -> float:
        return self._clock.monotonic()


def legal(frame: dict) -> dict:
    """The payload of a frame, after comparing it with the contract."""
    kind, payload = frame["type"], frame["payload"]
    assert set(FIELDS[kind].split()) <= set(payload), frame
    if kind == "ack":
        assert set(ACKS.get(payload["eventType"], "").split()) <= set(payload), frame
    if kind in DURABLE:
        assert isinstance(payload["epoch"], str)
        assert 0 < payload["seq"] < 2**53
    elif kind not in PLACED:
        assert not {"seq", "epoch"} & set(payload), frame
    return payload


async def asked(talker, kind: str, payload: dict | None = None, key: str | None = None) -> dict:
    """Ask, and answer the ack or nack itself."""
    request_id = await talker.say(kind, payload, key)
    while True:
        frame = (await talker.until("ack", "nack"))[-1]
        if frame["payload"]["requestId"] == request_id:
            return frame


async def acked(talker, kind: str, payload: dict | None = None, key: str | None = None) -> dict:
    """The payload of the ack."""
    frame = await asked(talker, kind, payload, key)
    assert frame["type"] == "ack", frame
    return legal(frame)


async def nacked(talker, kind: str, payload: dict | None = None, key: str | None = None) -> str:
    """The code of the nack."""
    frame = await asked(talker, kind, payload, key)
    assert frame["type"] == "nack", frame
    return legal(frame)["code"]


async def heard(talker, kind: str) -> dict:
    """The payload of the next frame of this type."""
    return legal((await talker.until(kind))[-1])


async def all_until_pong(talker) -> list[dict]:
    """Everything that came before the answer to a ping: what is not in it was not said before."""
    request_id = await talker.say("ping")
    frames = await talker.until("pong")
    assert (await talker.hear())["payload"]["requestId"] == request_id
    return frames[:-1]


async def position(talker) -> tuple[str, int]:
    """Epoch and seq of a message that is said now."""
    await talker.say("chat.send", {"text": "a mark"})
    frames: dict[str, dict] = {}
    while not {"ack", "chat.message"} <= set(frames):  # in any order: behind a gap the message waits for the log
        frame = await talker.hear()
        frames[frame["type"]] = frame["payload"]
    return frames["chat.message"]["epoch"], frames["chat.message"]["seq"]


async def passed_on(talker, said: str, payload: dict, listener) -> dict:
    """Say it until the listener hears it: what is ephemeral may be lost while two processes get to know each other."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            await acked(talker, said, payload)
            for frame in await all_until_pong(listener):
                if frame["type"] == said:
                    return legal(frame)


@pytest.fixture
async def two(rooms_on):
    """Two servers on one database."""
    async with rooms_on("one") as first, rooms_on("two") as second:
        yield first, second


@pytest.fixture
async def den(two):
    """A private room of Ann's, with Bob; each of them in it through a server of their own."""
    one, other = two
    for name in ("ann", "bob"):
        await one.person(name)
    room = Room("room-den", "den", "Den", False, one.clock.now(), "epoch-den", 0)
    await one.store.create_room(room, "user-ann", "made-den")
    await one.realtime.store_event(membership(one, EventKind.JOINED, "bob"))
    return await one.talker("ann", "den"), await other.talker("bob", "den")


def membership(rooms, kind: EventKind, name: str) -> NewEvent:
    """What adding somebody to the private room, or removing them, stores."""
    now = rooms.clock.now()
    return NewEvent("room-den", kind, f"{kind}-{name}", f"user-{name}", name.title(), "member", now, ref="user-ann")


# events and their fields


async def test_every_event_of_a_text_room_has_the_fields_of_the_contract(rooms_on):
    """Whatever is said in a room has at least the fields of the contract; ephemeral events never have a position."""
    async with rooms_on(heartbeat_s=0.01) as rooms:
        ann, bob = await rooms.dial(await rooms.ticket("ann")), await rooms.dial(await rooms.ticket("bob"))
        tab = await rooms.talker("ann")
        frames = [await ann.hear(), *await ann.join(after={"epoch": "another", "seq": 0}), ann.in_voice]
        frames += [await bob.hear(), *await bob.join(after={"epoch": "another", "seq": 0})]
        sent = await acked(bob, "chat.send", {"text": "hi"}, key="k")
        assert sent["idempotencyKey"] == "k"
        for kind, payload in (
            ("chat.edit", {"messageId": sent["messageId"], "text": "ho"}), ("chat.typing", {}),
            ("chat.delete", {"messageId": sent["messageId"]}), ("room.leave", {}),
        ):  # fmt: skip
            await bob.say(kind, payload)
            frames += await bob.until("ack")
        frames += await ann.until("presence.left")
        await acked(ann, "room.read", {"seq": sent["seq"]})
        frames += await tab.until("room.read")
        await ann.say("resume", {"rooms": [{"roomSlug": "general", "epoch": frames[1]["payload"]["epoch"], "seq": 0}]})
        frames += [*await ann.until("ack"), *await ann.until("server.heartbeat")]
        assert await nacked(ann, "no.such") == "UnknownEvent"
        for frame in frames:
            legal(frame)
        assert {frame["type"] for frame in frames} >= set(FIELDS) - {"nack", "pong", "call.joined"}


async def test_joining_is_told_in_the_order_of_the_contract_while_others_talk(rooms):
    """room.joined, delta, presence, ack, then live events; delta and live events together have no hole, no double."""
    ann = await rooms.talker("ann")
    epoch, seq = await position(ann)
    for number in range(10):
        bob = await rooms.talker(f"bob{number}", room=None)
        for text in range(10):
            await ann.say("chat.send", {"text": f"{number} {text}"})
        frames = await bob.join(after={"epoch": epoch, "seq": seq})
        assert [frame["type"] for frame in frames] == ["room.joined", "room.delta", "room.presence", "ack"]
        await ann.say("chat.send", {"text": f"last {number}"})
        live = [legal(frame) for frame in await bob.until("chat.message") if frame["type"] in DURABLE]
        while live[-1]["text"] != f"last {number}":
            live += [legal(frame) for frame in await bob.until("chat.message") if frame["type"] in DURABLE]
        seqs = [event["payload"]["seq"] for event in frames[1]["payload"]["events"]] + [event["seq"] for event in live]
        assert seqs == list(range(seq + 1, seq + 1 + len(seqs)))
        await bob.ws.close()


async def test_every_request_gets_exactly_one_answer(rooms):
    """Good, bad and unknown requests sent at once are each acked or refused exactly once."""
    ann = await rooms.talker("ann")
    message = await acked(ann, "chat.send", {"text": "hi"})
    epoch, seq = await position(ann)
    requests = [
        ("ping", {}), ("room.join", {"roomSlug": "general", "after": {"epoch": epoch, "seq": seq}}),
        ("chat.send", {"text": "a"}), ("chat.send", {"text": ""}), ("chat.send", {"text": "x" * 4000}),
        ("chat.send", {"text": "x" * 4001}), ("chat.edit", {"messageId": message["messageId"], "text": "b"}),
        ("chat.edit", {"messageId": "nobody's", "text": "b"}), ("chat.typing", {}), ("room.read", {"seq": 1}),
        ("room.read", {"seq": -1}), ("resume", {"rooms": []}), ("room.join", {"roomSlug": "nowhere"}),
        ("resume", {"rooms": [{"roomSlug": "general", "epoch": epoch, "seq": 0}]}), ("auth", {"ticket": "again"}),
        ("call.join", {}), ("call.offer", {"signal": {}}), ("call.offer", {"signal": {}, "targetUserId": "nobody"}),
        ("call.mic_state", {"muted": True}), ("call.hangup", {}), ("call.leave", {}), ("call.leave", {}),
        ("chat.delete", {"messageId": message["messageId"]}), ("chat.delete", {"messageId": message["messageId"]}),
        ("no.such", {}), ("room.leave", {}), ("room.leave", {}), ("chat.send", {"text": "outside"}),
    ]  # fmt: skip
    expected = [await ann.say(kind, payload) for _ in range(3) for kind, payload in requests]
    answers: Counter[str] = Counter()
    while set(answers) != set(expected):
        answers[legal((await ann.until("ack", "nack"))[-1])["requestId"]] += 1
    assert not [frame for frame in await all_until_pong(ann) if frame["type"] in {"ack", "nack"}]
    assert set(answers.values()) == {1}


async def test_a_text_has_one_to_four_thousand_characters(rooms):
    """Characters are counted, not bytes: 4000 of the widest go through, one more does not."""
    ann = await rooms.talker("ann")
    await acked(ann, "chat.send", {"text": "\N{GRINNING FACE}" * 4000})
    assert (await rooms.talker("bob")) is not None
    for text in ("", "\N{GRINNING FACE}" * 4001):
        assert await nacked(ann, "chat.send", {"text": text}) == "ValidationError"


# changes, typing, read pointers, resume: over two processes


async def test_changes_are_heard_through_both_processes_with_the_next_seq(two):
    """An edit through one process and a delete through the other reach everybody, their author too, in order."""
    one, other = two
    ann, tab, bob = await one.talker("ann"), await other.talker("ann"), await other.talker("bob")
    sent = await acked(ann, "chat.send", {"text": "hi"})
    await bob.messages(1)
    edited = await acked(tab, "chat.edit", {"messageId": sent["messageId"], "text": "ho"})
    deleted = await acked(ann, "chat.delete", {"messageId": sent["messageId"]})
    assert [sent["seq"] + 1, sent["seq"] + 2] == [edited["seq"], deleted["seq"]]
    assert {edited["messageId"], deleted["messageId"]} == {sent["messageId"]}
    change = await heard(bob, "chat.edited")
    assert (change["id"], change["text"], change["editedByUserId"]) == (sent["messageId"], "ho", "user-ann")
    assert change["seq"] == edited["seq"]
    gone = await heard(bob, "chat.deleted")
    assert (gone["id"], gone["deletedByUserId"], gone["seq"]) == (sent["messageId"], "user-ann", deleted["seq"])
    assert (await heard(tab, "chat.deleted"))["seq"] == deleted["seq"]


async def test_only_ones_own_messages_can_be_changed_and_only_for_ten_minutes(rooms_on, rooms):
    """Somebody else's: Forbidden; none: MessageNotFound; after the window each change has its own code."""
    clock = MovedClock(rooms.clock)
    async with rooms_on("two", clock) as later:
        ann, bob = await later.talker("ann"), await later.talker("bob")
        sent = {"messageId": (await acked(ann, "chat.send", {"text": "hi"}))["messageId"]}
        assert await nacked(bob, "chat.edit", {**sent, "text": "ho"}) == "Forbidden"
        assert await nacked(bob, "chat.delete", sent) == "Forbidden"
        assert await nacked(ann, "chat.edit", {"messageId": "none", "text": "ho"}) == "MessageNotFound"
        assert await nacked(ann, "chat.delete", {"messageId": "none"}) == "MessageNotFound"
        clock.ahead_s = WINDOW_S - 30
        await acked(ann, "chat.edit", {**sent, "text": "in time"})
        clock.ahead_s = WINDOW_S + 1
        assert await nacked(ann, "chat.edit", {**sent, "text": "late"}) == "EditWindowExpired"
        assert await nacked(ann, "chat.delete", sent) == "DeleteWindowExpired"


async def test_a_repeated_key_through_another_process_is_the_first_message(two):
    """The client that moved over repeats its message: the same id and seq, `duplicate`, and nobody hears it twice."""
    one, other = two
    ann, tab, bob = await one.talker("ann"), await other.talker("ann"), await other.talker("bob")
    first = await acked(ann, "chat.send", {"text": "hi"}, key="k")
    await bob.messages(1)
    again = await acked(tab, "chat.send", {"text": "hi"}, key="k")
    assert (again["messageId"], again["seq"], again["duplicate"]) == (first["messageId"], first["seq"], True)
    assert await nacked(tab, "chat.send", {"text": "ho"}, key="k") == "IdempotencyConflict"
    await acked(ann, "chat.send", {"text": "next"}, key="k2")
    assert [message["text"] for message in await bob.messages(1)] == ["next"]


async def test_typing_reaches_others_of_both_processes_and_too_much_of_it_is_left_out(two):
    """Every request is acked; the others hear some, the typist's own tabs nothing."""
    one, other = two
    ann, tab = await one.talker("ann"), await other.talker("ann")
    near, far = await one.talker("bob"), await other.talker("cid")
    for talker in (near, far):
        typing = await passed_on(ann, "chat.typing", {}, talker)
        assert (typing["userId"], typing["userName"], typing["roomSlug"]) == ("user-ann", "Ann", "general")
    await acked(ann, "chat.send", {"text": "typed"})
    until = await tab.until("chat.message")
    assert "chat.typing" not in {frame["type"] for frame in until + await all_until_pong(ann)}


async def test_typing_is_coalesced(rooms_on):
    """Beyond the default pace typing is acked and not passed on."""
    async with rooms_on(rates=DEFAULT_RATES) as rooms:
        ann, bob = await rooms.talker("ann"), await rooms.talker("bob")
        for _ in range(100):
            await ann.say("chat.typing")
        for _ in range(100):
            assert (await ann.until("ack", "nack"))[-1]["type"] == "ack"
        await ann.say("chat.send", {"text": "typed"})
        told = sum(frame["type"] == "chat.typing" for frame in await bob.until("chat.message"))
        assert 0 < told < 100


async def test_the_read_pointer_moves_forward_only_and_for_all_tabs(two):
    """Through either process the ack says where it is; tabs elsewhere hear it, other people do not; unread follows."""
    one, other = two
    ann, bob = await one.talker("ann"), await other.talker("bob")
    tab = await other.talker("ann", room=None)
    seqs = [(await acked(bob, "chat.send", {"text": text}))["seq"] for text in "abc"]
    await ann.messages(3)
    assert (await acked(ann, "room.read", {"seq": seqs[1]}))["seq"] == seqs[1]
    assert (await passed_on(ann, "room.read", {"seq": seqs[1]}, tab))["seq"] == seqs[1]
    await tab.join()
    assert (await acked(tab, "room.read", {"seq": seqs[0]}))["seq"] == seqs[1]
    for rooms in two:
        (view,) = await rooms.store.rooms_for("user-ann")
        assert (view.unread, view.room.last_seq) == (1, view.room.last_seq)
    assert (await acked(tab, "room.read", {"seq": 2**53 - 1}))["seq"] >= seqs[2]
    (view,) = await one.store.rooms_for("user-ann")
    assert view.unread == 0
    assert "room.read" not in {frame["type"] for frame in await all_until_pong(bob)}


async def test_resume_brings_what_was_missed_of_each_room_through_another_process(two):
    """Per room, in the order asked, a contiguous delta or a reset, then one ack; the socket stays where it is."""
    one, other = two
    await one.store.ensure_room(Room("room-other", "other", "Other", True, one.clock.now(), "epoch-other", 0))
    ann = await one.talker("ann")
    epoch, seq = await position(ann)
    for number in range(300):
        await acked(ann, "chat.send", {"text": str(number)})
    bob = await other.talker("bob", room=None)
    wanted = [
        {"roomSlug": "general", "epoch": epoch, "seq": seq}, {"roomSlug": "other", "epoch": "gone", "seq": 5},
        {"roomSlug": "general", "epoch": epoch, "seq": seq - 1},
        {"roomSlug": "general", "epoch": epoch, "seq": seq + 300},
    ]  # fmt: skip
    await bob.say("resume", {"rooms": wanted})
    frames = await bob.until("ack", "nack")
    told = [(frame["type"], legal(frame).get("roomSlug")) for frame in frames]
    assert told == [
        ("room.delta", "general"), ("room.reset", "other"), ("room.reset", "general"), ("room.delta", "general"),
        ("ack", None),
    ]  # fmt: skip
    delta = frames[0]["payload"]
    assert (delta["fromSeq"], delta["toSeq"]) == (seq + 1, seq + 300)
    assert [event["payload"]["seq"] for event in delta["events"]] == list(range(seq + 1, seq + 301))
    assert all(legal(event)["epoch"] == epoch for event in delta["events"])
    assert (frames[2]["payload"]["epoch"], frames[2]["payload"]["lastSeq"]) == (epoch, seq + 300)
    assert frames[3]["payload"]["events"] == []
    assert await nacked(bob, "chat.send", {"text": "nowhere"}) == "NoActiveRoom"
    assert await nacked(bob, "resume", {"rooms": [{"roomSlug": "none", "epoch": "e", "seq": 1}]}) == "RoomNotFound"


# who may: removal, bans, roles


async def test_a_removed_member_is_out_of_everything_on_every_process(two, den):
    """Live events, typing, voice, history and resume of a private room end with the removal, wherever it was made."""
    one, other = two
    ann, bob = den
    watching = await other.talker("bob", room=None)
    for talker in den:
        await acked(talker, "call.join")
    while (await heard(ann, "call.joined"))["userId"] != "user-bob":
        pass
    epoch, seq = await position(ann)
    assert {message["text"] for message in await bob.messages(1)} == {"a mark"}
    await one.realtime.store_event(membership(one, EventKind.LEFT, "bob"))
    assert (await ann.until("call.left"))[-1]["payload"]["userId"] == "user-bob"
    await acked(ann, "chat.send", {"text": "among us"})
    assert "among us" not in json.dumps(await bob.until("room.left"))
    for kind, payload in (
        ("chat.send", {"text": "hi"}), ("chat.typing", {}), ("room.read", {"seq": 1}),
        ("call.join", {}), ("call.offer", {"signal": {}}),
    ):  # fmt: skip
        assert await nacked(bob, kind, payload) in {"NoActiveRoom", "Forbidden"}, kind
    seen = {"roomSlug": "den", "epoch": epoch, "seq": seq}
    for talker in (bob, watching):
        assert await nacked(talker, "resume", {"rooms": [seen]}) == "RoomNotFound"
        assert await nacked(talker, "room.join", {"roomSlug": "den", "after": seen}) == "RoomNotFound"
    for rooms in two:
        assert rooms.realtime.recent("den", "user-bob", 50) is None
        assert (await rooms.store.entrance("den", "user-bob")).member is None
    await acked(ann, "chat.send", {"text": "still among us"})
    assert "among us" not in json.dumps(await all_until_pong(bob))


async def test_a_ban_closes_the_sockets_of_every_process(two):
    """Decided through one process, 4003 after the reason through both; nobody else is touched, no ticket is good."""
    one, other = two
    bobs = [await one.talker("bob"), await other.talker("bob"), await other.talker("bob", room=None)]
    ann = await other.talker("ann")
    late = await one.ticket("bob")
    one.realtime.user_changed(await one.store.set_banned("user-bob", True, one.clock.now()))
    for talker in bobs:
        frames, code = await talker.closed()
        assert (frames[-1]["payload"]["code"], code) == ("Banned", 4003)
    frames, code = await (await other.dial(late)).closed()
    assert ([frame["payload"]["code"] for frame in frames], code) == (["InvalidTicket"], 4002)
    await acked(ann, "ping")


async def test_a_new_role_counts_on_every_process(two):
    """Who was made an admin through one process may silence others through the other, and no longer when demoted."""
    one, other = two
    ann, bob = await one.talker("ann"), await other.talker("bob")
    await acked(ann, "call.join")
    await bob.until("call.joined")
    mute = {"targetUserId": "user-ann", "action": "mute"}
    assert await nacked(bob, "call.moderate", mute) == "Forbidden"
    one.realtime.user_changed(await one.store.set_role("user-bob", Role.ADMIN, one.clock.now()))
    await becomes(bob, "ack", mute)
    one.realtime.user_changed(await one.store.set_role("user-bob", Role.USER, one.clock.now()))
    await becomes(bob, "nack", mute)


async def becomes(talker, answer: str, mute: dict) -> None:
    """Ask to moderate until it is answered so: the other process hears of a new role a moment later."""
    async with asyncio.timeout(DEADLINE_S):
        while (await asked(talker, "call.moderate", mute))["type"] != answer:
            pass


# coming in


@pytest.mark.parametrize(
    "origin",
    [
        "null", "https://rooms.example.evil.example", "https://evil-rooms.example", "http://rooms.example",
        "https://rooms.example:444", "https://rooms.example/", "https://ROOMS.example", "https://sub.rooms.example",
    ],
)  # fmt: skip
async def test_an_origin_is_compared_exactly(rooms, origin):
    """What only resembles an allowed page is refused at the upgrade, whatever ticket it has."""
    with pytest.raises(InvalidStatus) as refused:
        await rooms.dial(await rooms.ticket("ann"), origin=origin)
    assert refused.value.response.status_code == 403
    body = json.loads(refused.value.response.body)
    assert (body["error"], body["retryable"]) == ("Forbidden", False)


async def test_a_ticket_that_is_no_good_is_refused_with_its_reason(rooms):
    """Expired, corrupted, empty: `error` InvalidTicket, then 4002; in a frame as in the address."""
    good = await rooms.ticket("ann")
    for bad in (await rooms.ticket("ann", ttl_s=-1), good[:-1] + "_" * 2, "x", "%00", "x" * 400):
        frames, code = await (await rooms.dial(bad)).closed()
        assert ([frame["payload"]["code"] for frame in frames], code) == (["InvalidTicket"], 4002), bad
    talker = await rooms.dial()
    await talker.say("auth", {"ticket": "wrong"})
    frames, code = await talker.closed()
    assert (frames[-1]["payload"]["code"], code) == ("InvalidTicket", 4002)


async def test_a_ticket_of_an_ended_session_says_so(rooms):
    """Revoked between the ticket and the socket: `error` SessionEnded, then 4009."""
    session_id = await rooms.person("ann")
    ticket = await rooms.ticket("ann", session_id)
    await rooms.store.revoke_session(session_id, rooms.clock.now())
    frames, code = await (await rooms.dial(ticket)).closed()
    assert (frames[-1]["payload"]["code"], code) == ("SessionEnded", 4009)


async def test_a_ban_during_the_check_of_the_ticket_is_told(rooms):
    """Decided between the ticket and its session, which a ban ends too: `error` Banned, then 4003."""
    ticket, take = await rooms.ticket("ann"), rooms.store.take_ticket

    async def take_and_ban(ticket_hash: bytes):
        grant = await take(ticket_hash)
        await rooms.store.set_banned("user-ann", True, rooms.clock.now())
        return grant

    rooms.store.take_ticket = take_and_ban
    frames, code = await (await rooms.dial(ticket)).closed()
    assert ([frame["payload"]["code"] for frame in frames], code) == (["Banned"], 4003)


async def test_a_socket_ends_with_its_session(rooms_on, rooms):
    """A session that ran out ends its sockets with 4009 at the next heartbeat."""
    clock = MovedClock(rooms.clock)
    async with rooms_on("two", clock, heartbeat_s=0.01) as later:
        ann = await later.talker("ann")
        clock.ahead_s = 3601
        frames, code = await ann.closed()
        assert (frames[-1]["payload"]["code"], code) == ("SessionEnded", 4009)


@pytest.fixture
async def slow_check(rooms):
    """A server whose ticket checks wait for `set`."""
    gate, take = asyncio.Event(), rooms.store.take_ticket

    async def later(ticket_hash: bytes):
        await gate.wait()
        return await take(ticket_hash)

    rooms.store.take_ticket = later
    return gate


def bounds() -> tuple[int, int, float]:
    """Frames, bytes and seconds before a ticket is checked, as the server has them by default."""
    defaults = RealtimeSettings()
    return defaults.pre_auth_frames, defaults.pre_auth_bytes, defaults.auth_timeout_s


@pytest.mark.parametrize("in_frame", [False, True])
async def test_thirty_two_frames_wait_for_the_ticket_in_order(rooms, slow_check, in_frame):
    """Those before the check are served after it, in order and without a loss, wherever the ticket stood."""
    assert bounds() == (32, 64 * 1024, 5.0)
    ticket = await rooms.ticket("ann")
    early = await rooms.dial(None if in_frame else ticket)
    if in_frame:
        await early.ws.send(json.dumps({"type": "auth", "payload": {"ticket": ticket}}))
    sent = [await early.say("room.join", {"roomSlug": "general"})]
    sent += [await early.say("chat.send", {"text": str(number)}) for number in range(31)]
    await served(early)
    slow_check.set()
    assert (await early.hear())["type"] == "server.ready"
    frames = []
    while sum(frame["type"] in {"ack", "nack"} for frame in frames) < 32:
        frames.append(await early.hear())
    assert [frame["payload"]["requestId"] for frame in frames if frame["type"] == "ack"] == sent
    texts = [frame["payload"]["text"] for frame in frames if frame["type"] == "chat.message"]
    assert texts == [str(number) for number in range(31)]


async def served(talker) -> None:
    """Wait until the server has read everything that was sent: it answers a ping of the protocol in its order."""
    async with asyncio.timeout(DEADLINE_S):
        await (await talker.ws.ping())


@pytest.mark.parametrize(("count", "size"), [(33, 0), (3, 30_000)])
async def test_more_than_may_wait_for_the_ticket_is_refused(rooms, slow_check, count, size):
    """The 33rd frame, or more than 64 KiB, before the check: told, and closed with 1008."""
    greedy = await rooms.dial(await rooms.ticket("ann"))
    for _ in range(count):
        await greedy.ws.send(json.dumps({"type": "ping", "payload": {"x": "x" * size}}))
    frames, code = await greedy.closed()
    assert (frames[-1]["payload"]["code"], code) == ("RateLimited", 1008)


async def test_a_check_that_takes_too_long_is_given_up(rooms_on):
    """When the store does not answer in time the client is told to try again later."""
    async with rooms_on(auth_timeout_s=0.05) as rooms:
        never = asyncio.Event()

        async def hang(_ticket_hash: bytes):
            await never.wait()

        rooms.store.take_ticket = hang
        frames, code = await (await rooms.dial("any")).closed()
        assert (frames[-1]["payload"]["retryable"], code) == (True, 1013)


async def test_the_server_says_what_it_promises_when_it_is_ready(rooms):
    """The user, the connection and the heartbeat of 25 s."""
    ready = legal(await (await rooms.dial(await rooms.ticket("ann"))).hear())
    assert (ready["userId"], ready["userName"]) == ("user-ann", "Ann")
    assert (ready["heartbeatMs"], type(ready["connectionId"])) == (25_000, str)


# bounds of a socket


async def test_too_fast_is_refused_with_a_time_and_then_closed(rooms_on):
    """Beyond the pace RateLimited with retryAfterMs, which is enough; two hundred refusals in a row: 1008."""
    rates = {**DEFAULT_RATES, CHAT: Rate(20, 5)}
    async with rooms_on(rates=rates) as rooms:
        ann, bob = await rooms.talker("ann"), await rooms.talker("bob")
        for _ in range(6):
            await ann.say("chat.send", {"text": "x"})
        nack = (await ann.until("nack"))[-1]["payload"]
        assert (nack["code"], nack["retryable"], nack["eventType"]) == ("RateLimited", True, "chat.send")
        assert 1 <= nack["retryAfterMs"] <= 51
        await acked(ann, "ping")
        await acked(bob, "chat.send", {"text": "unhindered"})
    async with rooms_on("two", frames=Rate(0.001, 5)) as rooms:
        flood = await rooms.talker("eve", room=None)
        for _ in range(400):
            await flood.say("ping")
        frames, code = await flood.closed()
        nacks = [frame for frame in frames if frame["type"] == "nack"]
        assert all(frame["payload"]["code"] == "RateLimited" for frame in nacks)
        assert (len(nacks), frames[-1]["payload"]["code"], code) == (201, "RateLimited", 1008)
    assert DEFAULT_FRAMES.burst >= 4 * DEFAULT_FRAMES.per_s


async def test_a_consumer_that_reads_again_in_time_learns_why(rooms_on):
    """Cut for being slow, it gets `error` SlowConsumer and 4008 behind what was already on its way."""
    async with rooms_on(send_queue_bytes=100_000, unanswered=2000, close_grace_s=DEADLINE_S) as rooms:
        slow, fast = await rooms.talker("sam"), await rooms.talker("ann")
        slow.ws.transport.pause_reading()
        while not rooms.metrics.counts["dropped slow_consumer"]:
            await fast.say("chat.send", {"text": "x" * 4000})
            await fast.messages(1)
        slow.ws.transport.resume_reading()
        frames, code = await slow.closed()
        assert (frames[-1]["type"], frames[-1]["payload"]["code"], code) == ("error", "SlowConsumer", 4008)
        seqs = [frame["payload"]["seq"] for frame in frames if frame["type"] == "chat.message"]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))


# processes of their own


@pytest.mark.drill
async def test_changes_typing_reading_and_resume_cross_between_processes(process_on):
    """Two OS processes on one database: what one person changes, types and reads reaches tabs of the other."""
    first, second = await process_on("one", "ann", "bob"), await process_on("two", "ann", "cid")
    ann, bob = await first.talker("ann"), await first.talker("bob")
    tab, cid = await second.talker("ann"), await second.talker("cid")
    epoch, seq = await position(ann)
    assert (await passed_on(ann, "chat.typing", {}, cid))["userId"] == "user-ann"
    sent = await acked(tab, "chat.send", {"text": "hi"})
    await acked(ann, "chat.edit", {"messageId": sent["messageId"], "text": "ho"})
    for talker in (bob, cid):
        assert (await heard(talker, "chat.edited"))["text"] == "ho"
    await acked(tab, "chat.delete", {"messageId": sent["messageId"]})
    for talker in (bob, cid):
        assert (await heard(talker, "chat.deleted"))["id"] == sent["messageId"]
    assert (await passed_on(ann, "room.read", {"seq": seq}, tab))["seq"] == seq
    await cid.say("resume", {"rooms": [{"roomSlug": "general", "epoch": epoch, "seq": seq}]})
    delta = next(frame for frame in await cid.until("ack") if frame["type"] == "room.delta")["payload"]
    assert [event["type"] for event in delta["events"]] == ["chat.message", "chat.edited", "chat.deleted"]
    assert [event["payload"].get("text", "") for event in delta["events"]] == ["", "", ""]
