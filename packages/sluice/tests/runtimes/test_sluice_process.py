"""Builds and slots of the process runtime, with real uv, npm, processes and a real supervisor."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
import urllib.request
from pathlib import Path

import pytest

from sluice import disk
from sluice.hosts.git import GitMirror
from sluice.model.errors import Refused, StepFailed
from sluice.model.release import Release, Slot
from sluice.model.spec import BuildSpec, MigrateSpec, NodeBuild, PythonBuild, RunSpec, ServiceSpec, SmokeSpec
from sluice.runtimes import process
from sluice.runtimes.build_locks import unhashed

DEADLINE_S = 20
SPEC = ServiceSpec(
    name="tiny",
    run=RunSpec(
        command=("{python.server}/tiny", "serve", "{port}"),
        environment={"MARK": "sha={sha}"},
        drain_notify="SIGUSR1",
        stop_grace_s=2,
    ),
    build=BuildSpec(
        python={"server": PythonBuild(requirements="requirements.txt", install=("pkg",))},
        node={"web": NodeBuild(directory="web")},
    ),
    migrate=MigrateSpec(head=("{python.server}/tiny", "head")),
    smoke=SmokeSpec(credentials=("{python.server}/tiny", "credentials")),
)


@pytest.fixture
def mirror(paths, origin, runner):
    """The mirror of the origin."""
    return GitMirror(paths, str(origin), runner)


async def build(runtime, mirror, progress=lambda _: None, spec=SPEC):
    """Fetch, resolve and build."""
    await mirror.fetch()
    commit = await mirror.resolve("feature/a")
    return commit, await runtime.build(commit, spec, progress)


def release_of(commit, artifact, spec=SPEC, release_id="r1"):
    """The release of an artifact."""
    return Release(release_id, "tiny", "test", commit, artifact, spec, "fp")


def fetch(url: str) -> str | None:
    """The answer's body, or None."""
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:  # noqa: S310 - a slot of our own
            return reply.read().decode()
    except OSError:
        return None


async def until(condition) -> None:
    """Poll another process's state: it has no way to call us."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        await asyncio.sleep(0.01)


async def test_missing_lock_and_missing_folder_fail_the_build_by_name(runtime, mirror):
    """What [build] names and the commit has not is said, and nothing is left."""
    wrong = ServiceSpec(name="t", run=SPEC.run, build=BuildSpec(python={"s": PythonBuild(requirements="no.txt")}))
    with pytest.raises(StepFailed, match=r"no\.txt is not in"):
        await build(runtime, mirror, spec=wrong)
    wrong = ServiceSpec(name="t", run=SPEC.run, build=BuildSpec(node={"w": NodeBuild(directory="nowhere")}))
    with pytest.raises(StepFailed, match="nowhere is not in"):
        await build(runtime, mirror, spec=wrong)


async def test_a_package_at_the_top_of_the_repository_is_built(runtime, mirror, origin, commit_files):
    """The commonest place of a package.json: its folder is the whole tree."""
    commit_files(
        {name: (origin / "web" / name).read_text() for name in ("package.json", "package-lock.json", "page.html")}
    )
    spec = ServiceSpec(name="t", run=SPEC.run, build=BuildSpec(node={"all": NodeBuild(directory=".")}))
    _, artifact = await build(runtime, mirror, spec=spec)
    assert (Path(artifact.node["all"]) / "page.html").read_text() == "<p>one</p>"


async def test_a_requirement_without_a_hash_is_named_with_the_command_that_locks_it(runtime, mirror, commit_files):
    """The real installer refuses it; its words about modes are not what somebody has to do."""
    commit_files({"requirements.txt": "# a comment\n--no-index\n--find-links ./wheels\nflit-core\n"})
    with pytest.raises(StepFailed) as failed:
        await build(runtime, mirror)
    assert "flit-core in requirements.txt has no hash" in failed.value.what
    command = "uv pip compile --generate-hashes requirements.in -o requirements.txt"
    assert failed.value.next.startswith(command)


@pytest.mark.parametrize(
    ("lock", "bare"),
    [
        ("a==1 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n# b\n\n-r other.txt\n", ""),
        ("a==1 --hash=sha256:00\nb==2  # via a\n", "b==2"),
        ("a @ https://example.org/a.whl#sha256=00\r\nc\r\n", "c"),
    ],
)
def test_hashes_are_looked_for_line_by_line(lock, bare):
    """Continued lines, comments, options and addresses with their hash are no finds."""
    assert unhashed(lock.encode()) == bare


async def test_a_web_folder_without_its_lock_is_named_with_the_command_that_makes_it(
    runtime, mirror, origin, commit_files
):
    """`npm ci` needs one; its own message is a page about npm."""
    (origin / "web/package-lock.json").unlink()
    commit_files({})
    with pytest.raises(StepFailed) as failed:
        await build(runtime, mirror)
    assert "web/package-lock.json is not in the commit" in failed.value.what
    assert failed.value.next.startswith("(cd web && npm install --package-lock-only), commit it")


async def test_failing_build_quotes_its_last_lines_and_the_next_build_starts_clean(runtime, mirror, commit_files):
    """A package that does not build fails the step; half of it is never taken for an artifact."""
    commit_files({"pkg/pyproject.toml": "[build-system]\nrequires=[]\nbuild-backend='nothing_like_this'\n"})
    with pytest.raises(StepFailed, match="nothing_like_this"):
        await build(runtime, mirror)
    with pytest.raises(StepFailed, match="nothing_like_this"):
        await build(runtime, mirror)


async def test_full_disk_fails_the_build_and_leaves_no_marker(runtime, mirror, paths, monkeypatch):
    """On a full disk nothing is marked complete."""

    def full(*_):
        raise OSError(28, "No space left on device")

    await mirror.fetch()
    commit = await mirror.resolve("feature/a")
    monkeypatch.setattr(disk, "write_all", full)
    with pytest.raises((StepFailed, Refused), match="No space left"):
        await runtime.build(commit, SPEC, lambda _: None)
    assert not list(paths.artifacts.glob("*/.complete"))


async def test_two_builds_at_once_make_one_artifact_and_a_warm_build_runs_no_installer(
    runtime, mirror, paths, runner, commit_files, monkeypatch
):
    """Cold: each installer runs once for both. Warm: none runs. New tree: dependencies and bundle are reused."""
    await mirror.fetch()
    commit = await mirror.resolve("feature/a")
    said: list[str] = []
    first, second = await asyncio.gather(*(runtime.build(commit, SPEC, said.append) for _ in range(2)))
    assert first == second
    assert runner.programs.count("npm") == 2  # ci and run build
    assert sorted(said[-2:]) == ["artifact built", "artifact reused"]
    note = json.loads((Path(first.path) / "build.json").read_text())
    assert (note["tree"], set(note)) == (commit.tree, {"tree", "builtAt"})
    assert (Path(first.node["web"]) / "page.html").read_text() == "<p>one</p>"

    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    runner.programs.clear()
    begun = time.monotonic()
    assert await runtime.build(commit, SPEC, said.append) == first
    warm_s = time.monotonic() - begun
    assert set(runner.programs) == {"git"}

    commit_files({"pkg/tiny.py": "def main():\n    print('other')\n"})
    runner.programs.clear()
    begun = time.monotonic()
    _, third = await build(runtime, mirror)
    print(f"warm {warm_s:.3f} s, new tree {time.monotonic() - begun:.3f} s")
    assert third.key != first.key
    assert third.node == first.node
    assert "npm" not in runner.programs
    assert (await runner.run([f"{third.python['server']}/tiny"], timeout_s=10)).stdout == "other\n"
    found = await runner.run([f"{third.python['server']}/python", "-c", "import flit_core, tiny"], timeout_s=10)
    assert found.exit_code == 0


async def test_a_half_built_artifact_is_removed_and_built_again(runtime, mirror):
    """What a killed build left has no marker, so it is not used."""
    commit, artifact = await build(runtime, mirror)
    folder = Path(artifact.path)
    (folder / ".complete").unlink()
    (folder / "build.json").write_text("torn")
    _, again = await build(runtime, mirror)
    assert again == artifact
    assert json.loads((folder / "build.json").read_text())["tree"] == commit.tree


async def test_no_free_port_is_refused_and_a_strangers_port_is_passed_over(runtime, mirror, free_ports):
    """Ports of other slots and of strangers are not chosen; none left names the range."""
    release = release_of(*await build(runtime, mirror))
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", free_ports[0]))
        stranger.listen()
        first = runtime.choose_slot(release, [])
        assert first.port > free_ports[0]
        taken = [type(first)("x", "x", port, "") for port in range(free_ports[0], free_ports[1] + 1)]
        with pytest.raises(Refused, match=f"{free_ports[0]}-{free_ports[1]}"):
            runtime.choose_slot(release, taken)


async def test_a_slot_lives_its_whole_life(runtime, mirror, runner):
    """Start twice is one process; it serves with its settings; drain, credentials, tail and stop do what they say."""
    release = release_of(*await build(runtime, mirror))
    runner.redactor.learn([state_secret()])
    slot = runtime.choose_slot(release, [])
    assert not await runtime.alive(slot)
    assert await runtime.migrate(release, lambda _: None) == "0001"
    await runtime.start(release, slot)
    await runtime.start(release, slot)
    await until(lambda: fetch(slot.url) is not None)
    assert fetch(slot.url) == f"sha={release.commit.sha} sentinel-5f0d"
    assert await runtime.alive(slot)

    path = await runtime.credentials(release, slot)
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["users"][0]["token"] == "tok-" + "z" * 20
    assert runner.redactor("got tok-" + "z" * 20) == "got [redacted]"

    await runtime.notify_drain(release, slot)
    for _ in range(200):
        if "draining" in (lines := await runtime.tail(release, slot, 10)):
            break
        await asyncio.sleep(0.02)
    assert lines == ["secret is [redacted]", "draining"]

    assert await runtime.restarts(slot) == 0
    os.kill((await runtime.status(slot)).pid, signal.SIGKILL)
    for _ in range(200):
        if not await runtime.alive(slot):
            break
        await asyncio.sleep(0.01)
    assert not await runtime.alive(slot)
    assert await runtime.restarts(slot) == 1
    await runtime.stop(release, slot)
    await runtime.stop(release, slot)
    assert await runtime.status(slot) is None
    assert fetch(slot.url) is None


@pytest.mark.parametrize(("written", "rotated", "shown"), [(60, False, 3), (400, False, 1), (60, True, 2)])
async def test_a_log_is_redacted_before_it_is_cut(runtime, runner, monkeypatch, written, rotated, shown):
    """The tail begins with a whole line, and with no part of a secret, whether we cut the log or the supervisor did."""
    monkeypatch.setattr(process, "TAIL_BYTES", 100)
    runner.redactor.learn([state_secret()])
    slot = Slot("r", "unit", 1, "http://127.0.0.1:1")
    log = runtime._log(slot.unit)
    beginning = "el-5f0d" if rotated else "x" * (written - 60)
    log.write_text(f"{beginning}\n{'y' * 20}sentinel-5f0d\n{'z' * 90 if written > 100 else 'last'}\n")
    if rotated:
        log.with_name(f"{log.name}.1").touch()
    lines = runtime._newest(slot, 10)
    assert len(lines) == shown
    assert "5f0d" not in "".join(lines)
    assert lines[-1] in ("last", "z" * 90)


async def test_a_log_is_quoted_only_where_every_value_in_it_is_known(runtime, mirror, env_file, paths):
    """A value that was changed is hidden while its process lives; once it is dead, its log is counted and not shown."""
    release = release_of(*await build(runtime, mirror))
    slot = runtime.choose_slot(release, [])
    await runtime.start(release, slot)
    await until(lambda: fetch(slot.url) is not None)
    env_file.write_text(env_file.read_text().replace("sentinel-5f0d", "changed-8c1e"))
    assert await runtime.tail(release, slot, 10) == ["secret is [redacted]"]
    assert (await runtime.logs(release, slot, 10)).withheld == {}
    await runtime.stop(release, slot)
    (told,) = await runtime.tail(release, slot, 10)
    assert told.startswith("tiny: 1 line not shown: it was started with other values than today's (")
    assert str(paths.logs_dir) in told
    env_file.unlink()
    (told,) = await runtime.tail(release, slot, 10)
    assert told.startswith("tiny: 1 line not shown: the environment file ")


def state_secret():
    """The env file's value, as open_environment teaches it."""
    from sluice.model.secret import Secret

    return Secret("sentinel-5f0d")


async def test_credentials_that_are_not_json_quote_no_output(runtime, mirror):
    """Half a credential is never shown."""
    spec = ServiceSpec(
        name="t", run=SPEC.run, build=SPEC.build, smoke=SmokeSpec(credentials=("/bin/echo", "half-a-token"))
    )
    release = release_of(*await build(runtime, mirror), spec=spec)
    with pytest.raises(StepFailed, match="printed no JSON") as caught:
        await runtime.credentials(release, runtime.choose_slot(release, []))
    assert "half-a-token" not in str(caught.value)


async def test_migration_that_fails_blames_the_release(runtime, mirror):
    """The command's last lines are quoted and the release is marked bad."""
    spec = ServiceSpec(
        name="t", run=SPEC.run, build=SPEC.build, migrate=MigrateSpec(run=("/bin/ls", "/nowhere-at-all"))
    )
    release = release_of(*await build(runtime, mirror), spec=spec)
    with pytest.raises(StepFailed, match="nowhere-at-all") as caught:
        await runtime.migrate(release, lambda _: None)
    assert caught.value.bad_release
