"""Two environments of one host must not share data; what they share is told by name, never by value."""

from __future__ import annotations

import pytest

from sluice.model.errors import StepFailed
from sluice.model.spec import HostEnvironment
from sluice.runtimes.overlap import database_of, shared_data

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
        ("info", "info"),
    ],
)
def test_what_is_apart_or_may_be_shared_is_no_overlap(tmp_path, mine, theirs):
    """Other databases of one server, files in the environment's own folder, a common SSO or bus."""
    test = environment(tmp_path, "test", f"A={mine}")
    assert shared_data(test, {"shop/prod": environment(tmp_path, "prod", f"A={theirs}")}) == []


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
