"""The list of rooms and the history, against the real store."""

import pytest

from boltorezka.ports import NewEvent
from boltorezka.rooms.model import EventKind, Room
from boltorezka.testing import bearer, sign_in


@pytest.fixture
async def ann(api, running):
    """The header with Ann's token."""
    body = await sign_in(api, running.url, "ann")
    return {"id": body["user"]["id"], "headers": bearer(body["token"])}


async def _say(running, user_id, count):
    store = running.server.store
    room = await store.room_by_slug("general")
    batch = [
        NewEvent(room.id, EventKind.MESSAGE, f"m{n}", user_id, "Ann", f"text {n}", 1_800_000_000_000_000 + n * 1000)
        for n in range(1, count + 1)
    ]
    await store.append(batch)


async def test_general_is_there_from_the_first_start(api, ann):
    """A new server has one public room, and the row is the contract's."""
    rooms = (await api.get("/v1/rooms", headers=ann["headers"])).json()["rooms"]
    assert [room["slug"] for room in rooms] == ["general"]
    assert set(rooms[0]) == {
        "id",
        "slug",
        "title",
        "is_public",
        "created_at",
        "is_member",
        "unread",
        "last_seq",
    }
    assert (rooms[0]["is_public"], rooms[0]["last_seq"]) == (True, 0)


async def test_an_empty_history_is_a_page(api, ann):
    """No messages is not an error."""
    body = (await api.get("/v1/rooms/general/messages", headers=ann["headers"])).json()
    assert set(body) == {"room", "messages", "pagination", "epoch", "lastSeq"}
    assert body["messages"] == []
    assert body["pagination"] == {"hasMore": False, "nextCursor": None}
    assert body["lastSeq"] == 0


@pytest.mark.parametrize("by", ["seq", "id"])
async def test_pages_lead_to_the_first_message_without_holes(api, ann, running, by):
    """Following nextCursor either way shows every message once, oldest first inside a page."""
    await _say(running, ann["id"], 25)
    pages, params = [], {"limit": 10}
    while True:
        body = (await api.get("/v1/rooms/general/messages", params=params, headers=ann["headers"])).json()
        pages.append([row["seq"] for row in body["messages"]])
        cursor = body["pagination"]["nextCursor"]
        assert body["pagination"]["hasMore"] == (cursor is not None)
        if cursor is None:
            break
        names = ["beforeSeq"] if by == "seq" else ["beforeCreatedAt", "beforeId"]
        params = {"limit": 10, **{name: cursor[name] for name in names}}
    assert pages == [list(range(16, 26)), list(range(6, 16)), list(range(1, 6))]
    assert body["messages"][0] == {
        "id": "m1",
        "room_id": body["room"]["id"],
        "user_id": ann["id"],
        "user_name": "Ann",
        "text": "text 1",
        "created_at": "2027-01-15T08:00:00.001Z",
        "edited_at": None,
        "seq": 1,
    }
    assert body["lastSeq"] == 25


async def test_bad_windows_are_refused_with_their_place(api, ann):
    """The answer names the parameter that is wrong."""
    for params in (
        {"limit": "0"},
        {"limit": "101"},
        {"limit": "-1"},
        {"limit": "ten"},
        {"limit": "1" * 5000},
        {"limit": "٣"},
        {"beforeSeq": "x"},
        {"beforeSeq": str(2**53)},
        {"beforeId": "m1"},
        {"beforeCreatedAt": "2027-01-15T08:00:00.001Z"},
        {"beforeCreatedAt": "yesterday", "beforeId": "m1"},
        {"beforeCreatedAt": "2027-01-15T08:00:00.001Z", "beforeId": "m1", "beforeSeq": "3"},
    ):
        answer = await api.get("/v1/rooms/general/messages", params=params, headers=ann["headers"])
        assert (answer.status_code, answer.json()["error"]) == (400, "ValidationError")
        assert answer.json()["issues"][0]["path"]


async def test_unknown_messages_are_not_found(api, ann):
    """A cursor that names no message of the room is told apart from an empty page."""
    params = {"beforeCreatedAt": "2027-01-15T08:00:00.001Z", "beforeId": "nothing"}
    answer = await api.get("/v1/rooms/general/messages", params=params, headers=ann["headers"])
    assert (answer.status_code, answer.json()["error"]) == (404, "MessageNotFound")


async def test_a_private_room_looks_as_if_it_did_not_exist(api, ann, running):
    """Others get the same answer as for a room that is not there; a member reads and lists it."""
    store = running.server.store
    room = await store.ensure_room(Room("r1", "secret-room", "Secret", False, 1, "e1", 0))
    answers = [
        (await api.get(f"/v1/rooms/{slug}/messages", headers=ann["headers"])).json()
        for slug in ("secret-room", "no-such-room")
    ]
    assert answers[0] == answers[1]
    assert answers[0]["error"] == "RoomNotFound"
    await store.add_member(room.id, ann["id"], 1)
    assert (await api.get("/v1/rooms/secret-room/messages", headers=ann["headers"])).status_code == 200
    rooms = (await api.get("/v1/rooms", headers=ann["headers"])).json()["rooms"]
    assert {row["slug"] for row in rooms} == {"general", "secret-room"}
