"""What a host does to Sluice: an engine that restarts, a full or read-only disk, two people at once, damaged files."""

from __future__ import annotations

import contextlib
import errno
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
from own_engine import OwnEngine
from settled import Before, is_locked, other
from tiny import COMMAND_S, TinyWorld
from workbench import wait_until

from sluice.engine import Event, State
from sluice.journal import SUFFIX, read_all

pytestmark = pytest.mark.e2e

RUNTIMES = ("process", "compose")
PORTS = {"process": 18840, "compose": 18860, "own engine": 18880}
SMALL = "24m"  # of a state folder: the mirror, two artifacts of a few kilobytes, and the logs


def established(world: TinyWorld) -> TinyWorld:
    """The world with one good release that serves."""
    for name in ("one", "two"):
        world.branch(f"feature/{name}")
    world.good("rollout", "--branch", "feature/one")
    return world


@pytest.fixture(scope="module", params=RUNTIMES)
def shared_world(request, images, tmp_path_factory) -> Iterator[TinyWorld]:
    """One for each runtime, with its state on a small disk of its own."""
    folder = tmp_path_factory.mktemp(f"faults-{request.param}")
    state = folder / "state"
    state.mkdir(mode=0o700)
    mount("-t", "tmpfs", "-o", f"size={SMALL},mode=700", "tmpfs", str(state))
    base = images.python if request.param == "compose" else ""
    world = TinyWorld(folder, request.param, PORTS[request.param], base, prefix="mx")
    try:
        yield established(world)
    finally:
        world.stop()
        # What a supervisor wrote last may still be on its way.
        wait_until(lambda: mount_ended(state), "the small disk can be taken away", 20)


@pytest.fixture
def world(shared_world) -> Iterator[TinyWorld]:
    """Open for the test, and left with one good release that serves."""
    before = Before(shared_world)
    yield shared_world
    before.settle(set(shared_world.shas.values()))
    open_again(shared_world)


def open_again(world: TinyWorld) -> None:
    """Whatever the last run thought of its release."""
    if is_locked(world):
        assert world.here("unlock", "--reason", "the next case").code == 0


def mount(*arguments: str) -> None:
    """As root, like CI."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def mount_ended(folder: Path) -> bool:
    """Whether what is mounted there is not any more."""
    return subprocess.run(["umount", str(folder)], capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nobody who opens a file in there now can write it."""
    mount("--bind", str(folder), str(folder))
    try:
        mount("-o", "remount,bind,ro", str(folder))
        yield
    finally:
        wait_until(lambda: mount_ended(folder), "the folder can be written again", 20)


@contextlib.contextmanager
def filler(folder: Path) -> Iterator[Callable[[], None]]:
    """What takes all the room there is, from when it is called to the end of the block."""
    path = folder / "filler"

    def fill() -> None:
        with path.open("ab", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                while wrote(file, b"\0" * size):
                    pass

    try:
        yield fill
    finally:
        path.unlink(missing_ok=True)


def wrote(file: IO[bytes], content: bytes) -> bool:
    """Whether there was room for some of it."""
    try:
        return file.write(content) > 0
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False


def journal_reaches(world: TinyWorld, entry: str) -> Callable[[], bool]:
    """Whether the run that begins after this call has written the entry."""
    known = set(world.paths.journal_dir.glob(f"*{SUFFIX}"))

    def reached() -> bool:
        new = set(world.paths.journal_dir.glob(f"*{SUFFIX}")) - known
        word, _, state = entry.partition(":")
        return any(f'"entry":"{word}"' in line and f'"state":"{state}"' in line for line in lines_of(new))

    return reached


def lines_of(paths: set[Path]) -> Iterator[str]:
    """Of all of them."""
    for path in paths:
        yield from path.read_text().splitlines()


# ---------------------------------------------------------------- the disk


def test_a_disk_that_is_full_refuses_a_rollout(world):
    """A sentence that names the file and the reason, and no change; with room again the same command works."""
    served, branch = world.served(), other(world)
    with filler(world.state) as fill:
        fill()
        done = world.rollout(branch)
        assert done.code == 1, done.text
        assert "No space left on device" in done.text
        assert "Traceback" not in done.text
        assert "Internal" not in done.text
        assert world.served() == served
    world.good("rollout", "--branch", branch)


@pytest.mark.parametrize("entry", ["intent:starting", "intent:watching"])
def test_a_disk_that_fills_up_in_the_middle_undoes_the_run(world, entry):
    """What cannot be written down is not built upon: the old release serves, and the next command works."""
    served, branch = world.served(), other(world)
    reached = journal_reaches(world, entry)
    with filler(world.state) as fill, world.start("rollout", "--branch", branch) as child:
        wait_until(reached, f"the run reaches {entry}")
        fill()
        text, _ = child.communicate(timeout=COMMAND_S)
        assert child.returncode in {1, 3, 4, 5}, text
        assert "No space left on device" in text
        assert "Traceback" not in text
        assert world.served()[0] in set(world.shas.values())
    resumed = world.run("resume")
    assert resumed.code in {0, 4}, resumed.text  # 4: it serves, and a person is told that this was not remembered
    record = max(read_all(world.paths.journal_dir, repair=False), key=lambda one: one.run)
    held = (State.WATCHING, Event.OK) in record.observed  # the disk was full only after the watch had passed
    assert world.served()[0] == (world.shas[branch] if held else served[0])
    open_again(world)
    world.good("rollout", "--branch", branch)


def test_a_disk_that_is_read_only_refuses_a_rollout(world):
    """As a full one; what only reads still answers."""
    served, branch = world.served(), other(world)
    with read_only(world.state):
        done = world.rollout(branch)
        assert done.code == 1, done.text
        assert "Read-only file system" in done.text
        assert "Traceback" not in done.text
        assert "Internal" not in done.text
        assert world.served() == served
        assert world.status()["commit"] == served[0]
    world.good("rollout", "--branch", branch)


# ---------------------------------------------------------------- two at once


def test_of_two_rollouts_at_the_same_instant_one_runs(world):
    """The other one is told who holds the environment, and has touched nothing."""
    branch = other(world)
    owners = ("ann", "bob")
    running = [world.start("rollout", "--branch", branch, "--owner", owner) for owner in owners]
    ends = [child.communicate(timeout=COMMAND_S)[0] for child in running]
    codes = [child.returncode for child in running]
    assert sorted(codes) == [0, 6], ends
    winner, refused = owners[codes.index(0)], ends[codes.index(6)]
    assert f"{winner} holds this environment since" in refused
    assert f"rollout {branch}" in refused


# ---------------------------------------------------------------- damaged files


def newest(folder: Path, pattern: str) -> Path:
    """By name, which begins with the time."""
    return max(folder.glob(pattern))


def garbled(content: bytes) -> bytes:
    """One character of it is another one: what a bad disk or an editor leaves. Neither JSON nor YAML any more."""
    place = content.rindex(b"}")
    return content[:place] + b"]" + content[place + 1 :]


def put(path: Path, content: bytes) -> None:
    """The file with this content, in one step.

    One that is written in place is empty for a moment, and empty is valid YAML: Traefik, which watches its folder,
    would drop the route and answer 404, where it goes on with what it knew of a file that it cannot read.
    """
    # Beside the folder, not in it, where whoever lists the folder would find a second file.
    beside = path.parent.with_name(f"{path.parent.name}.{path.name}")
    beside.write_bytes(content)
    beside.chmod(path.stat().st_mode & 0o777)
    beside.replace(path)


FILES: dict[str, Callable[[TinyWorld], Path]] = {
    "journal": lambda world: newest(world.paths.journal_dir, f"*{SUFFIX}"),
    "ledger": lambda world: world.paths.ledger,
    "ingress": lambda world: next((world.paths.ingress_dir / "dynamic").iterdir()),
    "serving": lambda world: world.paths.env_dir / "serving.json",
    "release": lambda world: newest(world.paths.releases_dir, "*.json"),
}


@pytest.mark.parametrize("what", FILES)
def test_a_damaged_file_is_refused_by_name_and_never_overwritten(world, what):
    """Every command that would change something ends with 5 and names the file; put right, the next one works."""
    path, served, branch = FILES[what](world), world.served(), other(world)
    good = path.read_bytes()
    damaged = garbled(good)
    put(path, damaged)
    try:
        for command in (("rollout", "--branch", branch), ("rollback",)):
            done = world.run(*command)
            assert done.code == 5, done.text
            assert path.name in done.text
            assert "Traceback" not in done.text
            assert path.read_bytes() == damaged
            assert world.served() == served
    finally:
        put(path, good)
    world.good("rollout", "--branch", branch)


def test_who_holds_the_environment_is_for_people_and_decides_nothing(world):
    """A lock's info file of nonsense, left by a crash, stops nobody: the kernel's lock alone does."""
    world.paths.lock_info.write_bytes(b'{"who":')
    world.good("rollout", "--branch", other(world))
    assert not world.paths.lock_info.exists()


@pytest.mark.parametrize("note", ["holder", "*.started.json", "*.json"])
def test_notes_beside_the_slots_are_written_anew(world, note):
    """They say again what the engine knows: a rollout does not read them, and leaves them right."""
    if world.runtime == "compose":
        for path in (world.paths.env_dir / "slots").glob(note):
            path.write_bytes(b"\xff nonsense")
    world.good("rollout", "--branch", other(world))
    check = world.run("quick-check")
    assert "was not started by Sluice" not in check.text


# ---------------------------------------------------------------- the engine


@pytest.fixture(scope="module")
def own_engine(tmp_path_factory, images) -> Iterator[OwnEngine]:
    """With the Python image, and nobody else's containers."""
    engine = OwnEngine(tmp_path_factory.mktemp("engine"))
    try:
        engine.start()
        engine.take(images.python)
        yield engine
    finally:
        engine.remove()


@pytest.fixture(scope="module")
def engine_world(own_engine, images, tmp_path_factory) -> TinyWorld:
    """One good release serves from that engine; it goes with it."""
    port, folder = PORTS["own engine"], tmp_path_factory.mktemp("own-engine")
    made = TinyWorld(
        folder, "compose", port, images.python, prefix="mx", docker=own_engine.socket, netns=own_engine.netns
    )
    return established(made)


def answers(world: TinyWorld) -> bool:
    """Whether a release answers at the public URL."""
    try:
        return world.served()[0] in set(world.shas.values())
    except (OSError, json.JSONDecodeError):
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("entry", ["", "intent:starting", "intent:watching"])
def test_an_engine_that_restarts_brings_the_release_back(engine_world, own_engine, entry, number):
    """Idle or in the middle of a rollout: containers come back by themselves, and the next command settles the rest."""
    world = engine_world
    before, branch, child = Before(world), other(world), None
    if entry:
        reached = journal_reaches(world, entry)
        child = world.start("rollout", "--branch", branch)
        wait_until(reached, f"the run reaches {entry}")
    own_engine.end(number)
    own_engine.start()
    code, text = 0, ""
    if child is not None:
        text, _ = child.communicate(timeout=COMMAND_S)
        code = child.returncode
        assert "Traceback" not in text
    wait_until(lambda: answers(world), f"a release answers again\n{text}")
    if code == 5:
        world.good("rollback")
    world.good("resume")
    open_again(world)
    if code:
        world.good("rollout", "--branch", other(world))
    before.settle(set(world.shas.values()))
    assert all(record.ended for record in read_all(world.paths.journal_dir, repair=False))
