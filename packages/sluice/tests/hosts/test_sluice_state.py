"""State files, the env file, releases, ports and processes."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.hosts.envfile import EnvFile
from sluice.hosts.releases import FileReleases
from sluice.hosts.state import StatePaths, default_root, write_file
from sluice.hosts.system import SystemClock, port_is_free, process_start, session_members, who_listens
from sluice.model.errors import Refused, StateCorrupted, UsageError
from sluice.model.release import Artifact, Commit, Release, Slot
from sluice.model.spec import RunSpec, ServiceSpec
from sluice.runtimes.placeholders import render

COMMIT = Commit("a" * 40, "b" * 40, "feature/x", "v1", "T", "2026-01-01T00:00:00Z")
SPEC = ServiceSpec(name="s", run=RunSpec(command=("a",)))


@pytest.fixture
def paths(tmp_path) -> StatePaths:
    """State folders of one environment."""
    made = StatePaths(tmp_path / "state", "s", "test")
    made.prepare()
    return made


def release(number: int) -> Release:
    """A release by number."""
    return Release(f"r{number}", "s", "test", COMMIT, Artifact("k", "/a", "b" * 40), SPEC, "fp")


def full_disk(*_):
    """What the kernel says on a full disk."""
    raise OSError(28, "No space left on device")


def test_write_on_a_full_disk_keeps_the_old_file_and_leaves_nothing_beside(tmp_path, monkeypatch):
    """Refused, with the old content whole."""
    file = tmp_path / "f"
    write_file(file, b"old")
    monkeypatch.setattr(os, "write", full_disk)
    with pytest.raises(Refused, match="No space left"):
        write_file(file, b"new")
    monkeypatch.undo()
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_write_into_a_folder_that_is_none_is_refused(tmp_path):
    """There is nothing to take back then, and that is no other failure."""
    (tmp_path / "f").write_bytes(b"old")
    with pytest.raises(Refused, match="Not a directory"):
        write_file(tmp_path / "f" / "g", b"new")


def test_write_sets_the_mode_whatever_the_umask(tmp_path):
    """0600 unless told otherwise."""
    before = os.umask(0o077)
    try:
        write_file(tmp_path / "open", b"x", mode=0o644)
    finally:
        os.umask(before)
    write_file(tmp_path / "closed", b"x")
    assert (tmp_path / "open").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "closed").stat().st_mode & 0o777 == 0o600


def test_folders_are_private_and_searchable_only_on_the_way_to_artifacts(tmp_path):
    """prepare() gives 0700; with a run_as user the way to the artifacts is 0711 and the rest stays closed."""
    made = StatePaths(tmp_path / "state", "s", "test")
    made.prepare()
    assert {p.stat().st_mode & 0o777 for p in (made.root, made.artifacts, made.env_dir, made.data_dir)} == {0o700}
    made.prepare(shared=True)
    assert {p.stat().st_mode & 0o777 for p in (made.root, made.service_dir, made.artifacts)} == {0o711}
    assert {p.stat().st_mode & 0o777 for p in (made.env_dir, made.data_dir, made.env_dir.parent)} == {0o700}


def test_state_that_cannot_be_made_is_refused(tmp_path):
    """A file where a folder should be: refused with what to set."""
    (tmp_path / "state").write_text("")
    with pytest.raises(Refused, match="state folder"):
        StatePaths(tmp_path / "state", "s", "test").prepare()
    assert default_root({"SLUICE_STATE": "/x"}).as_posix() == "/x"
    assert default_root({}).parts[-3:] == (".local", "state", "sluice")


def test_host_key_is_made_once_and_a_damaged_one_is_refused(paths):
    """Fingerprints stay comparable within an environment; damage is said."""
    key = paths.read_host_key()
    assert paths.read_host_key() == key
    paths.host_key.write_bytes(b"short")
    with pytest.raises(StateCorrupted):
        paths.read_host_key()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o700])
def test_env_file_with_another_mode_is_refused(tmp_path, mode):
    """Only 0600 and 0400 will do."""
    file = tmp_path / "e.env"
    file.write_text("A=1\n")
    file.chmod(mode)
    with pytest.raises(Refused, match=f"mode {mode:04o}"):
        EnvFile(file).check()


def test_env_file_missing_linked_in_git_or_broken_is_refused_without_its_content(tmp_path):
    """Each refusal names the file and the next step; a broken line is named by number only."""
    file = tmp_path / "e.env"
    with pytest.raises(Refused, match="does not exist"):
        EnvFile(file).check()
    file.write_text("A=1\nsecretvalue without equals\n")
    file.chmod(0o600)
    with pytest.raises(Refused, match="line 2") as caught:
        EnvFile(file).check()
    assert "secretvalue" not in str(caught.value)
    (tmp_path / "link").symlink_to(file)
    with pytest.raises(Refused, match="regular file"):
        EnvFile(tmp_path / "link").check()
    file.write_text("A=1\n")
    (tmp_path / ".git").mkdir()
    with pytest.raises(Refused, match="git repository"):
        EnvFile(file).check()


def test_env_file_names_values_and_fingerprint(tmp_path):
    """Comments, export and quotes are understood; the fingerprint depends on values and key, not on order."""
    file = tmp_path / "e.env"
    file.write_text("# c\nexport A='x y'\nB=\"1=2\"\n\nEMPTY=\n")
    file.chmod(0o600)
    env = EnvFile(file)
    env.check()
    assert env.names() == {"A", "B"}
    assert {k: v.reveal() for k, v in env.values().items()} == {"A": "x y", "B": "1=2", "EMPTY": ""}
    first = env.fingerprint(b"k" * 32)
    assert env.fingerprint(b"j" * 32) != first
    file.write_text("EMPTY=\nB=1=2\nA=x y\n")
    assert env.fingerprint(b"k" * 32) == first
    file.write_text("EMPTY=\nB=1=3\nA=x y\n")
    assert env.fingerprint(b"k" * 32) != first


def test_a_value_may_hold_what_only_some_call_the_end_of_a_line(tmp_path):
    """Lines end at a newline, with a carriage return or without; U+2028 and its like are letters of a value."""
    file = tmp_path / "e.env"
    file.write_bytes("A=one\u2028two\r\nB=x\x85y\x0cz\n".encode())
    file.chmod(0o600)
    EnvFile(file).check()
    values = {name: value.reveal() for name, value in EnvFile(file).values().items()}
    assert values == {"A": "one\u2028two", "B": "x\x85y\x0cz"}


def test_env_file_addresses_are_shown_and_everything_else_is_hidden(tmp_path):
    """A bare origin is no secret; an address with a user, a path or a query may hold one."""
    file = tmp_path / "e.env"
    file.write_text(
        "O=https://rooms.example\nU=https://me:" + "pw@rooms.example\nQ=https://a.example/?key=1\nK=plain-value\n"
    )
    hidden = {secret.reveal() for secret in EnvFile(file).secrets()}
    assert hidden == {"https://me:" + "pw@rooms.example", "https://a.example/?key=1", "plain-value"}
    assert EnvFile(tmp_path / "none").secrets() == []


def test_releases_damage_is_named_and_not_overwritten(paths):
    """A torn release, one under another's name, a torn note, a note to nothing: each is named."""
    releases = FileReleases(paths)
    releases.save(release(1))
    file = paths.releases_dir / "r1.json"
    whole = file.read_text()
    for damaged in (whole[:-30], "", "[]", whole.replace('"r1"', '"r2"')):
        file.write_text(damaged)
        with pytest.raises(StateCorrupted, match=r"r1\.json"):
            releases.all()
        assert file.read_text() == damaged
    file.write_text(whole)
    releases.set_serving(release(1), Slot("r1", "u", 1, "http://x"))
    file.unlink()
    with pytest.raises(StateCorrupted, match=r"r1\.json"):
        releases.serving()
    (paths.env_dir / "serving.json").write_text("{")
    with pytest.raises(StateCorrupted, match=r"serving\.json"):
        releases.serving()


def test_releases_round_trip_and_full_disk(paths, monkeypatch):
    """What was saved comes back in order; a full disk leaves what served."""
    releases, slot = FileReleases(paths), Slot("r1", "u", 18100, "http://127.0.0.1:18100")
    assert (releases.all(), releases.serving()) == ([], None)
    for number in (2, 1):
        releases.save(release(number))
    assert releases.all() == [release(1), release(2)]
    assert releases.get("r2") == release(2)
    releases.set_serving(release(1), slot)
    monkeypatch.setattr(os, "write", full_disk)
    with pytest.raises(Refused, match="No space left"):
        releases.set_serving(release(2), slot)
    monkeypatch.undo()
    assert releases.serving() == (release(1), slot)
    releases.set_serving(None, None)
    assert releases.serving() is None
    for wrong in ("r9", "../r1", ""):
        with pytest.raises(UsageError):
            releases.get(wrong)


def test_ports_and_who_listens_on_them():
    """A listener makes a port not free and is named by pid; an address that is not ours is not free either."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not port_is_free("127.0.0.1", port)
        assert who_listens(port).startswith(f"pid {os.getpid()} (")
    assert port_is_free("127.0.0.1", port)
    assert who_listens(port) == "another program"
    assert not port_is_free("192.0.2.1", port)


def test_process_start_names_a_process_and_a_zombie_does_not_live():
    """A living process keeps its start; one that ended and was not reaped does not count as living."""
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, start_new_session=True
    )
    first = process_start(child.pid)
    assert first is not None
    assert process_start(child.pid) == first
    assert session_members(child.pid) == [child.pid]
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process_start(child.pid) is None
    child.wait()
    assert process_start(child.pid) is None


async def test_clock_tells_utc_with_milliseconds():
    """ISO 8601, UTC, milliseconds; monotonic never goes back."""
    clock = SystemClock()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", clock.now())
    before = clock.monotonic()
    await clock.sleep(0)
    assert clock.monotonic() >= before


@given(st.text(), st.text())
def test_rendering_fills_each_placeholder_once(around, value):
    """A value that itself looks like a placeholder is not filled in again."""
    plain = around.replace("{", "").replace("}", "")
    assert render(f"{plain}{{port}}{plain}", {"port": f"{value}{{url}}"}) == f"{plain}{value}{{url}}{plain}"
