"""The history of a room: pages, cursors, and the first page from memory, against a model of the room."""

import itertools

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boltorezka.adapters.http.history import Pages
from boltorezka.ports import NewEvent
from boltorezka.rooms.model import Event, EventKind, Page, Room

START = 1_800_000_000_000_000


@pytest.fixture
async def ann(person):
    """Ann, signed in."""
    return await person("ann")


@pytest.fixture
async def den(room, ann):
    """Ann's private room. Its making is the first event of its log."""
    return await room("den", ann)


async def _write(running, room, who, operations):
    """Store messages, edits and deletes (each an index into the messages so far); answer the messages that are left."""
    batch, shown, ids = [], {}, []
    for number, (kind, at) in enumerate(operations):
        event_id, when = f"{room.id}-{number}", START + number * 1_000_000
        ref = ids[at % len(ids)] if kind is not EventKind.MESSAGE and ids else None
        if kind is not EventKind.MESSAGE and ref not in shown:
            continue
        text = "" if kind is EventKind.DELETE else f"text {number}"
        batch.append(NewEvent(room.id, kind, event_id, who.id, who.name, text, when, ref=ref))
        if kind is EventKind.MESSAGE:
            ids.append(event_id)
            shown[event_id] = (text, False)
        elif kind is EventKind.EDIT:
            shown[ref] = (text, True)
        else:
            del shown[ref]
    stored = await running.server.store.append(batch)
    assert all(hasattr(one, "event") for one in stored)
    return [(event_id, text, edited) for event_id, (text, edited) in shown.items()]


async def _walk(api, who, slug, limit, names):
    """Every page from the newest to the first message, by these fields of the cursor."""
    pages, params = [], {"limit": limit}
    while True:
        body = (await api.get(f"/v1/rooms/{slug}/messages", params=params, headers=who.headers)).json()
        pages.append(body["messages"])
        cursor = body["pagination"]["nextCursor"]
        assert body["pagination"]["hasMore"] == (cursor is not None)
        if cursor is None:
            return pages
        assert len(body["messages"]) == limit
        params = {"limit": limit, **{name: cursor[name] for name in names}}


def _shown(pages):
    rows = list(itertools.chain.from_iterable(reversed(pages)))
    assert [row["seq"] for row in rows] == sorted({row["seq"] for row in rows})
    return [(row["id"], row["text"], row["edited_at"] is not None) for row in rows]


# What a client gives back of the cursor: the contract's two ways, or all of it.
BY = {
    "seq": ["beforeSeq"],
    "id": ["beforeCreatedAt", "beforeId"],
    "whole": ["beforeCreatedAt", "beforeId", "beforeSeq"],
}


async def test_an_empty_history_is_a_page(api, ann, den):
    """No messages is not an error; the log has its position all the same."""
    body = (await api.get("/v1/rooms/den/messages", headers=ann.headers)).json()
    assert list(body) == ["room", "messages", "pagination", "epoch", "lastSeq"]
    assert body["messages"] == []
    assert body["pagination"] == {"hasMore": False, "nextCursor": None}
    assert (body["epoch"], body["lastSeq"]) == (den.epoch, 1)
    assert list(body["room"]) == ["id", "slug", "title", "is_public", "created_at"]


@pytest.mark.parametrize("by", BY)
async def test_two_hundred_and_fifty_messages_without_a_hole(api, ann, den, running, by):
    """Following nextCursor shows every message once, with its newest text, and none that was deleted."""
    kinds = [(EventKind.MESSAGE, 0)] * 250
    kinds += [(EventKind.EDIT, n) for n in range(0, 250, 7)] + [(EventKind.DELETE, n) for n in range(3, 250, 10)]
    model = await _write(running, den, ann, kinds)
    pages = await _walk(api, ann, "den", 40, BY[by])
    assert len(model) == 225
    assert _shown(pages) == model
    assert [len(page) for page in pages] == [40, 40, 40, 40, 40, 25]


async def test_a_row_is_the_contracts(api, ann, den, running):
    """Names, order and forms of a message that was edited."""
    await _write(running, den, ann, [(EventKind.MESSAGE, 0), (EventKind.EDIT, 0)])
    body = (await api.get("/v1/rooms/den/messages", headers=ann.headers)).json()
    assert body["messages"] == [
        {
            "id": f"{den.id}-0",
            "room_id": den.id,
            "user_id": ann.id,
            "user_name": "Ann",
            "text": "text 1",
            "created_at": "2027-01-15T08:00:00.000Z",
            "edited_at": "2027-01-15T08:00:01.000Z",
            "seq": 2,
        }
    ]
    assert body["lastSeq"] == 3


async def test_a_deleted_message_is_still_a_place(api, ann, den, running):
    """Whoever held a cursor at a message goes on from there after it was deleted."""
    await _write(running, den, ann, [*([(EventKind.MESSAGE, 0)] * 3), (EventKind.DELETE, 2)])
    params = {"beforeId": f"{den.id}-2", "beforeCreatedAt": "2027-01-15T08:00:02.000Z"}
    body = (await api.get("/v1/rooms/den/messages", params=params, headers=ann.headers)).json()
    assert [row["id"] for row in body["messages"]] == [f"{den.id}-0", f"{den.id}-1"]


async def test_unknown_messages_are_not_found(api, ann, den, room, running):
    """A cursor that names no message of this room is told apart from an empty page."""
    other = await room("other", ann)
    await _write(running, other, ann, [(EventKind.MESSAGE, 0)])
    for message in ("nothing", f"{other.id}-0"):
        params = {"beforeCreatedAt": "2027-01-15T08:00:00.001Z", "beforeId": message}
        answer = await api.get("/v1/rooms/den/messages", params=params, headers=ann.headers)
        assert (answer.status_code, answer.json()["error"]) == (404, "MessageNotFound")


async def test_bad_windows_are_refused_with_their_place(api, ann, den):
    """The answer names the parameter that is wrong."""
    good = "beforeCreatedAt=2027-01-15T08:00:00Z"
    for query in (
        "limit=0", "limit=101", "limit=-1", "limit=ten", "limit=" + "1" * 5000, "limit=%D9%A3", "limit=", "limit=1.0",
        "limit=5&limit=6", "beforeSeq=x", "beforeSeq=0", f"beforeSeq={2**53}", "beforeId=m1", good,
        "beforeCreatedAt=yesterday&beforeId=m1", "beforeCreatedAt=&beforeId=", f"{good}&beforeId=m1&beforeSeq=x",
        f"{good}&beforeSeq=3", "beforeCreatedAt=yesterday&beforeId=m1&beforeSeq=3",
        f"{good}&beforeId=m%00", f"{good}&beforeId=%FF", f"{good}&beforeId=%zz", f"{good}&beforeId=" + "m" * 129,
        "%", "limit=5&%ED%A0%80=1", "&".join(f"a{n}=1" for n in range(40)),
    ):  # fmt: skip
        answer = await api.get(f"/v1/rooms/den/messages?{query}", headers=ann.headers)
        assert (answer.status_code, answer.json()["error"]) == (400, "ValidationError"), query
        assert answer.json()["issues"][0]["field"]


counter = itertools.count()
operation = st.tuples(st.sampled_from([*[EventKind.MESSAGE] * 3, EventKind.EDIT, EventKind.DELETE]), st.integers(0, 60))


@given(operations=st.lists(operation, max_size=60), limit=st.integers(1, 30), by=st.sampled_from(sorted(BY)))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_walking_the_pages_is_reading_the_room(api, ann, room, running, operations, limit, by):
    """Whatever was written, edited and deleted: the pages put together are the room as the model has it."""
    new = await room(f"walk-{next(counter)}", ann)
    model = await _write(running, new, ann, operations)
    assert _shown(await _walk(api, ann, new.slug, limit, BY[by])) == model


async def test_the_first_page_of_a_live_room_is_read_from_memory(api, person, room, running, enter, monkeypatch):
    """What is said is on the page at once, edits and deletes too, and the database is not asked for it."""
    ann, boris = await person("ann"), await person("boris")
    new = await room("square", ann, public=True)
    await enter(ann, "square")
    realtime = running.server.realtime
    before = (await api.get("/v1/rooms/square/messages", headers=ann.headers)).json()

    async def refused(*_args, **_more):
        raise AssertionError("the store was asked for a page")

    monkeypatch.setattr(type(running.server.store), "page", refused)
    seen = [row["text"] for row in before["messages"]]
    for number, (kind, ref, text) in enumerate(
        [
            (EventKind.MESSAGE, None, "one"),
            (EventKind.MESSAGE, None, "two"),
            (EventKind.EDIT, "say-0", "one, edited"),
            (EventKind.DELETE, "say-1", ""),
        ]
    ):
        event = NewEvent(new.id, kind, f"say-{number}", ann.id, ann.name, text, START + number, ref=ref)
        await realtime.store_event(event)
        bodies = [(await api.get("/v1/rooms/square/messages", headers=who.headers)).content for who in (ann, boris)]
        assert bodies[0] == bodies[1]
        body = msgspec.json.decode(bodies[0])
        seen.append([row["text"] for row in body["messages"]])
        assert body["lastSeq"] == before["lastSeq"] + 1 + number
    assert seen == [["one"], ["one", "two"], ["one, edited", "two"], ["one, edited"]]


async def test_memory_gives_a_private_room_to_nobody_else(api, person, room, enter):
    """A room that is live in memory stays hidden from those who are not its members, and from whoever was removed."""
    ann, boris, carol = await person("ann"), await person("boris"), await person("carol")
    await room("den", ann, boris)
    await enter(ann, "den")
    await enter(boris, "den")

    async def asked(who):
        return (await api.get("/v1/rooms/den/messages", headers=who.headers)).status_code

    assert [await asked(who) for who in (ann, boris, carol)] == [200, 200, 404]
    assert (await api.delete(f"/v1/rooms/den/members/{boris.id}", headers=ann.headers)).status_code == 204
    assert [await asked(who) for who in (ann, boris, carol)] == [200, 404, 404]


def _page(room_id="r", last_seq=1, epoch="e", text="text"):
    event = Event(room_id, last_seq, EventKind.MESSAGE, f"m{last_seq}", "u", "Ann", text, START)
    return Page(Room(room_id, "slug", "Title", True, START, epoch, last_seq), (event,), False)


def test_a_page_is_encoded_once_for_everybody_until_the_room_changes():
    """The same bytes for the same position; another position, epoch, limit or room is another page."""
    pages = Pages()
    first = pages.encoded(_page(), 50)
    assert pages.encoded(_page(), 50) is first
    others = [(_page(last_seq=2), 50), (_page(epoch="f", last_seq=2), 50), (_page(), 51), (_page("s"), 50)]
    bodies = [pages.encoded(page, limit) for page, limit in others]
    assert all(body is not first for body in bodies)
    assert pages.encoded(*others[2]) is bodies[2]
    assert pages.encoded(_page(), 50) == first


def test_kept_pages_have_a_bound_in_bytes():
    """The page that was not asked for the longest goes first; a page larger than all of it is not kept."""
    size = len(Pages().encoded(_page("a"), 50))
    pages = Pages(max_bytes=2 * size)
    kept = {name: pages.encoded(_page(name), 50) for name in "ab"}
    assert pages.encoded(_page("a"), 50) is kept["a"]
    pages.encoded(_page("c"), 50)
    assert pages.encoded(_page("a"), 50) is kept["a"]
    assert pages.encoded(_page("b"), 50) is not kept["b"]
    large = pages.encoded(_page("d", text="x" * 3 * size), 50)
    assert pages.encoded(_page("d", text="x" * 3 * size), 50) is not large
