"""The list of rooms and the history, against the real store."""

import pytest

from boltorezka.rooms.model import EventKind, Role


@pytest.fixture
async def ann(person):
    """Ann, signed in."""
    return await person("ann")


@pytest.fixture
async def chief(person):
    """An admin."""
    return await person("chief", Role.ADMIN)


async def test_general_is_there_from_the_first_start(api, ann):
    """A new server has one public room, and the row is the contract's."""
    rooms = (await api.get("/v1/rooms", headers=ann.headers)).json()["rooms"]
    assert [room["slug"] for room in rooms] == ["general"]
    assert list(rooms[0]) == ["id", "slug", "title", "is_public", "created_at", "is_member", "unread", "last_seq"]
    assert (rooms[0]["is_public"], rooms[0]["last_seq"]) == (True, 0)


async def test_private_rooms_are_listed_for_their_members_alone(api, ann, person, room):
    """A private room is in the list of its members; of a public one everybody sees whether they are a member."""
    boris = await person("boris")
    await room("den", ann, public=False)
    await room("square", ann, public=True)
    for who, expected in ((ann, {"den": True, "square": True}), (boris, {"square": False})):
        rooms = (await api.get("/v1/rooms", headers=who.headers)).json()["rooms"]
        assert {row["slug"]: row["is_member"] for row in rooms if row["slug"] != "general"} == expected


async def test_unread_counts_what_others_said_since(api, ann, person, room, say):
    """The number beside a room's name: messages of others after the read pointer, deleted ones left out."""
    boris = await person("boris")
    made = await room("den", ann, boris)
    await say(made, boris, "one")
    await say(made, ann, "two")
    gone = await say(made, boris, "three")
    await say(made, boris, "", kind=EventKind.DELETE, ref=gone.id)

    async def listed(who):
        rooms = (await api.get("/v1/rooms", headers=who.headers)).json()["rooms"]
        row = next(row for row in rooms if row["slug"] == "den")
        return row["unread"], row["last_seq"]

    assert await listed(ann) == (1, 6)
    assert await listed(boris) == (1, 6)


async def test_a_made_room_belongs_to_its_maker(api, chief):
    """201 with the row; the maker is its owner and member, and the room is in their list as it was answered."""
    body = {"slug": "my-room-1", "title": "  My room ", "is_public": False}
    answer = await api.post("/v1/rooms", json=body, headers=chief.headers)
    row = answer.json()["room"]
    assert answer.status_code == 201
    assert (row["slug"], row["title"], row["is_public"], row["is_member"]) == ("my-room-1", "My room", False, True)
    members = (await api.get("/v1/rooms/my-room-1/members", headers=chief.headers)).json()["members"]
    assert [(member["user_id"], member["role"]) for member in members] == [(chief.id, "owner")]
    rooms = (await api.get("/v1/rooms", headers=chief.headers)).json()["rooms"]
    assert row in rooms


async def test_rooms_are_public_unless_said_otherwise(api, chief, ann):
    """`is_public` may be left out."""
    await api.post("/v1/rooms", json={"slug": "square", "title": "Square"}, headers=chief.headers)
    rooms = (await api.get("/v1/rooms", headers=ann.headers)).json()["rooms"]
    assert [row["is_public"] for row in rooms if row["slug"] == "square"] == [True]


async def test_bad_rooms_are_refused_with_their_place(api, chief):
    """The answer names the field that is wrong."""
    for body, path in (
        ({"slug": "ab", "title": "Title"}, "slug"),
        ({"slug": "a" * 49, "title": "Title"}, "slug"),
        ({"slug": "Room", "title": "Title"}, "slug"),
        ({"slug": "комната", "title": "Title"}, "slug"),
        ({"slug": "a room", "title": "Title"}, "slug"),
        ({"slug": "room\n", "title": "Title"}, "slug"),
        ({"slug": "room\0", "title": "Title"}, "slug"),
        ({"slug": 17, "title": "Title"}, "slug"),
        ({"slug": "room", "title": "ab"}, "title"),
        ({"slug": "room", "title": "a" * 121}, "title"),
        ({"slug": "room", "title": "    a    "}, "title"),
        ({"slug": "room", "title": "Ti\0tle"}, "title"),
        ({"slug": "room", "title": "Two\nlines"}, "title"),
        ({"slug": "room", "title": None}, "title"),
        ({"slug": "room", "title": "Title", "is_public": "yes"}, "is_public"),
    ):
        answer = await api.post("/v1/rooms", json=body, headers=chief.headers)
        assert (answer.status_code, answer.json()["error"]) == (400, "ValidationError"), body
        assert [issue["field"] for issue in answer.json()["issues"]] == [path]


async def test_the_bounds_themselves_are_allowed(api, chief):
    """The shortest and the longest slug and title, and fields of later versions."""
    for slug, title in (("abc", "abc"), ("-" * 48, "я" * 120)):
        body = {"slug": slug, "title": title, "color": {"of": ["another", "version"]}}
        answer = await api.post("/v1/rooms", json=body, headers=chief.headers)
        assert (answer.status_code, answer.json()["room"]["title"]) == (201, title)


async def test_bodies_that_are_not_the_json_asked_for_are_refused(api, chief):
    """Broken JSON, broken UTF-8, another type, a nesting bomb: 400 with a place, never a fault of ours."""
    for content in (
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"slug":"room"}',
        b'{"slug":"room","title":"\xff\xff\xff"}',
        b'{"slug":"room","title":"\\ud800abc"}',
        b'{"slug":"room","title":"Title"} x',
        b'\xef\xbb\xbf{"slug":"room","title":"Title"}',
        b'{"slug":"room","title":"Title","deep":' + b"[" * 60_000,
    ):
        answer = await api.post("/v1/rooms", content=content, headers=chief.headers)
        assert (answer.status_code, answer.json()["error"]) == (400, "ValidationError"), content[:50]
        assert answer.json()["issues"][0]["message"]
