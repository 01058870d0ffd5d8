"""Artifacts: built once per key at their final path, complete only with their marker. A warm build runs no installer.

    artifacts/<key>/{tree/, python/NAME/, build.json, .complete}   the tree as files, own code over shared dependencies
    artifacts/python/<key>/{bin/, lib/, .complete}                 dependencies, by (interpreter, locked requirements)
    artifacts/node/<key>/{output/, .complete}                      bundles, by (node, folder contents, command)

Each folder is built under a lock of its key, so two builds at one time do not disturb each other; what a killed build
left without a marker is removed by the next one. What is there is read again before it is taken (runtimes/content.py);
one that is not as it was built is left as it is, because something may run from it, and built anew beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
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
from sluice.model.release import CONTENT, Artifact, Commit, Completed
from sluice.model.spec import NodeBuild, PythonBuild, ServiceSpec
from sluice.ports import Progress
from sluice.runner import LocalRunner, minimal_environment
from sluice.runtimes.build_locks import missing_node_lock, node_lock, python_lock, unhashed
from sluice.runtimes.content import BUILD_NOTE, COMPLETE, difference, measure, seal, sealed

RECIPE = "2"  # counts up when what a build leaves changes: old artifacts are not taken for new ones then
TOOL_S = 900  # a cold download of a large environment over a slow line
OTHER_BUILD_S = 1800  # the longest another build may hold us: its own deadlines, twice
LOCK_LOOK_S = 0.1  # flock has no deadline of its own; a build takes seconds, so nobody notices a tenth
SHARED = "shared-dependencies.pth"
# Of one key, all but one changed after they were built: a service that writes into its own folder makes one of each
# rollout, and the releases that may be gone back to keep theirs. More are nobody's need.
COPIES = 32
UV_NOTE = "uv_cache.json"
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

        async def make(folder: Path) -> None:
            await self._own(commit, spec, folder, locks, progress)

        folder, reused = await self._once(self._paths.artifacts / key, make, progress, self._own_parts)
        nodes = {
            name: str(await self._output(folder, name, build, bundles[name], progress) / "output")
            for name, build in spec.build.node.items()
        }
        progress("artifact reused" if reused else "artifact built")
        python = {name: str(folder / "python" / name / "bin") for name in spec.build.python}
        artifact = Artifact(folder.name, str(folder), commit.tree, python, nodes)
        # Each part was read, or sealed, above: what it is now is what was written down.
        content = {f"{CONTENT}{name}": sealed(path) for name, path in _parts(artifact).items()}
        return msgspec.structs.replace(artifact, digests=content)

    async def changed(self, artifact: Artifact) -> str:
        """See ports.Runtime."""
        known = {name.removeprefix(CONTENT): one for name, one in artifact.digests.items() if name.startswith(CONTENT)}
        if not known:
            return ""  # a release of before contents were written down: nobody can tell
        try:
            parts = _parts(artifact)
        except (OSError, ValueError, IndexError) as error:
            return f"what it stands upon cannot be read ({error})"
        if parts.keys() != known.keys():
            return "it stands upon other parts than it was built with"
        for name, folder in parts.items():
            if why := await _unlike(folder, known[name]):
                return why
        return ""

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
            write_file(_site(venv) / SHARED, f"{_site(shared)}\n".encode(), mode=0o644)
            if build.install:
                own = [str(tree / directory) for directory in build.install]
                options = ["--no-deps", "--no-build-isolation", "--offline", "--no-cache", "--compile-bytecode"]
                await self._uv(["pip", "install", "--python", str(venv / "bin/python"), *options, *own])
                _without_times(_site(venv))
        note = {"tree": commit.tree, "builtAt": SystemClock().now()}
        write_file(folder / BUILD_NOTE, msgspec.json.encode(note), mode=0o644)

    async def _own_parts(self, folder: Path) -> str:
        """Why an artifact's own folder is not taken, with the environments it stands upon."""
        try:
            parts = _parts(Artifact(folder.name, str(folder), ""))
        except (OSError, ValueError, IndexError) as error:
            return f"what it stands upon cannot be read ({error})"
        for part in parts.values():  # one after the other: each takes two threads already
            if why := await _as_sealed(part):
                return why
        return ""

    async def _dependencies(self, build: PythonBuild, lock: bytes, tree: Path, progress: Progress) -> Path:
        async def make(folder: Path) -> None:
            progress(f"installing {build.requirements} (once per lock)")
            await self._venv(folder)
            # Copies: a hard link would let whoever can write here change the installer's cache as well.
            options = ["--require-hashes", "--link-mode", "copy", "--compile-bytecode"]
            requirements = str(tree / build.requirements)
            try:
                await self._uv(["pip", "install", "--python", str(folder / "bin/python"), *options, "-r", requirements])
            except StepFailed as failure:
                if bare := unhashed(lock):
                    raise _failed(f"{bare} in {build.requirements} has no hash", python_lock(build)) from failure
                raise

        folder, _ = await self._once(
            self._paths.artifacts / "python" / _digest(RECIPE, _interpreter(), lock), make, progress
        )
        return folder

    async def _output(self, folder: Path, name: str, build: NodeBuild, content: str, progress: Progress) -> Path:
        """A bundle's folder. Which one is noted in the artifact, so that a warm build need not ask Node its version."""
        marker = folder / "node" / name
        with contextlib.suppress(FileNotFoundError):
            bundle = Path(marker.read_text())
            if (bundle / COMPLETE).exists() and not await _as_sealed(bundle):
                return bundle
        bundle = await self._bundle(build, content, folder / "tree", progress)
        marker.parent.mkdir(exist_ok=True)
        write_file(marker, str(bundle).encode())
        return bundle

    async def _bundle(self, build: NodeBuild, content: str, tree: Path, progress: Progress) -> Path:
        node = await self._checked(["node", "--version"], self._paths.artifacts)
        command = msgspec.json.encode(build, order="sorted")

        async def make(folder: Path) -> None:
            progress(f"building {build.directory} (once per content)")
            if lock := missing_node_lock(tree / build.directory, build):
                raise _failed(f"{lock} is not in the commit", node_lock(build))
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

        wanted = self._paths.artifacts / "node" / _digest(RECIPE, node.stdout.strip(), content, command)
        folder, _ = await self._once(wanted, make, progress)
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

    async def _once(
        self,
        wanted: Path,
        make: Callable[[Path], Awaitable[None]],
        progress: Progress,
        unfit: Callable[[Path], Awaitable[str]] | None = None,
    ) -> tuple[Path, bool]:
        """The folder, and whether it was there already. Its marker's time is that of its last use, which `prune` heeds.

        `unfit` says why one that is there cannot be taken. Then another is built under the next name.
        """
        # The way to an artifact can be searched by a run_as user where the host has one; the lock file cannot be read.
        wanted.parent.mkdir(exist_ok=True)
        wanted.parent.chmod(self._paths.artifacts.stat().st_mode & 0o777)
        names = [wanted.name, *(_digest(wanted.name, str(number)) for number in range(1, COPIES))]
        # One that is there comes first: of the earlier ones some may have been pruned, and this is the one in use.
        for name in sorted(names, key=lambda name: not (wanted.with_name(name) / COMPLETE).exists()):
            folder = wanted.with_name(name)
            async with key_lock(folder, progress):
                if not (folder / COMPLETE).exists():
                    await self._make(folder, make)
                    return folder, False
                if not (why := await (unfit or _as_sealed)(folder)):
                    os.utime(folder / COMPLETE)
                    return folder, True
                progress(f"{folder} is not as it was built: {why}. It is left as it is, and not used for this run")
        raise _failed(
            f"{wanted} and {COPIES - 1} copies of it were all changed after they were built",
            "find out what writes there (does the service write into its own folder?), then remove those folders",
        )

    async def _make(self, folder: Path, make: Callable[[Path], Awaitable[None]]) -> None:
        if folder.exists():
            await asyncio.to_thread(shutil.rmtree, folder)
        folder.mkdir()
        folder.chmod(0o755)
        try:
            await make(folder)
            await asyncio.to_thread(seal, folder)
            await asyncio.to_thread(os.sync)  # the marker must not survive a power cut that its folder does not
            write_file(folder / COMPLETE, b"")
        except OSError as error:
            raise _failed(f"the disk did not take it: {error}", "free some disk space") from error


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


async def _as_sealed(folder: Path) -> str:
    """Why what is there is not what was written down when it was built, or ""."""
    return await _unlike(folder, sealed(folder))


async def _unlike(folder: Path, digest: str) -> str:
    """Why what is there is not what has this digest, or "". Nobody waits in the event loop for the disk."""
    try:
        if not digest:
            return f"{folder}: what it was built with is not written down any more"
        if await asyncio.to_thread(measure, folder) == digest:
            return ""
    except OSError as error:
        return f"{folder} cannot be read: {error.strerror}"
    if sealed(folder) != digest:
        return f"{folder} is not what was built"
    return f"{folder}: {await asyncio.to_thread(difference, folder)}"


def _parts(artifact: Artifact) -> dict[str, Path]:
    """The folders an artifact runs from: its own, those of shared environments, those of bundles."""
    own = Path(artifact.path)
    parts = {"own": own}
    for link in sorted(own.glob(f"python/*/lib/*/site-packages/{SHARED}")):
        # .../python/<key>/lib/pythonX.Y/site-packages
        parts[f"python.{link.relative_to(own).parts[1]}"] = Path(link.read_text().strip()).parents[2]
    for name, output in artifact.node.items():
        parts[f"node.{name}"] = Path(output).parent
    return parts


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


def _without_times(site: Path) -> None:
    """Remove the installer's note of when the sources were last touched: the same sources make the same artifact."""
    for note in site.glob(f"*.dist-info/{UV_NOTE}"):
        note.unlink()
        record = note.with_name("RECORD")
        lines = record.read_text().splitlines(keepends=True)
        record.write_text("".join(line for line in lines if f"/{UV_NOTE}," not in line))


def _build_environment() -> dict[str, str]:
    passed = {
        name: value
        for name, value in os.environ.items()
        if name.upper().startswith(PASSED_PREFIXES) or name.lower().endswith("_proxy")
    }
    # Bytecode that is never compared with its source's time: the same sources make the same bytes, and start faster.
    return minimal_environment() | passed | {"CI": "1", "NO_COLOR": "1", "PYC_INVALIDATION_MODE": "UNCHECKED_HASH"}
