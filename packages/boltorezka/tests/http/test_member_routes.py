"""Members over HTTP: what is answered, what the log has, and what sockets hear."""

import asyncio

import pytest

from boltorezka.rooms.model import EventKind, Role


@pytest.fixture
async def people(person):
    """Ann owns the room, Boris is a member, Carol is not, Dora is an admin."""
    names = {"ann": None, "boris": None, "carol": None, "dora": Role.ADMIN}
    return {name: await person(name, role) for name, role in names.items()}


@pytest.fixture
async def square(room, people):
    """Ann's public room with Boris in it."""
    return await room("square", people["ann"], people["boris"], public=True)


async def _log(running, room):
    events = await running.server.store.delta(room.id, 0, 100)
    return [(event.kind, event.user_id, event.text, event.ref) for event in events]


async def test_members_are_listed_as_they_came(api, people, square):
    """The rows are the contract's, the owner first."""
    body = (await api.get("/v1/rooms/square/members", headers=people["carol"].headers)).json()
    at = "2027-01-15T08:00:00.000Z"
    assert body == {
        "members": [
            {"user_id": people["ann"].id, "user_name": "Ann", "role": "owner", "joined_at": at},
            {"user_id": people["boris"].id, "user_name": "Boris", "role": "member", "joined_at": at},
        ]
    }


async def test_adding_and_removing_are_events_of_the_log(api, people, square, running, clock):
    """Who, as what, and by whom; adding again stores nothing and answers the member there is."""
    carol, dora = people["carol"], people["dora"]
    before = await _log(running, square)
    clock.advance(5)
    answers = []
    for _ in range(2):
        answers.append(
            await api.post("/v1/rooms/square/members", json={"userId": carol.id}, headers=people["ann"].headers)
        )
        clock.advance(5)
    assert [answer.status_code for answer in answers] == [201, 200]
    row = {"user_id": carol.id, "user_name": "Carol", "role": "member", "joined_at": "2027-01-15T08:00:05.000Z"}
    assert [answer.json() for answer in answers] == [{"member": row}] * 2
    gone = await api.delete(f"/v1/rooms/square/members/{carol.id}", headers=dora.headers)
    assert (gone.status_code, gone.content) == (204, b"")
    again = await api.delete(f"/v1/rooms/square/members/{carol.id}", headers=dora.headers)
    assert (again.status_code, again.json()["error"]) == (404, "UserNotFound")
    assert (await _log(running, square))[len(before) :] == [
        (EventKind.JOINED, carol.id, "member", people["ann"].id),
        (EventKind.LEFT, carol.id, "member", dora.id),
    ]


async def test_sockets_of_the_room_hear_of_every_change(api, people, square, enter):
    """A change over HTTP reaches those in the room like any other event, with its position."""
    ann = await enter(people["ann"], "square")
    await api.post("/v1/rooms/square/members", json={"userId": people["carol"].id}, headers=people["ann"].headers)
    joined = await ann.heard("member.joined")
    assert (joined["userId"], joined["byUserId"], joined["role"]) == (people["carol"].id, people["ann"].id, "member")
    await api.delete(f"/v1/rooms/square/members/{people['carol'].id}", headers=people["ann"].headers)
    left = await ann.heard("member.left")
    assert (left["userId"], left["seq"]) == (people["carol"].id, joined["seq"] + 1)


async def test_of_many_who_add_the_same_user_one_does(api, people, square, running):
    """Concurrent additions make one event, and all answer the same member."""
    body = {"userId": people["carol"].id}
    answers = await asyncio.gather(
        *(api.post("/v1/rooms/square/members", json=body, headers=people["ann"].headers) for _ in range(8))
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert len({answer.content for answer in answers}) == 1
    log = await _log(running, square)
    assert [kind for kind, user, *_ in log if user == people["carol"].id] == [EventKind.JOINED]


async def test_a_removed_member_of_a_private_room_knows_nothing_of_it(api, people, room):
    """After the answer the room is as if it did not exist for them, and they may be added again."""
    den, ann, boris = await room("den", people["ann"], people["boris"]), people["ann"], people["boris"]
    await api.delete(f"/v1/rooms/{den.slug}/members/{boris.id}", headers=ann.headers)
    for path in ("messages", "members"):
        answer = await api.get(f"/v1/rooms/den/{path}", headers=boris.headers)
        assert (answer.status_code, answer.json()["error"]) == (404, "RoomNotFound")
    slugs = {row["slug"] for row in (await api.get("/v1/rooms", headers=boris.headers)).json()["rooms"]}
    assert "den" not in slugs
    assert (await api.post("/v1/rooms/den/members", json={"userId": boris.id}, headers=ann.headers)).status_code == 201
    assert (await api.get("/v1/rooms/den/messages", headers=boris.headers)).status_code == 200


async def test_bad_members_are_refused_with_their_place(api, people, square):
    """An id that cannot be one is refused before anybody is looked for; NUL and broken UTF-8 never reach the store."""
    for body in ({}, {"userId": ""}, {"userId": "x" * 129}, {"userId": "a\0b"}, {"userId": 7}, {"user_id": "x"}):
        answer = await api.post("/v1/rooms/square/members", json=body, headers=people["ann"].headers)
        assert (answer.status_code, answer.json()["error"]) == (400, "ValidationError"), body
        assert answer.json()["issues"]
    for path in ("a%00b", "%FF", "%zz", "%ED%A0%80", "x" * 129):
        for address in (f"/v1/rooms/square/members/{path}", f"/v1/rooms/{path}/members/x"):
            answer = await api.request("DELETE", address, headers=people["ann"].headers)
            expected = {(400, "ValidationError")} | ({(404, "RoomNotFound")} if len(path) > 100 else set())
            assert (answer.status_code, answer.json()["error"]) in expected, address
