"""Artifacts: built once per key at their final path, complete only with their marker. A warm build runs no installer.

    artifacts/<key>/{tree/, python/NAME/, build.json, .complete}   the tree as files, own code over shared dependencies
    artifacts/python/<key>/{bin/, lib/, .complete}                 dependencies, by (interpreter, locked requirements)
    artifacts/node/<key>/{output/, .complete}                      bundles, by (node, folder contents, command)

Each folder is built under a lock of its key, so two builds at one time do not disturb each other; what a killed build
left without a marker is removed by the next one.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import platform
import shutil
import sys
import sysconfig
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from uv import find_uv_bin

from sluice.hosts.git import GitMirror
from sluice.hosts.state import StatePaths, write_file
from sluice.hosts.system import SystemClock
from sluice.model.errors import StepFailed
from sluice.model.release import Artifact, Commit, Completed
from sluice.model.spec import NodeBuild, PythonBuild, ServiceSpec
from sluice.ports import Progress
from sluice.runner import LocalRunner, minimal_environment

COMPLETE = ".complete"
RECIPE = "1"  # counts up when what a build leaves changes: old artifacts are not taken for new ones then
TOOL_S = 900  # a cold download of a large environment over a slow line
OTHER_BUILD_S = 1800  # the longest another build may hold us: its own deadlines, twice
LOCK_LOOK_S = 0.1  # flock has no deadline of its own; a build takes seconds, so nobody notices a tenth
FAILURE_LINES = 20  # the end of an installer's output names the reason
# What says how this machine reaches its package indexes; nothing else of the user's session enters a build.
PASSED_PREFIXES = ("UV_", "PIP_", "NPM_CONFIG_", "SSL_CERT_", "REQUESTS_CA_", "NODE_EXTRA_CA_")


class Builder:
    """Builds for one service. Needs the mirror to hold the commit (fetch came before)."""

    def __init__(self, paths: StatePaths, repo: GitMirror, runner: LocalRunner) -> None:
        """Touches nothing."""
        self._paths = paths
        self._repo = repo
        self._runner = runner

    async def build(self, commit: Commit, spec: ServiceSpec, progress: Progress) -> Artifact:
        """See ports.Runtime. Cancellation ends the installers and leaves a part that the next build removes."""
        locks = {name: await self._locked(commit, build) for name, build in spec.build.python.items()}
        bundles = {name: await self._node_folder(commit, build) for name, build in spec.build.node.items()}
        key = _digest(
            RECIPE,
            commit.tree,
            msgspec.json.encode(spec.build, order="sorted"),
            _interpreter(),
            _uv_version(),
            *locks.values(),
        )
        folder = self._paths.artifacts / key

        async def make() -> None:
            await self._own(commit, spec, folder, locks, progress)

        reused = await self._once(folder, make, progress)
        nodes: dict[str, str] = {}
        for name, build in spec.build.node.items():
            marker = folder / "node" / name
            bundle = Path(marker.read_text()) if marker.exists() else Path()
            if not (bundle / COMPLETE).exists():
                bundle = await self._bundle(build, bundles[name], folder / "tree", progress)
                marker.parent.mkdir(exist_ok=True)
                write_file(marker, str(bundle).encode())
            nodes[name] = str(bundle / "output")
        progress("artifact reused" if reused else "artifact built")
        python = {name: str(folder / "python" / name / "bin") for name in spec.build.python}
        return Artifact(key, str(folder), commit.tree, python, nodes)

    async def _locked(self, commit: Commit, build: PythonBuild) -> bytes:
        content = await self._repo.read(commit.sha, build.requirements)
        if content is None:
            raise _failed(f"{build.requirements} is not in {commit.sha[:12]}", "commit the locked requirements file")
        return content

    async def _node_folder(self, commit: Commit, build: NodeBuild) -> str:
        tree = await self._repo.subtree(commit.sha, build.directory)
        if tree is None:
            raise _failed(
                f"the folder {build.directory} is not in {commit.sha[:12]}", "commit it, or drop [build.node]"
            )
        return tree

    async def _own(
        self, commit: Commit, spec: ServiceSpec, folder: Path, locks: dict[str, bytes], progress: Progress
    ) -> None:
        tree = folder / "tree"
        await self._repo.export(commit.sha, tree)
        for name, build in spec.build.python.items():
            shared = await self._dependencies(build, locks[name], tree, progress)
            progress(f"python.{name}: own packages")
            venv = folder / "python" / name
            await self._venv(venv)
            # The shared packages come after our own on the path; nothing is copied and nothing of them can be changed.
            write_file(_site(venv) / "shared-dependencies.pth", f"{_site(shared)}\n".encode(), mode=0o644)
            if build.install:
                own = [str(tree / directory) for directory in build.install]
                options = ["--no-deps", "--no-build-isolation", "--offline", "--no-cache", "--compile-bytecode"]
                await self._uv(["pip", "install", "--python", str(venv / "bin/python"), *options, *own])
        note = {"tree": commit.tree, "builtAt": SystemClock().now()}
        write_file(folder / "build.json", msgspec.json.encode(note), mode=0o644)

    async def _dependencies(self, build: PythonBuild, lock: bytes, tree: Path, progress: Progress) -> Path:
        folder = self._paths.artifacts / "python" / _digest(RECIPE, _interpreter(), lock)

        async def make() -> None:
            progress(f"installing {build.requirements} (once per lock)")
            await self._venv(folder)
            # Copies: a hard link would let whoever can write here change the installer's cache as well.
            options = ["--require-hashes", "--link-mode", "copy", "--compile-bytecode"]
            requirements = str(tree / build.requirements)
            await self._uv(["pip", "install", "--python", str(folder / "bin/python"), *options, "-r", requirements])

        await self._once(folder, make, progress)
        return folder

    async def _bundle(self, build: NodeBuild, content: str, tree: Path, progress: Progress) -> Path:
        node = await self._checked(["node", "--version"], self._paths.artifacts)
        command = msgspec.json.encode(build, order="sorted")
        folder = self._paths.artifacts / "node" / _digest(RECIPE, node.stdout.strip(), content, command)

        async def make() -> None:
            progress(f"building {build.directory} (once per content)")
            work = folder / "work"
            await asyncio.to_thread(shutil.copytree, tree / build.directory, work, symlinks=True)
            await self._checked(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], work)
            await self._checked(list(build.command), work)
            if not (work / build.output).is_dir():
                raise _failed(
                    f"`{' '.join(build.command)}` left no {build.directory}/{build.output}", "check [build.node]"
                )
            (work / build.output).rename(folder / "output")
            await asyncio.to_thread(shutil.rmtree, work)

        await self._once(folder, make, progress)
        return folder

    async def _venv(self, folder: Path) -> None:
        await self._uv(["venv", "--quiet", "--allow-existing", "--no-project", "--python", _base_python(), str(folder)])

    async def _uv(self, arguments: list[str]) -> Completed:
        return await self._checked([find_uv_bin(), "--no-progress", *arguments], self._paths.artifacts)

    async def _checked(self, argv: list[str], directory: Path) -> Completed:
        done = await self._runner.run(argv, timeout_s=TOOL_S, cwd=directory, environment=_build_environment())
        if done.exit_code or done.timed_out:
            lines = (done.stderr.strip() or done.stdout.strip()).splitlines()[-FAILURE_LINES:]
            reason = "did not end within its deadline" if done.timed_out else f"ended with {done.exit_code}"
            name = " ".join([Path(argv[0]).name, *argv[1:4]])
            raise _failed(f"`{name} …` {reason}:\n" + "\n".join(lines), "correct the build, push and roll out again")
        return done

    async def _once(self, folder: Path, make: Callable[[], Awaitable[None]], progress: Progress) -> bool:
        """True when it was there already. Its marker's time is then the time of its last use, which `prune` heeds."""
        # The way to an artifact can be searched by a run_as user where the host has one; the lock file cannot be read.
        folder.parent.mkdir(exist_ok=True)
        folder.parent.chmod(self._paths.artifacts.stat().st_mode & 0o777)
        async with key_lock(folder, progress):
            if (folder / COMPLETE).exists():
                os.utime(folder / COMPLETE)
                return True
            if folder.exists():
                await asyncio.to_thread(shutil.rmtree, folder)
            folder.mkdir()
            folder.chmod(0o755)
            try:
                await make()
                await asyncio.to_thread(os.sync)  # the marker must not survive a power cut that its folder does not
                write_file(folder / COMPLETE, b"")
            except OSError as error:
                raise _failed(f"the disk did not take it: {error}", "free some disk space") from error
        return False


@asynccontextmanager
async def key_lock(folder: Path, progress: Progress) -> AsyncIterator[None]:
    """Hold what is built in this folder. Raises StepFailed when somebody else does not let go of it."""
    end, said = time.monotonic() + OTHER_BUILD_S, False
    while (descriptor := try_lock(folder)) is None:
        if time.monotonic() > end:
            raise _failed("another build of the same content does not end", "end it, then try again")
        if not said:
            progress("another command builds this already; waiting for it")
            said = True
        await asyncio.sleep(LOCK_LOOK_S)
    try:
        yield
    finally:
        os.close(descriptor)


def lock_file(folder: Path) -> Path:
    """Beside the folder, because the folder itself comes and goes."""
    return folder.with_name(f"{folder.name}.lock")


def try_lock(folder: Path) -> int | None:
    """The descriptor that holds the folder's lock until it is closed, or None when somebody else holds it."""
    path = lock_file(folder)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its last holder may have removed the file between our opening and our locking: then nobody else sees our lock.
        if path.stat().st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _failed(reason: str, next_step: str) -> StepFailed:
    return StepFailed(f"The build failed: {reason}.", world="The new release was not started.", next=next_step)


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:" % len(raw) + raw)  # with its length, so that no two lists run together alike
    return digest.hexdigest()[:32]  # 128 bits name it; console scripts have their path in a line of 127 bytes


def _base_python() -> str:
    return str(getattr(sys, "_base_executable", sys.executable))


def _interpreter() -> str:
    return f"{platform.python_implementation()} {sys.version} {sysconfig.get_platform()} {_base_python()}"


def _uv_version() -> str:
    from importlib import metadata  # a tenth of the start of every command, which seldom builds

    return metadata.version("uv")


def _site(venv: Path) -> Path:
    return venv / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def _build_environment() -> dict[str, str]:
    passed = {
        name: value
        for name, value in os.environ.items()
        if name.upper().startswith(PASSED_PREFIXES) or name.lower().endswith("_proxy")
    }
    return minimal_environment() | passed | {"CI": "1", "NO_COLOR": "1"}
