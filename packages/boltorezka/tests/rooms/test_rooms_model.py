"""Any order of everything: what a client has applied is always a prefix of the stored log, and draws the same room."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from boltorezka.rooms import effects as do
from boltorezka.rooms.hints import Committed
from boltorezka.rooms.model import EventKind

STEP = st.sampled_from(
    ["join", "join after", "move", "resume", "send", "repeat", "edit", "delete", "leave", "remove", "foreign", "hint",
     "tell", "cut", "ask", "happen", "happen", "settle"]
)  # fmt: skip


class Client:
    """Follows its frames as a client does, over any number of sockets; checks every position."""

    def __init__(self) -> None:
        self.key = 0
        self.read = 0  # frames of this socket that were followed
        self.inside = False
        self.last = 0
        self.shown: dict[str, tuple[str, str]] = {}
        self.members: set[str] = set()
        self.answers: list[str] = []

    def follow(self, frames: list[dict]) -> None:
        """Apply what is new."""
        for frame in frames[self.read :]:
            self.apply(frame["type"], frame["payload"])
        self.read = len(frames)

    def apply(self, kind: str, payload: dict) -> None:
        """One frame."""
        assert kind != "room.reset"
        if kind == "room.joined":
            self.inside = True
        elif kind == "room.delta":
            found = payload["events"]
            seqs = [event["payload"]["seq"] for event in found]
            assert seqs == (list(range(payload["fromSeq"], payload["toSeq"] + 1)) if found else [])
            for event in found:
                self.event(event["type"], event["payload"])
            assert self.last >= payload["toSeq"]
        elif kind == "room.left":
            self.inside = False
        elif kind in {"ack", "nack"}:
            self.answers.append(payload["requestId"])
        elif "seq" in payload:
            assert self.inside
            self.event(kind, payload)

    def event(self, kind: str, payload: dict) -> None:
        """One durable event: the next, or (the answer to a repeated key) one it has."""
        if payload["seq"] <= self.last:
            return
        assert payload["seq"] == self.last + 1
        self.last = payload["seq"]
        if kind == "chat.message":
            self.shown[payload["id"]] = (payload["userId"], payload["text"])
        elif kind == "chat.edited":
            self.shown[payload["id"]] = (self.shown[payload["id"]][0], payload["text"])
        elif kind == "chat.deleted":
            del self.shown[payload["id"]]
        elif kind == "member.joined":
            self.members.add(payload["userId"])
        else:
            assert kind == "member.left"
            self.members.discard(payload["userId"])


class Story:
    """Steps of clients, of other processes and of the store, each in the middle of any other."""

    def __init__(self, worlds, dice: random.Random) -> None:
        self.world = worlds()
        self.dice = dice
        self.sent = 0
        self.keys = 0
        self.clients = {"u1": Client(), "u2": Client(), "u3": Client()}
        for user in self.clients:
            self.connect(user)

    def connect(self, user: str) -> None:
        """A new socket of this client."""
        self.keys += 1
        client = self.clients[user]
        client.key, client.read, client.inside = self.keys, 0, False
        self.world.opened(self.keys, user)

    def step(self, kind: str, user: str) -> None:
        """Do one step, and let everybody hear."""
        getattr(self, kind.replace(" ", "_"))(user)
        self.hear()

    def hear(self) -> None:
        for client in self.clients.values():
            client.follow(self.world.frames[client.key])

    def say(self, user: str, kind: str, payload: dict, key: str | None = None) -> None:
        self.sent += 1
        more = {} if key is None else {"idempotencyKey": key}
        self.world.say(self.clients[user].key, kind, payload, requestId=f"q{self.sent}", **more)

    def join(self, user: str) -> None:
        after = {"epoch": "e1", "seq": self.clients[user].last}
        self.say(user, "room.join", {"roomSlug": "general", "after": after})

    def join_after(self, user: str) -> None:
        self.join(user)
        self.world.settle()

    def move(self, user: str) -> None:
        """The client is about to learn the top of the log in the same breath from elsewhere."""
        self.foreign(user)
        self.join(user)

    def resume(self, user: str) -> None:
        seen = {"roomSlug": "general", "epoch": "e1", "seq": self.clients[user].last}
        if not self.clients[user].inside:  # inside, live events come as well, and both are the same news
            self.say(user, "resume", {"rooms": [seen]})

    def send(self, user: str) -> None:
        self.say(user, "chat.send", {"text": f"t{self.sent}"}, f"k{self.sent}")

    def repeat(self, user: str) -> None:
        """The client did not hear the ack and says it again."""
        self.say(user, "chat.send", {"text": "again"}, "the same key")

    def own(self, user: str) -> str:
        mine = [event.id for event in self.world.log["r0"] if event.user_id == user and event.kind is EventKind.MESSAGE]
        return self.dice.choice(mine) if mine else "nothing"

    def edit(self, user: str) -> None:
        self.say(user, "chat.edit", {"messageId": self.own(user), "text": f"e{self.sent}"})

    def delete(self, user: str) -> None:
        self.say(user, "chat.delete", {"messageId": self.own(user)})

    def leave(self, user: str) -> None:
        self.say(user, "room.leave", {})

    def remove(self, user: str) -> None:
        """An owner elsewhere removes the user."""
        if ("r0", user) in self.world.members:
            self.world.remove("r0", user)

    def foreign(self, _user: str) -> None:
        self.world.commit("r0", "stranger", "elsewhere")

    def hint(self, _user: str) -> None:
        self.world.run(self.world.core.heads({"r0": ("e1", self.world.head("r0"))}, 1, self.world.tick))

    def tell(self, _user: str) -> None:
        """The bus brings some piece of the log, perhaps an old one."""
        log = self.world.log["r0"]
        if log:
            start = self.dice.randrange(len(log))
            piece = tuple(log[start : start + self.dice.randrange(1, 4)])
            self.world.run(self.world.core.committed(Committed("r0", "e1", piece), 1, self.world.tick))

    def cut(self, user: str) -> None:
        """The connection is lost with whatever was on its way, and the client comes back with what it has."""
        key = self.clients[user].key
        self.world.run(self.world.core.closed(key))
        self.connect(user)
        self.join(user)

    def ask(self, _user: str) -> None:
        if self.world.waiting:
            self.world.ask(self.dice.randrange(len(self.world.waiting)))

    def happen(self, _user: str) -> None:
        if self.world.waiting:
            self.world.happen(self.dice.randrange(len(self.world.waiting)))

    def settle(self, _user: str = "") -> None:
        self.world.settle()


def fresh(log) -> tuple[dict[str, tuple[str, str]], set[str]]:
    """What somebody who reads the stored log from its start draws."""
    shown: dict[str, tuple[str, str]] = {}
    members: set[str] = set()
    for event in log:
        if event.kind is EventKind.MESSAGE:
            shown[event.id] = (event.user_id, event.text)
        elif event.kind is EventKind.EDIT:
            shown[event.ref] = (shown[event.ref][0], event.text)
        elif event.kind is EventKind.DELETE:
            del shown[event.ref]
        elif event.kind is EventKind.JOINED:
            members.add(event.user_id)
        else:
            members.discard(event.user_id)
    return shown, members


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(STEP, st.sampled_from(["u1", "u2", "u3"])), max_size=80), st.randoms(use_true_random=False))
def test_every_client_has_a_prefix_of_the_log_and_draws_the_same_room(worlds, steps, dice: random.Random):
    """Everything clients, other processes, the bus and a slow store can do, in any order, with cuts in the middle.

    No hole, no double, no reordering, no reset; every request is answered exactly once; and in the end what each client
    built from its deltas and live events is what a fresh reader of the log draws, and what the page from memory shows.
    """
    story = Story(worlds, dice)
    for kind, user in steps:
        story.world.tick += 1.0
        story.step(kind, user)
    for user in story.clients:
        story.world.tick += 10.0
        story.settle()
        story.hint(user)
        story.settle()
        story.join(user)
        story.settle()
        story.hear()
    story.hint("")
    story.settle()
    story.hear()
    log = story.world.log["r0"]
    shown, members = fresh(log)
    for client in story.clients.values():
        assert client.last == len(log)
        assert (client.shown, client.members) == (shown, members)
    page = story.world.core.hall.recent("general", "u1", 100)
    assert {event.id: (event.user_id, event.text) for event in page.events} == shown
    answers = [answer for client in story.clients.values() for answer in client.answers]
    assert len(answers) == len(set(answers))
    assert not any(isinstance(effect, do.Append) for effect in story.world.waiting)
