"""Users, their roles and bans, sessions and tickets."""

from __future__ import annotations

import asyncio

import pytest

from boltorezka.auth.model import Identity, Session, TicketGrant
from boltorezka.errors import UserNotFound
from boltorezka.rooms.model import Role

NOW = 1_800_000_000_000_000
HOUR = 3600 * 1_000_000


def identity(subject: str, name: str = "Ann", email: str = "a@x", issuer: str = "sso") -> Identity:
    """Somebody the SSO vouches for."""
    return Identity("broker", issuer, subject, email, name, "user", True)


# users


async def test_nobody_is_changed_who_is_not_there(world):
    """Roles and bans of unknown users are refused."""
    with pytest.raises(UserNotFound):
        await world.store.set_role("nobody", Role.ADMIN, NOW)
    for banned in (True, False):
        with pytest.raises(UserNotFound):
            await world.store.set_banned("nobody", banned, NOW)
    assert await world.store.user("nobody") is None


async def test_a_user_is_its_identity(world):
    """The same identity is the same user with fresh data; another subject or issuer with the same e-mail is not."""
    made = await world.store.upsert_user(identity("1"), "u1", None, NOW)
    again = await world.second.upsert_user(identity("1", "Ann B", "b@x"), "u2", None, NOW + 9)
    assert (again.id, again.name, again.email, again.created_at) == (made.id, "Ann B", "b@x", NOW)
    assert await world.store.user("u1") == again
    assert (await world.store.upsert_user(identity("2"), "u3", None, NOW)).id == "u3"
    assert (await world.store.upsert_user(identity("1", issuer="other"), "u4", None, NOW)).id == "u4"


async def test_somebody_who_signs_in_twice_at_once_is_one_user(world):
    """Concurrent first logins through two processes give the same user."""
    stores = [world.store, world.second] * 4
    users = await asyncio.gather(
        *(each.upsert_user(identity("1"), f"u{index}", None, NOW) for index, each in enumerate(stores))
    )
    assert len({user.id for user in users}) == 1
    assert [user.id for user in await world.store.users(10)] == [users[0].id]


async def test_signing_in_only_raises_a_role(world):
    """A role given by the SSO counts when it is higher than the stored one; it never takes one away."""
    roles = [None, Role.ADMIN, Role.USER, None, Role.SUPER_ADMIN, Role.ADMIN]
    stored = [(await world.store.upsert_user(identity("1"), "u1", role, NOW)).role for role in roles]
    assert stored == [Role.USER, Role.ADMIN, Role.ADMIN, Role.ADMIN, Role.SUPER_ADMIN, Role.SUPER_ADMIN]
    assert (await world.store.user("u1")).role is Role.SUPER_ADMIN


async def test_users_are_listed_by_id(world):
    """Pages of the list follow each other without holes."""
    for number in (3, 1, 2, 5, 4):
        await world.user(f"u{number}")
    assert [user.id for user in await world.store.users(2)] == ["u1", "u2"]
    assert [user.id for user in await world.store.users(2, "u2")] == ["u3", "u4"]
    assert [user.id for user in await world.store.users(2, "u4")] == ["u5"]
    assert await world.store.users(2, "u5") == []


async def test_a_changed_role_or_ban_is_seen_by_other_processes(world):
    """Setting a role or a ban answers the user as they are now and lists them from that moment on, and nobody else."""
    for user in ("ann", "bob", "eve"):
        await world.user(user)
    admin = await world.store.set_role("ann", Role.ADMIN, NOW + 5)
    banned = await world.store.set_banned("bob", banned=True, at=NOW + 7)
    assert (admin.role, admin.banned, banned.role, banned.banned) == (Role.ADMIN, False, Role.USER, True)
    assert await world.second.changed_users(NOW + 5) == [admin, banned]
    assert await world.second.changed_users(NOW + 6) == [banned]
    assert await world.second.changed_users(NOW + 8) == []
    unbanned = await world.store.set_banned("bob", banned=False, at=NOW + 9)
    assert await world.second.changed_users(NOW + 8) == [unbanned] == [await world.second.user("bob")]
    demoted = await world.store.set_role("ann", Role.USER, NOW + 10)
    assert await world.second.changed_users(NOW + 10) == [demoted]
    raised = await world.store.upsert_user(identity("eve"), "eve", Role.ADMIN, NOW + 11)
    assert [user.role for user in await world.second.changed_users(NOW + 11)] == [raised.role] == [Role.ADMIN]


async def test_a_ban_ends_sessions_and_tickets_of_that_user(world):
    """All sessions are revoked and all tickets gone at once; those of others stay, and an earlier revocation counts."""
    for user in ("ann", "bob"):
        await world.user(user)
        for number in (1, 2):
            await world.store.create_session(Session(f"{user}{number}", user, 1, NOW, NOW, NOW + HOUR))
            ticket = TicketGrant(f"{user}{number}", user, False, NOW + HOUR)
            await world.store.put_ticket(f"{user}{number}".encode(), ticket)
    await world.store.revoke_session("ann1", NOW + 1)
    await world.store.set_banned("ann", banned=True, at=NOW + 5)
    revoked = {each: (await world.second.session(each))[0].revoked_at for each in ("ann1", "ann2", "bob1", "bob2")}
    assert revoked == {"ann1": NOW + 1, "ann2": NOW + 5, "bob1": None, "bob2": None}
    assert await world.second.revoked_since(NOW + 5) == ["ann2"]
    assert not await world.second.advance_session("ann2", 1, NOW + 6)
    tickets = [await world.second.take_ticket(each) for each in (b"ann1", b"ann2", b"bob1", b"bob2")]
    assert [ticket is not None for ticket in tickets] == [False, False, True, True]
    assert (await world.second.session("ann2"))[1].banned
    await world.store.set_banned("ann", banned=False, at=NOW + 9)
    assert (await world.store.session("ann2"))[0].revoked_at == NOW + 5, "unbanning does not sign in"


# sessions and tickets


async def test_a_session_advances_once_per_generation(world):
    """Of two refreshes from one generation one wins; a revoked session never advances; revocations are listed."""
    await world.user("ann")
    await world.store.create_session(Session("s1", "ann", 1, NOW, NOW, NOW + 10))
    results = await asyncio.gather(*(each.advance_session("s1", 1, NOW + 1) for each in (world.store, world.second)))
    assert sorted(results) == [False, True]
    await world.store.revoke_session("s1", NOW + 2)
    await world.second.revoke_session("s1", NOW + 9)
    assert not await world.store.advance_session("s1", 2, NOW + 3)
    session, user = await world.second.session("s1")
    assert session == Session("s1", "ann", 2, NOW, NOW + 1, NOW + 10, NOW + 2)
    assert user.id == "ann"
    assert (await world.store.revoked_since(NOW + 2), await world.store.revoked_since(NOW + 3)) == (["s1"], [])


async def test_a_session_that_is_not_there(world):
    """Nobody has it, nothing advances it, and revoking it changes nothing."""
    assert await world.store.session("none") is None
    assert not await world.store.advance_session("none", 1, NOW)
    await world.store.revoke_session("none", NOW)
    assert await world.store.revoked_since(0) == []


async def test_a_ticket_is_taken_once(world):
    """Of many takers on two processes exactly one gets the grant; one nobody put is not there."""
    grant = TicketGrant("s1", "u1", True, NOW)
    await world.store.put_ticket(b"1" * 32, grant)
    taken = await asyncio.gather(*(each.take_ticket(b"1" * 32) for each in [world.store, world.second] * 5))
    assert [each for each in taken if each is not None] == [grant]
    assert await world.store.take_ticket(b"2" * 32) is None


async def test_tickets_nobody_used_are_forgotten(world):
    """An expired ticket is still handed out, for the caller to judge, but not kept for ever."""
    await world.store.put_ticket(b"1", TicketGrant("s1", "u1", False, NOW))
    await world.store.put_ticket(b"2", TicketGrant("s1", "u1", False, NOW + 45 * 1_000_000))
    assert await world.store.take_ticket(b"1") is not None
    await world.store.put_ticket(b"3", TicketGrant("s1", "u1", False, NOW + HOUR))
    assert await world.store.take_ticket(b"2") is None
    assert await world.store.take_ticket(b"3") is not None


async def test_the_summary_counts_new_users_and_logins(world):
    """Users by the time they were first seen, sessions by the time they were made."""
    await world.store.upsert_user(identity("1"), "u1", None, NOW)
    await world.store.upsert_user(identity("2"), "u2", None, NOW + 5)
    for at in (NOW, NOW + 5, NOW + 6):
        await world.store.create_session(Session(f"s{at}", "u1", 1, at, at, at + HOUR))
    summary = await world.store.day_summary(NOW + 5)
    assert (summary.new_users, summary.logins) == (1, 2)
