"""The wire contract over real sockets, event by event; what is said through one process is heard through another."""

from __future__ import annotations

from collections import Counter

import pytest

from boltorezka.rooms.model import Room

from .contract import DURABLE, FIELDS, MovedClock, acked, all_until_pong, heard, legal, nacked, passed_on, position

WINDOW_S = 600


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
