"""The SQLite store: the log, identities, tickets, leases; what happens when the disk or the file fails."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from boltorezka.adapters.sqlite import SqliteStore, code_head, head, migrate
from boltorezka.adapters.sqlite.schema import require_current
from boltorezka.auth.model import Identity, Session, TicketGrant
from boltorezka.errors import MessageNotFound, RoomNotFound, SchemaError, Unavailable
from boltorezka.ports import NewEvent, Presence
from boltorezka.rooms.model import Conflicting, EventKind, Missing, Role, Room, Stored

NOW = 1_800_000_000_000_000


class Still:
    """A clock that stands."""

    def now(self) -> int:
        return NOW

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A migrated database; the odd name must not matter."""
    path = tmp_path / "a b%?#.db"
    migrate(path)
    return path


@pytest.fixture
async def store(path: Path):
    """An open store."""
    store = SqliteStore(path, Still())
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def other(path: Path):
    """A second store on the same file, as another process has it."""
    store = SqliteStore(path, Still())
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def general(store: SqliteStore) -> Room:
    """The room that is there from the start."""
    room = await store.room_by_slug("general")
    assert room is not None
    return room


def new(room: Room | str, number: int, key: str | None = None, text: str = "hi") -> NewEvent:
    """A message to be stored."""
    room_id = room if isinstance(room, str) else room.id
    return NewEvent(room_id, EventKind.MESSAGE, f"m{number}", "u1", "Ann", text, NOW + number, f"r{number}", key)


# the schema


def test_a_missing_old_or_foreign_database_is_refused(tmp_path):
    """Each kind of unusable file is named, with the command that helps, and nothing is created."""
    path = tmp_path / "x.db"
    with pytest.raises(SchemaError, match="boltorezka migrate"):
        require_current(path)
    assert not path.exists()
    path.write_text("this is not a database, it only looks like a file of some length")
    with pytest.raises(SchemaError, match="not a SQLite database"):
        head(path)
    path.unlink()
    for revision, match in (("0000", "Run `boltorezka migrate`"), ("feedbeef", "foreign schema")):
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num TEXT)")
            db.execute("DELETE FROM alembic_version")
            db.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
        db.close()
        with pytest.raises(SchemaError, match=match):
            require_current(path)


def test_a_newer_database_is_accepted_and_left_alone(path):
    """During a rollback the older server runs on the newer schema; migrate() does not touch it."""
    with sqlite3.connect(path) as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    db.close()
    require_current(path)
    assert migrate(path) == "9999"


def test_migrating_is_repeatable_and_knows_its_head(path):
    """The second migration changes nothing; the head in the code is the head of the scripts."""
    from alembic.script import ScriptDirectory

    import boltorezka.adapters.sqlite.migrations as scripts

    assert migrate(path) == head(path) == code_head()
    assert ScriptDirectory(Path(scripts.__file__).parent).get_current_head() == code_head()


def test_processes_that_migrate_at_once_agree(tmp_path):
    """Three processes started together all end well, and there is one room `general`."""
    path = tmp_path / "x.db"
    code = "import sys, pathlib, boltorezka.adapters.sqlite as s; s.migrate(pathlib.Path(sys.argv[1]))"
    children = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(3)]
    assert [child.wait(timeout=60) for child in children] == [0, 0, 0]
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM rooms").fetchone() == (1,)
    db.close()


def test_serving_does_not_load_the_migration_tools():
    """Importing the store must not import Alembic or SQLAlchemy: a server starts without them."""
    code = "import sys, boltorezka.adapters.sqlite; sys.exit(bool({'alembic', 'sqlalchemy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# failures


async def test_a_closed_store_refuses(path):
    """Before open() and after close() every call is Unavailable."""
    store = SqliteStore(path, Still())
    with pytest.raises(Unavailable):
        await store.ping()
    await store.open()
    await store.close()
    await store.close()
    with pytest.raises(Unavailable):
        await store.append([])


async def test_a_file_that_is_gone_is_noticed_and_can_come_back(store, general, path):
    """SQLite would go on writing into a deleted file; we refuse reads and writes until it is back."""
    hidden = path.with_name("hidden")
    path.rename(hidden)
    with pytest.raises(Unavailable, match="gone"):
        await store.append([new(general, 1)])
    with pytest.raises(Unavailable, match="gone"):
        await store.ping()
    hidden.rename(path)
    await store.ping()
    assert isinstance((await store.append([new(general, 1)]))[0], Stored)


async def test_a_full_disk_stores_nothing_and_recovers(store, general):
    """A batch that does not fit is refused as a whole; what is smaller still works, with the next seq."""
    engine = store._running
    engine._db.execute("PRAGMA max_page_count = 60")
    with pytest.raises(Unavailable, match="disk space"):
        await store.append([new(general, number, text="x" * 4000) for number in range(100)])
    assert (await store.room_by_slug("general")).last_seq == 0
    engine._db.execute("PRAGMA max_page_count = 100000")
    assert (await store.append([new(general, 1)]))[0].event.seq == 1


async def test_one_refused_call_does_not_hurt_the_others_of_its_group(store, general):
    """A constraint broken by one call of a transaction takes back that call only."""
    await store.append([new(general, 1)])
    results = await asyncio.gather(
        store.append([new(general, 2)]),
        store.append([new(general, 3), new(general, 1)]),
        store.append([new(general, 4)]),
        return_exceptions=True,
    )
    assert isinstance(results[1], sqlite3.IntegrityError)
    assert [event.id for event in await store.delta(general.id, 0, 10)] == ["m1", "m2", "m4"]


# the log


async def test_every_event_gets_the_next_seq(store, general):
    """Calls from many tasks: seq grows by one in the order of storing, per room, without holes."""
    second = await store.ensure_room(Room("r2", "second", "Second", True, NOW, "e2", 0))
    batches = [[new(general if number % 3 else second, number)] for number in range(200)]
    await asyncio.gather(*(store.append(batch) for batch in batches))
    for room, count in ((general, 133), (second, 67)):
        events = await store.delta(room.id, 0, 1000)
        assert [event.seq for event in events] == list(range(1, count + 1))
    assert await store.heads() == {general.id: 133, "r2": 67}


async def test_a_repeated_key_is_stored_once_even_at_the_same_moment(store, other, general):
    """The same key from two processes, and twice in one batch: one event, everybody gets the first."""
    answers = await asyncio.gather(
        *(each.append([new(general, number, key="k")]) for number, each in enumerate([store, other, store, other]))
    )
    answers.append(await store.append([new(general, 8, key="j"), new(general, 9, key="j")]))
    flat = [answer for batch in answers[:4] for answer in batch]
    assert len({answer.event.id for answer in flat}) == 1
    assert sorted(answer.duplicate for answer in flat) == [False, True, True, True]
    assert [answer.duplicate for answer in answers[4]] == [False, True]
    assert (await store.room_by_slug("general")).last_seq == 2


async def test_a_key_with_another_text_or_room_conflicts(store, general):
    """A key names one message: another text or room is Conflicting; a room that is not there is Missing."""
    await store.ensure_room(Room("r2", "second", "Second", True, NOW, "e2", 0))
    await store.append([new(general, 1, key="k")])
    answers = await store.append([new(general, 2, key="k", text="other"), new("r2", 3, key="k"), new("none", 4)])
    assert [type(answer) for answer in answers] == [Conflicting, Conflicting, Missing]
    assert await store.heads() == {general.id: 1, "r2": 0}


async def test_pages_go_back_without_holes(store, general):
    """Paging backwards by seq or by id covers the log exactly; unknown rooms and messages are refused."""
    await store.append([new(general, number) for number in range(1, 26)])
    page = await store.page(general.id, 10)
    seen = [page.events]
    while page.has_more:
        oldest = page.events[0]
        assert page == await store.page(general.id, 10, before_seq=oldest.seq) or page.room.last_seq == 25
        page = await store.page(general.id, 10, before_id=oldest.id)
        seen.append(page.events)
    assert [event.seq for events in reversed(seen) for event in events] == list(range(1, 26))
    with pytest.raises(RoomNotFound):
        await store.page("none", 10)
    with pytest.raises(MessageNotFound):
        await store.page(general.id, 10, before_id="none")


async def test_rooms_as_a_user_sees_them(store, general):
    """Public rooms are for all, private ones for members; unread counts from the joining on."""
    await store.ensure_room(Room("r2", "hidden", "Hidden", False, NOW * 2, "e2", 0))
    again = await store.ensure_room(Room("r3", "hidden", "Other", True, NOW, "e3", 0))
    assert again.id == "r2"
    await store.append([new(general, 1)])
    assert [view.room.slug for view in await store.rooms_for("u1")] == ["general"]
    for _ in range(2):
        await store.add_member(general.id, "u1", NOW)
    await store.add_member("r2", "u1", NOW)
    assert await store.is_member("r2", "u1")
    assert not await store.is_member("r2", "u2")
    await store.append([new(general, 2)])
    views = await store.rooms_for("u1")
    assert [(view.room.slug, view.is_member, view.unread) for view in views] == [
        ("general", True, 1),
        ("hidden", True, 0),
    ]


async def test_messages_carry_the_name_of_their_author(store, general):
    """Reading the log gives the author's present name."""
    identity = Identity("broker", "sso", "1", "a@x", "Ann B", "user", True)
    await store.upsert_user(identity, "u1", None, NOW)
    await store.append([new(general, 1)])
    assert (await store.delta(general.id, 0, 1))[0].user_name == "Ann B"


# identities


async def test_a_user_is_its_identity_and_a_role_only_rises(store):
    """The same identity is the same user with a fresh name; another subject with the same e-mail is somebody else."""
    first = Identity("broker", "sso", "1", "a@x", "Ann", "user", True)
    made = await store.upsert_user(first, "u1", Role.ADMIN, NOW)
    renamed = Identity("broker", "sso", "1", "b@x", "Ann B", "user", True)
    assert (await store.upsert_user(renamed, "u2", Role.USER, NOW)).role is Role.ADMIN
    assert (await store.upsert_user(renamed, "u2", None, NOW)).id == made.id
    assert (await store.user("u1")).name == "Ann B"
    assert (
        await store.upsert_user(Identity("broker", "sso", "2", "b@x", "X", "user", True), "u3", None, NOW)
    ).id == "u3"
    assert await store.user("nobody") is None


async def test_a_session_advances_once_per_generation(store):
    """Of two refreshes from one generation one wins; a revoked session never advances; revocations are listed."""
    await store.upsert_user(Identity("broker", "sso", "1", "a@x", "Ann", "user", True), "u1", None, NOW)
    await store.create_session(Session("s1", "u1", 1, NOW, NOW, NOW + 10))
    results = await asyncio.gather(*(store.advance_session("s1", 1, NOW + 1) for _ in range(2)))
    assert sorted(results) == [False, True]
    await store.revoke_session("s1", NOW + 2)
    await store.revoke_session("s1", NOW + 9)
    assert not await store.advance_session("s1", 2, NOW + 3)
    session, user = await store.session("s1")
    assert (session.generation, session.revoked_at, user.id) == (2, NOW + 2, "u1")
    assert (await store.revoked_since(NOW + 2), await store.revoked_since(NOW + 3)) == (["s1"], [])
    assert await store.session("none") is None


async def test_a_ticket_is_taken_once(store, other):
    """Of many takers on two processes exactly one gets the grant; tickets nobody used are forgotten."""
    grant = TicketGrant("s1", "u1", True, NOW)
    await store.put_ticket(b"1" * 32, grant)
    taken = await asyncio.gather(*(each.take_ticket(b"1" * 32) for each in [store, other] * 5))
    assert [each for each in taken if each is not None] == [grant]
    await store.put_ticket(b"2" * 32, grant)
    await store.put_ticket(b"3" * 32, TicketGrant("s1", "u1", True, NOW + 3600 * 1_000_000))
    assert await store.take_ticket(b"2" * 32) is None


# other processes


async def test_leases_expire_with_their_presence(store):
    """A process that stops renewing is dropped together with its people; giving back does it at once."""
    for instance in ("one", "two", "three"):
        await store.renew_lease(instance, NOW, NOW + 6)
        await store.set_presence(instance, [Presence("r", "u", "U", instance)], [])
    assert await store.renew_lease("one", NOW + 5, NOW + 11) == ["three", "two"]
    await store.renew_lease("two", NOW + 5, NOW + 11)
    assert await store.renew_lease("one", NOW + 7, NOW + 13) == ["two"]
    assert {row.instance for row in await store.presence()} == {"one", "two"}
    await store.set_presence("one", [], [Presence("r", "u", "U", "one")])
    await store.release_lease("two")
    assert await store.presence() == []


async def test_only_commits_of_others_are_reported_and_only_while_watched(store, other, general):
    """The watch is silent for our own commits, hears another process's within its interval, and can be turned off."""
    heard = asyncio.Event()
    store.watch(heard.set)
    store.set_peers_live(True)
    async with asyncio.timeout(10):
        await heard.wait()  # turning it on reports once: something may have come before
    heard.clear()
    for number in range(5):
        await store.append([new(general, number)])
    assert not heard.is_set()
    await other.append([new(general, 10)])
    async with asyncio.timeout(10):
        await heard.wait()
    store.set_peers_live(False)
    await store.append([new(general, 11)])
    heard.clear()
    await other.append([new(general, 12)])
    await store.append([new(general, 13)])
    assert not heard.is_set()


async def test_closing_finishes_what_was_accepted(path):
    """Calls that were accepted before close() are stored and answered."""
    store = SqliteStore(path, Still())
    await store.open()
    room = await store.room_by_slug("general")
    writing = [asyncio.ensure_future(store.append([new(room, number)])) for number in range(50)]
    await asyncio.sleep(0)  # one turn of the loop: every task has handed its call over
    await store.close()
    assert [answer[0].event.seq for answer in await asyncio.gather(*writing)] == list(range(1, 51))
