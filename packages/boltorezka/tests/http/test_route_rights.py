"""Every route of rooms, members, admins and telemetry, for everybody who may ask: the exact answer or refusal."""

import itertools

import pytest

from boltorezka.rooms.model import Role

OK, MADE, GONE = (200, None), (201, None), (204, None)
UNSIGNED = (401, "Unauthorized")
NO, HIDDEN, UNKNOWN = (403, "Forbidden"), (404, "RoomNotFound"), (404, "UserNotFound")
TAKEN = (409, "Conflict")

# Who, in the order of the columns below. `outsider` and the admins are members of nothing.
WHO = ("nobody", "forged", "banned", "outsider", "member", "owner", "admin", "super")

# `den` is private, `square` public. {target} is a member of both, {other} of neither, {boss} an admin, {chief} a super
# admin, each new for every answer; {fresh} is a slug that is not taken.
TABLE = [
    ("GET", "/v1/rooms", None, (OK, OK, OK, OK, OK)),
    ("POST", "/v1/rooms", {"slug": "{fresh}", "title": "New"}, (NO, NO, NO, MADE, MADE)),
    ("POST", "/v1/rooms", {"slug": "den", "title": "New"}, (NO, NO, NO, TAKEN, TAKEN)),
    ("GET", "/v1/rooms/den/messages", None, (HIDDEN, OK, OK, HIDDEN, HIDDEN)),
    ("GET", "/v1/rooms/square/messages", None, (OK, OK, OK, OK, OK)),
    ("GET", "/v1/rooms/nowhere/messages", None, (HIDDEN, HIDDEN, HIDDEN, HIDDEN, HIDDEN)),
    ("GET", "/v1/rooms/den/members", None, (HIDDEN, OK, OK, HIDDEN, HIDDEN)),
    ("GET", "/v1/rooms/square/members", None, (OK, OK, OK, OK, OK)),
    ("POST", "/v1/rooms/den/members", {"userId": "{other}"}, (HIDDEN, NO, MADE, HIDDEN, HIDDEN)),
    ("POST", "/v1/rooms/den/members", {"userId": "{target}"}, (HIDDEN, NO, OK, HIDDEN, HIDDEN)),
    ("POST", "/v1/rooms/square/members", {"userId": "{other}"}, (NO, NO, MADE, MADE, MADE)),
    ("POST", "/v1/rooms/square/members", {"userId": "nobody-at-all"}, (NO, NO, UNKNOWN, UNKNOWN, UNKNOWN)),
    ("DELETE", "/v1/rooms/den/members/{target}", None, (HIDDEN, NO, GONE, HIDDEN, HIDDEN)),
    ("DELETE", "/v1/rooms/den/members/{self}", None, (HIDDEN, GONE, TAKEN, HIDDEN, HIDDEN)),
    ("DELETE", "/v1/rooms/square/members/{target}", None, (NO, NO, GONE, GONE, GONE)),
    ("DELETE", "/v1/rooms/square/members/{self}", None, (UNKNOWN, GONE, TAKEN, UNKNOWN, UNKNOWN)),
    ("DELETE", "/v1/rooms/square/members/{other}", None, (NO, NO, UNKNOWN, UNKNOWN, UNKNOWN)),
    ("DELETE", "/v1/rooms/square/members/{owner}", None, (NO, NO, TAKEN, TAKEN, TAKEN)),
    ("GET", "/v1/admin/users", None, (NO, NO, NO, OK, OK)),
    *(
        ("POST", f"/v1/admin/users/{target}/{what}", None, (NO, NO, NO, *admins))
        for what in ("promote", "demote", "ban", "unban")
        for target, admins in (
            ("{target}", (OK, OK)),
            ("{boss}", (NO, OK)),
            ("{chief}", (NO, NO)),
            ("{self}", (NO, NO)),
            ("nobody-at-all", (UNKNOWN, UNKNOWN)),
        )
    ),
    ("GET", "/v1/telemetry/summary", None, (NO, NO, NO, OK, OK)),
]


@pytest.fixture
async def askers(person, room, running, clock):
    """Everybody of the columns, in both rooms as their names say. A banned one's session has ended."""
    roles = {"outsider": None, "member": None, "owner": None, "admin": Role.ADMIN, "super": Role.SUPER_ADMIN}
    everybody = {name: await person(name, role) for name, role in roles.items()}
    everybody["forged"] = await person("outsider", secret="the-secret-of-another-server-altogether")
    everybody["banned"] = await person("banned")
    await running.server.store.set_banned(everybody["banned"].id, True, clock.now())
    for slug in ("den", "square"):
        await room(slug, everybody["owner"], everybody["member"], public=slug == "square")
    return everybody


@pytest.fixture
def names(person, join, askers):
    """What stands in the braces of one cell of the table: people who are there for it alone."""
    counter = itertools.count()

    async def make(who):
        number = next(counter)
        target = await person(f"target{number}")
        for slug in ("den", "square"):
            await join(f"id-{slug}", target)
        made = {"fresh": f"room-{number}", "target": target.id, "owner": askers["owner"].id}
        made |= {"self": askers[who].id if who in askers else "x", "other": (await person(f"other{number}")).id}
        made["boss"] = (await person(f"boss{number}", Role.ADMIN)).id
        return made | {"chief": (await person(f"chief{number}", Role.SUPER_ADMIN)).id}

    return make


async def test_everybody_gets_exactly_what_they_may(api, askers, names):
    """Each cell of the table: the status, and the code of a refusal."""
    wrong = []
    for method, path, body, answers in TABLE:
        for who, expected in zip(WHO, (UNSIGNED, UNSIGNED, UNSIGNED, *answers), strict=True):
            filled = await names(who)
            content = body and {name: value.format(**filled) for name, value in body.items()}
            headers = askers[who].headers if who in askers else {}
            answer = await api.request(method, path.format(**filled), json=content, headers=headers)
            code = answer.json()["error"] if answer.status_code >= 400 else None
            if (answer.status_code, code) != expected:
                wrong.append((who, method, path, body, answer.status_code, code, expected))
    assert wrong == []


async def test_other_sites_cannot_use_the_cookie(api, askers):
    """A form on a foreign page has the admin's cookie and not their right."""
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {}):
        cookie = {"cookie": f"boltorezka_session={askers['super'].token}"}
        for method, path in (
            ("POST", "/v1/rooms"),
            ("POST", f"/v1/admin/users/{askers['member'].id}/ban"),
            ("POST", "/v1/rooms/square/members"),
            ("DELETE", f"/v1/rooms/square/members/{askers['member'].id}"),
        ):
            answer = await api.request(method, path, headers=headers | cookie)
            assert (answer.status_code, answer.json()["error"]) == NO
    assert (await api.get("/v1/admin/users", headers=cookie)).status_code == 200


async def test_a_refused_request_changes_nothing(api, askers, running):
    """Whoever may not gets a refusal before anything is stored."""
    store = running.server.store
    before = await store.heads()
    body = {"userId": askers["outsider"].id}
    assert (await api.post("/v1/rooms/den/members", json=body, headers=askers["member"].headers)).status_code == 403
    target = f"/v1/rooms/square/members/{askers['member'].id}"
    assert (await api.delete(target, headers=askers["outsider"].headers)).status_code == 403
    assert await store.heads() == before
