"""Users, roles and bans over HTTP, and today's counters."""

import pytest
from websockets.asyncio.client import connect

from boltorezka.errors import Refusal
from boltorezka.ports import NewEvent
from boltorezka.rooms.model import EventKind, Role
from boltorezka.testing import bearer, sign_in


@pytest.fixture
async def chief(person):
    """A super admin."""
    return await person("chief", Role.SUPER_ADMIN)


async def _users(api, who, **params):
    return (await api.get("/v1/admin/users", params=params, headers=who.headers)).json()


async def test_users_are_listed_page_by_page(api, person, chief):
    """Every user once, by id, whatever the size of the pages; the rows are the contract's."""
    for number in range(7):
        await person(f"somebody-{number}")
    whole = await _users(api, chief)
    assert whole["pagination"] == {"hasMore": False, "nextCursor": None}
    assert list(whole["users"][0]) == ["id", "email", "name", "role", "banned", "created_at"]
    ids = [row["id"] for row in whole["users"]]
    assert len(ids) == 8
    assert ids == sorted(ids)
    for limit in (1, 3, 4, 8):
        found, params = [], {"limit": limit}
        while True:
            page = await _users(api, chief, **params)
            found += [row["id"] for row in page["users"]]
            cursor = page["pagination"]["nextCursor"]
            assert page["pagination"]["hasMore"] == (cursor is not None)
            if cursor is None:
                break
            params = {"limit": limit, **cursor}
        assert found == ids


async def test_bad_pages_of_users_are_refused(api, chief):
    """Limits out of bounds and ids that are none."""
    for query in ("limit=0", "limit=501", "limit=x", "after=", "after=%00", "after=" + "x" * 129):
        answer = await api.get(f"/v1/admin/users?{query}", headers=chief.headers)
        assert (answer.status_code, answer.json()["error"]) == (400, "ValidationError"), query


async def test_decisions_are_kept_and_may_be_repeated(api, person, chief):
    """Each decision answers the user as they are then; asking twice is asking once."""
    boris = await person("boris")
    for what, role, banned in (
        ("promote", "admin", False),
        ("demote", "user", False),
        ("ban", "user", True),
        ("unban", "user", False),
    ):
        for _ in range(2):
            answer = await api.post(f"/v1/admin/users/{boris.id}/{what}", headers=chief.headers)
            assert answer.status_code == 200
            row = answer.json()["user"]
            assert (row["id"], row["role"], row["banned"]) == (boris.id, role, banned)
            assert row in (await _users(api, chief))["users"]


async def test_a_new_role_counts_at_once_and_is_in_the_next_token(api, running, chief, stranger):
    """The session goes on with the right its user has now; the token fetched next names the role."""
    body = await sign_in(stranger, running.url, "boris")
    assert (await api.get("/v1/admin/users", headers=bearer(body["token"]))).status_code == 403
    await api.post(f"/v1/admin/users/{body['user']['id']}/promote", headers=chief.headers)
    assert (await api.get("/v1/admin/users", headers=bearer(body["token"]))).status_code == 200
    refreshed = (await api.post("/v1/auth/refresh", headers=bearer(body["token"]))).json()
    assert refreshed["user"]["role"] == "admin"
    await api.post(f"/v1/admin/users/{body['user']['id']}/demote", headers=chief.headers)
    assert (await api.get("/v1/admin/users", headers=bearer(refreshed["token"]))).status_code == 403


async def test_a_ban_ends_everything_at_once(api, person, room, running, chief, enter):
    """Sockets close with 4003, tokens and tickets are worth nothing, nothing is stored; after an unban they sign in."""
    boris = await person("boris")
    den = await room("den", boris)
    socket = await enter(boris, "den")
    ticket = (await api.get("/v1/auth/ws-ticket", headers=boris.headers)).json()["ticket"]
    assert (await api.post(f"/v1/admin/users/{boris.id}/ban", headers=chief.headers)).status_code == 200
    assert (await socket.heard("error"))["code"] == "Banned"
    await socket.socket.wait_closed()
    assert socket.socket.close_code == 4003
    assert (await api.get("/v1/auth/me", headers=boris.headers)).status_code == 401
    assert (await api.post("/v1/auth/refresh", headers=boris.headers)).status_code in {401, 403}
    async with connect(f"{running.url.replace('http', 'ws', 1)}/v1/realtime/ws?ticket={ticket}") as late:
        await late.wait_closed()
    assert late.close_code == 4002
    new = NewEvent(den.id, EventKind.MESSAGE, "m1", boris.id, boris.name, "text", 1)
    with pytest.raises(Refusal, match="banned"):
        await running.server.realtime.store_event(new)
    await api.post(f"/v1/admin/users/{boris.id}/unban", headers=chief.headers)
    assert (await api.get("/v1/auth/me", headers=boris.headers)).status_code == 401


async def test_the_summary_counts_today(api, person, room, say, chief, clock, enter):
    """What was written since midnight UTC and by whom, and what this process counted; yesterday is not today."""
    ann, boris = await person("ann"), await person("boris")
    den = await room("den", ann, boris)
    await say(den, ann, "of yesterday")
    clock.advance(24 * 3600)
    chief = await person("chief", Role.SUPER_ADMIN)
    ann = await person("ann")
    first = await say(den, ann, "one")
    await say(den, boris, "two")
    await say(den, ann, "one, edited", kind=EventKind.EDIT, ref=first.id)
    await say(den, ann, "", kind=EventKind.DELETE, ref=first.id)
    await enter(ann, "den")
    body = (await api.get("/v1/telemetry/summary", headers=chief.headers)).json()
    assert (body["day"], body["since"], body["ts"]) == (
        "2027-01-16",
        "2027-01-16T00:00:00.000Z",
        "2027-01-16T08:00:00.000Z",
    )
    assert body["today"] == {
        "messages": 2,
        "edits": 1,
        "deletes": 1,
        "authors": 2,
        "new_users": 0,
        "logins": 2,
        "rooms": body["today"]["rooms"],
    }
    process = body["process"]
    assert (process["sockets"], process["sockets_opened"], process["acks"]) == (1, 1, 1)
    assert process["slow_consumers"] == 0
    await api.get("/v1/auth/me", headers=bearer("forged"))
    process = (await api.get("/v1/telemetry/summary", headers=chief.headers)).json()["process"]
    assert process["auth_failures"] == {"invalid_token": 1}
