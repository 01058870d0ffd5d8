"""Two environments of one host must not share data; what they share is told by name, never by value."""

from __future__ import annotations

import os
import pwd
import socket
from pathlib import Path

import msgspec
import pytest

from sluice.model.errors import StepFailed
from sluice.model.spec import HostEnvironment
from sluice.runtimes.data_places import database_of
from sluice.runtimes.overlap import shared_data

SECRET = "s3cret" + "x" * 10


def environment(folder, name, *lines):
    """An environment with this env file."""
    path = folder / f"{name}.env"
    path.write_text("".join(f"{line}\n" for line in lines))
    path.chmod(0o600)
    return HostEnvironment(public_url=f"http://{name}.test", env_file=str(path), ports=(18100, 18110))


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ("postgresql://a:{s}@db:5432/shop", "postgres+asyncpg://b:other@DB/shop?sslmode=require"),
        ("postgresql://localhost/shop", "postgresql://127.0.0.1:5432/shop"),
        ("sqlite:////var/lib/shop.db", "sqlite+aiosqlite:////var/lib/../lib/shop.db"),
        ("redis://:{s}@cache/0", "rediss://cache:6379/0"),
        ("mongodb://a:{s}@m/shop", "mongodb://m/shop"),
        ("redis://cache", "redis://cache/0"),
        ("redis://cache?db=2", "redis://cache/2"),
        ("jdbc:postgresql://db/shop", "postgresql://db./shop"),
        ("postgresql://localhost/shop", f"postgresql://{socket.gethostname()}/shop"),
        ("postgresql://127.0.1.1/shop", "postgresql:///shop"),
        ("postgresql://a:{s}@h1,h2:5433/shop", "postgresql://h2:5433,h1/shop"),
        ("postgresql:///shop?host=/run/pg", "postgresql://%2Frun%2Fpg/shop"),
        ("file:/srv/x.db", "sqlite:////srv/x.db"),
        ("jdbc:sqlite:/srv/x.db", "file:///srv/x.db?mode=rw"),
        ("mysql://db/shop", "mariadb+pymysql://db:3306/shop"),
    ],
)
def test_one_database_of_two_environments_is_named_by_its_variable(tmp_path, mine, theirs):
    """Whoever signs in there and by whichever driver; no value is shown."""
    test = environment(tmp_path, "test", f"SHOP_DB={mine.format(s=SECRET)}", "LEVEL=info")
    prod = environment(tmp_path, "prod", f"MAIN_DB={theirs}", "LEVEL=info")
    (sentence,) = shared_data(test, {"shop/prod": prod})
    assert sentence == "SHOP_DB names the database that MAIN_DB of shop/prod names"


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ("postgresql://db/test", "postgresql://db/prod"),
        ("postgresql://db/shop", "postgresql://other/shop"),
        ("redis://cache/0", "redis://cache/1"),
        ("sqlite:///shop.db", "sqlite:///shop.db"),
        ("sqlite://", "sqlite://"),
        ("https://sso.example.org", "https://sso.example.org"),
        ("nats://bus:4222", "nats://bus:4222"),
        ("postgresql://db:port/x", "postgresql://db:port/x"),
        ("postgresql:///shop?host=/run/pg1", "postgresql:///shop?host=/run/pg2"),
        ("postgresql://a@db", "postgresql://b@db"),
        ("/srv/data", "/srv/data"),
        ("info", "info"),
    ],
)
def test_what_is_apart_or_may_be_shared_is_no_overlap(tmp_path, mine, theirs):
    """Other databases of one server, files in the environment's own folder, a common SSO or bus."""
    test = environment(tmp_path, "test", f"A={mine}")
    assert shared_data(test, {"shop/prod": environment(tmp_path, "prod", f"A={theirs}")}) == []


@pytest.mark.parametrize(
    ("mine", "theirs", "said"),
    [
        (
            ["PGHOST=db", "PGDATABASE=shop"],
            ["PGHOST=DB.", "PGDATABASE=shop", "PGPORT=5432"],
            "the database that PGHOST",
        ),
        (["DB_HOST=db", "DB_NAME=shop"], ["DB_HOST=db", "DB_NAME=shop"], "the database that DB_HOST"),
        (["PGHOST=db", "PGDATABASE=shop"], ["URL=postgres://a@db/shop"], "the database that URL"),
        (["REDIS_HOST=r"], ["URL=redis://r"], "the database that URL"),
        (["DB_FILE=/srv/x.db"], ["DB_FILE=/srv/../srv/x.db"], "file or folder that DB_FILE"),
        (["DATA_DIR=/srv/data"], ["UPLOADS=/srv/data/up"], "file or folder that UPLOADS"),
        (["DATA_DIR=/srv/data"], ["URL=sqlite:////srv/data/x.db"], "file or folder that URL"),
        (["A=/srv/x.sqlite3"], ["B=/srv/x.sqlite3"], "file or folder that B"),
    ],
)
def test_a_database_in_parts_and_a_folder_of_data_are_seen(tmp_path, mine, theirs, said):
    """What is written without a URL is the same data: host beside name, a file, a folder around it."""
    test, prod = environment(tmp_path, "test", *mine), environment(tmp_path, "prod", *theirs)
    (sentence,) = shared_data(test, {"shop/prod": prod})
    assert said in sentence


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (["PGHOST=db", "PGDATABASE=test"], ["PGHOST=db", "PGDATABASE=prod"]),
        (["REDIS_HOST=r", "REDIS_DB=1"], ["REDIS_HOST=r", "REDIS_DB=2"]),
        (["DATA_DIR=/srv/test"], ["DATA_DIR=/srv/prod"]),
        (["CA_FILE=/srv/ca.pem", "DATA_DIR=/usr/share/x"], ["CA_FILE=/srv/ca.pem", "DATA_DIR=/usr/share/x"]),
        (["MAIL_HOST=m", "MAIL_NAME=x"], ["MAIL_HOST=m", "MAIL_NAME=x"]),
    ],
)
def test_parts_that_differ_or_hold_no_data_are_apart(tmp_path, mine, theirs):
    """Another name on one server, another folder; a certificate and what the system brings may be common."""
    test, prod = environment(tmp_path, "test", *mine), environment(tmp_path, "prod", *theirs)
    assert shared_data(test, {"shop/prod": prod}) == []


@pytest.mark.parametrize(
    "line",
    [
        *("DATABASE_CA=/opt/certs/rds-ca", "DB_CA_FILE=/opt/rds-ca", "DATA_URL_PREFIX=/data", "STORAGE_TMP=/tmp"),
        *(
            "DB_SOCKET=/var/lib/pg",
            "STORE_SOCK=/opt/x",
            "PG_STATE=/var/run/postgresql",
            "GEOIP_DB=/opt/City.mmdb",
        ),
        *("QUEUE_PATH=/v1/jobs", "UPLOAD_ROUTE=/upload", "STATE_MACHINE_URL=/x", "DATABASE_SCHEMA=/opt/app/schema.sql"),
        *("DATA=/run/x", "STATE_DIR={folder}/sockets", "STATE_FILE={folder}/sockets/.s.PGSQL.5432"),
    ],
)
def test_what_is_read_and_ways_to_servers_may_be_common(tmp_path, line):
    """Certificates, schemas, sockets and their folders, parts of addresses, the folder of all that is temporary."""
    (tmp_path / "sockets").mkdir()
    (tmp_path / "sockets" / ".s.PGSQL.5432.lock").touch()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "sockets" / ".s.PGSQL.5432"))
        both = (environment(tmp_path, name, line.format(folder=tmp_path)) for name in ("test", "prod"))
        assert shared_data(next(both), {"shop/prod": next(both)}) == []


@pytest.mark.parametrize(
    "line",
    [
        *("DATA_PATH={folder}", "DATABASE_URL=sqlite:////run/shop.db", "DB_CA_DB=/srv/x", "STORAGE_TMP=/tmp/shop"),
        *("DATA_DIR={folder}/mixed", "DATA_DIR={folder}/empty", "DATA=/srv/not-there-yet"),
        *("DATABASE_URL=/srv/shop.db", "DB_PATH=/srv/not-there-yet.sqlite3", "SPOOL_DIR={folder}/locked"),
    ],
)
def test_data_that_looks_like_something_else_is_seen(tmp_path, line):
    """A folder that is there, a database by URL or file wherever it lies, a socket or a lock among files or alone."""
    for name in ("mixed", "empty", "locked"):
        (tmp_path / name).mkdir()
    (tmp_path / "locked" / "queue.lock").touch()
    (tmp_path / "mixed" / "ibdata1").touch()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "mixed" / "mysql.sock"))
        both = (environment(tmp_path, name, line.format(folder=tmp_path)) for name in ("test", "prod"))
        assert len(shared_data(next(both), {"shop/prod": next(both)})) == 1


def test_what_lies_where_we_may_not_look_is_there(tmp_path, monkeypatch):
    """A folder of the service's own user may be closed to ours: that ends no gate, and the data in it is shared."""

    def closed(path, **_follow):
        raise PermissionError(13, "Permission denied", str(path))

    test, prod = (environment(tmp_path, name, "STORAGE_PATH=/srv/closed/files") for name in ("test", "prod"))
    for look in ("stat", "lstat"):
        original = getattr(Path, look)
        monkeypatch.setattr(
            Path, look, lambda path, _o=original, **f: closed(path) if "closed" in str(path) else _o(path, **f)
        )
    assert len(shared_data(test, {"shop/prod": prod})) == 1


def test_a_file_that_neither_may_write_may_be_common(tmp_path):
    """A list that both read is nobody's data, until one of the two users may change it."""
    file = tmp_path / "words.db"
    file.touch()
    line, me = f"WORDS={file}", pwd.getpwuid(os.geteuid()).pw_name
    test, prod = (environment(tmp_path, name, line) for name in ("test", "prod"))
    file.chmod(0o444)
    test, prod = (msgspec.structs.replace(one, run_as=user) for one, user in ((test, "nobody"), (prod, "daemon")))
    assert shared_data(test, {"shop/prod": prod}) == []
    file.chmod(0o446)
    assert shared_data(test, {"shop/prod": prod}) != []
    file.chmod(0o644)
    assert shared_data(test, {"shop/prod": prod}) == []
    assert shared_data(test, {"shop/prod": msgspec.structs.replace(prod, run_as=me)}) != []
    assert shared_data(test, {"shop/prod": msgspec.structs.replace(prod, run_as="is-no-account")}) != []


def test_a_file_that_one_may_exchange_is_data(tmp_path, monkeypatch):
    """Who may write in its folder puts another in its place, and an access list lets in whom the mode does not name."""
    (tmp_path / "lists").mkdir(mode=0o755)
    (tmp_path / "lists" / "words.db").touch(mode=0o644)
    line = f"WORDS={tmp_path}/lists/words.db"
    given = ((name, environment(tmp_path, name, line)) for name in ("nobody", "daemon"))
    test, prod = (msgspec.structs.replace(one, run_as=user) for user, one in given)
    assert shared_data(test, {"shop/prod": prod}) == []
    (tmp_path / "lists").chmod(0o777)
    assert shared_data(test, {"shop/prod": prod}) != []
    (tmp_path / "lists").chmod(0o755)
    monkeypatch.setattr(os, "listxattr", lambda _path: ["system.posix_acl_access"])
    assert shared_data(test, {"shop/prod": prod}) != []


def test_another_source_of_values_is_not_shared_either(tmp_path):
    """One folder of secrets, and one env file under two names."""
    place = tmp_path / "secrets"
    place.mkdir(mode=0o700)
    test, prod = (environment(tmp_path, name, "LEVEL=info") for name in ("test", "prod"))
    given = {"secret_files": str(place)}
    (sentence,) = shared_data(*(msgspec.structs.replace(test, **given), {"p": msgspec.structs.replace(prod, **given)}))
    assert "the folder of secrets" in sentence
    (tmp_path / "linked.env").hardlink_to(test.env_file)
    linked = msgspec.structs.replace(prod, env_file=str(tmp_path / "linked.env"))
    (sentence,) = shared_data(test, {"p": linked})
    assert "the env file" in sentence


def test_a_neighbour_that_cannot_be_looked_at_is_not_apart(tmp_path):
    """An env file that is there and cannot be read (of another user, a link in a circle) fails the question."""
    test = environment(tmp_path, "test", "DB=postgresql://db/shop")
    (tmp_path / "prod.env").symlink_to("prod.env")
    other = HostEnvironment(public_url="http://p", env_file=str(tmp_path / "prod.env"), ports=(1, 2))
    with pytest.raises(StepFailed, match="cannot be told"):
        shared_data(test, {"shop/prod": other})


def test_one_env_file_for_two_environments_is_said_once(tmp_path):
    """Its path is the evidence; its variables need not be listed."""
    test = environment(tmp_path, "test", "DB=postgresql://db/shop")
    (sentence,) = shared_data(test, {"shop/prod": test})
    assert "is also that of shop/prod" in sentence


def test_a_neighbour_that_has_no_env_file_yet_shares_nothing(tmp_path):
    """An environment that was never prepared cannot be disturbed."""
    test = environment(tmp_path, "test", "DB=postgresql://db/shop")
    missing = HostEnvironment(public_url="http://p", env_file=str(tmp_path / "none"), ports=(1, 2))
    assert shared_data(test, {"shop/prod": missing}) == []


def test_a_neighbours_env_file_that_cannot_be_understood_fails_the_question(tmp_path):
    """What cannot be told is not told to be fine; the line itself is not shown."""
    test = environment(tmp_path, "test", "DB=postgresql://db/shop")
    with pytest.raises(StepFailed, match="cannot be told") as failed:
        shared_data(test, {"shop/prod": environment(tmp_path, "prod", f"not a line {SECRET}")})
    assert SECRET not in str(failed.value)


def test_only_databases_have_a_place(tmp_path):
    """A URL that names none for sure has none."""
    assert database_of("sqlite:///:memory:") is None
    assert database_of("ftp://db/shop") is None
    assert database_of(f"sqlite:///{tmp_path}/a.db") == ("sqlite", str(tmp_path / "a.db"))
