"""What people do in a room, against the core: edit, delete, typing, read pointers, resume."""

from __future__ import annotations

import pytest

from boltorezka.rooms.access import CHANGE_WINDOW_US
from boltorezka.rooms.hints import Committed, Look, Relay


def sent(world, key: int, text: str = "hello") -> str:
    """A message; its id."""
    world.say(key, "chat.send", {"text": text}, requestId="s")
    world.settle()
    return world.last(key, "ack")["messageId"]


def test_an_edit_and_a_delete_are_events_for_everybody(world):
    """Each takes a seq, names the message and who did it, and is acked with the message's id."""
    world.joined(1, "u1")
    world.joined(2, "u2")
    message = sent(world, 1)
    world.say(1, "chat.edit", {"messageId": message, "text": "hello, all"}, requestId="e")
    world.settle()
    assert (world.last(1)["messageId"], world.last(1)["seq"]) == (message, 4)
    edited = world.last(2)
    assert (edited["id"], edited["text"], edited["editedByUserId"], edited["seq"]) == (message, "hello, all", "u1", 4)
    world.say(1, "chat.delete", {"messageId": message}, requestId="d")
    world.settle()
    assert world.kinds(2)[-1] == "chat.deleted"
    assert (world.last(2)["id"], world.last(2)["deletedByUserId"], world.last(2)["seq"]) == (message, "u1", 5)


@pytest.mark.parametrize(("kind", "code"), [("edit", "EditWindowExpired"), ("delete", "DeleteWindowExpired")])
def test_after_ten_minutes_a_message_stays_as_it_is(world, kind, code):
    """One microsecond after the window the change is refused by its own code; at its end it is accepted."""
    world.joined(1)
    message = sent(world, 1)
    payload = {"messageId": message, "text": "x"} if kind == "edit" else {"messageId": message}
    world.now += CHANGE_WINDOW_US + 1
    world.say(1, f"chat.{kind}", payload, requestId="late")
    world.settle()
    assert world.last(1)["code"] == code
    world.now -= 1
    world.say(1, f"chat.{kind}", payload, requestId="in time")
    world.settle()
    assert world.kinds(1)[-1] == "ack"


def test_only_the_author_changes_a_message_and_only_one_that_is_there(world):
    """Somebody else is Forbidden; an unknown and a deleted message are MessageNotFound."""
    world.joined(1, "u1")
    world.joined(2, "u2")
    message = sent(world, 1)
    for key, target, code in ((2, message, "Forbidden"), (1, "nothing", "MessageNotFound")):
        world.say(key, "chat.edit", {"messageId": target, "text": "x"}, requestId="e")
        world.settle()
        assert world.last(key)["code"] == code
    for expected in ("ack", "nack"):
        world.say(1, "chat.delete", {"messageId": message}, requestId="d")
        world.settle()
        assert world.kinds(1)[-1] == expected
    assert world.last(1)["code"] == "MessageNotFound"


def test_what_was_taken_back_is_not_told_to_those_who_come_later(world):
    """A delta after a delete has the events in their places, with no text of the message or of its edits."""
    world.joined(1, "u1")
    message = sent(world, 1, "a secret")
    world.say(1, "chat.edit", {"messageId": message, "text": "my secret"})
    world.say(1, "chat.delete", {"messageId": message})
    world.settle()
    world.joined(2, "u2")
    world.say(2, "room.join", {"roomSlug": "general", "after": {"epoch": "e1", "seq": 0}})
    world.settle()
    events = world.last(2, "room.delta")["events"]
    assert [event["type"] for event in events] == [
        "member.joined", "chat.message", "chat.edited", "chat.deleted", "member.joined",
    ]  # fmt: skip
    assert "secret" not in str(events)


def test_typing_reaches_the_others_and_too_much_of_it_is_left_out(world):
    """Not the typist's own tabs; acked always; beyond the pace it is neither relayed nor refused."""
    for key, user in {1: "u1", 2: "u1", 3: "u2"}.items():
        world.joined(key, user)
    for number in range(30):
        world.say(1, "chat.typing", {}, requestId=str(number))
    assert world.kinds(3).count("chat.typing") == 20
    assert "chat.typing" not in world.kinds(1) + world.kinds(2)
    assert world.kinds(1)[-30:] == ["ack"] * 30
    relays = [hint for hint in world.published if isinstance(hint, Relay)]
    assert len(relays) == 20
    world.run(world.core.relayed(relays[0]))
    assert world.kinds(3).count("chat.typing") == 21
    assert "chat.typing" not in world.kinds(1)


def test_a_read_pointer_is_told_to_the_users_other_tabs(world):
    """The ack says where the pointer is, never backwards; other tabs hear it wherever they are, other people do not."""
    world.joined(1, "u1")
    world.opened(2, "u1")
    world.joined(3, "u2")
    for seq, told in ((2, 2), (1, 2), (99, 2)):
        world.say(1, "room.read", {"seq": seq}, requestId="r")
        world.settle()
        assert (world.last(1)["seq"], world.last(2, "room.read")["seq"]) == (told, told)
    assert "room.read" not in world.kinds(1) + world.kinds(3)


def test_a_resume_answers_every_room_and_then_once(world):
    """Per room a delta or a reset, in the order asked; one ack; the socket stays in the room it was in."""
    world.joined(1, "u1")
    world.members.add(("r1", "u1"))
    world.commit("r1", "u1", "one")
    world.commit("r1", "u1", "two")
    rooms = [
        {"roomSlug": "secret", "epoch": "e1", "seq": 1},
        {"roomSlug": "general", "epoch": "old", "seq": 1},
    ]
    world.say(1, "resume", {"rooms": rooms}, requestId="r")
    world.say(1, "chat.send", {"text": "after it"}, requestId="s")
    world.settle()
    assert world.kinds(1)[-5:] == ["room.delta", "room.reset", "ack", "chat.message", "ack"]
    delta = world.last(1, "room.delta")
    assert (delta["roomSlug"], delta["fromSeq"], delta["toSeq"]) == ("secret", 2, 2)
    assert world.last(1, "chat.message")["roomSlug"] == "general"


def test_a_resume_of_a_room_that_is_not_there_says_so_and_answers_the_others(world):
    """Rooms that do not exist for this user are left out and end in one nack; an empty resume is acked."""
    world.joined(1, "u1")
    rooms = [{"roomSlug": slug, "epoch": "e1", "seq": 0} for slug in ("nowhere", "general", "secret")]
    world.say(1, "resume", {"rooms": rooms}, requestId="r")
    world.settle()
    assert world.kinds(1)[-2:] == ["room.delta", "nack"]
    assert world.last(1)["code"] == "RoomNotFound"
    world.say(1, "resume", {"rooms": []}, requestId="r")
    assert world.kinds(1)[-1] == "ack"


def test_more_than_a_delta_holds_is_a_reset(world):
    """300 events behind is a delta of 300, 301 is a reset: never a part."""
    world.joined(1, "u1")
    for number in range(301):
        world.commit("r0", "u9", str(number))
    world.opened(2, "u1")
    for seq, kind in ((2, "room.delta"), (1, "room.reset")):
        world.say(2, "resume", {"rooms": [{"roomSlug": "general", "epoch": "e1", "seq": seq}]}, requestId="r")
        world.settle()
        assert world.kinds(2)[-2:] == [kind, "ack"]
    assert len(world.last(2, "room.delta")["events"]) == 300


def test_commits_are_published_with_their_events_or_as_a_hint_to_look(world):
    """Of a room that is live here others get the events; of one that is not, word that there is something."""
    world.joined(1, "u1")
    sent(world, 1, "hello")
    hint = next(hint for hint in reversed(world.published) if isinstance(hint, Committed))
    assert (hint.room_id, hint.epoch, [event.text for event in hint.events]) == ("r0", "e1", ["hello"])
    world.run(world.core.closed(1))
    stranger = type(world)()
    stranger.opened(1)
    stranger.say(1, "room.join", {"roomSlug": "general"})
    while not stranger.published:
        stranger.happen()
    assert isinstance(stranger.published[0], Look)


def test_events_of_another_process_are_delivered_and_a_hole_is_read(world):
    """A hint is delivered in its place; one that leaves a hole makes the log be read; another epoch is not believed."""
    world.joined(1, "u1")
    first = world.commit("r0", "u9", "one").event
    world.commit("r0", "u9", "two")
    third = world.commit("r0", "u9", "three").event
    world.run(world.core.committed(Committed("r0", "other", (first,)), 1, 1.0))
    assert "chat.message" not in world.kinds(1)
    world.run(world.core.committed(Committed("r0", "e1", (first,)), 1, 1.0))
    assert world.last(1)["text"] == "one"
    world.run(world.core.committed(Committed("r0", "e1", (third,)), 1, 1.0))
    assert world.last(1)["text"] == "one"
    world.settle()
    assert [f["payload"]["text"] for f in world.frames[1] if f["type"] == "chat.message"] == ["one", "two", "three"]
