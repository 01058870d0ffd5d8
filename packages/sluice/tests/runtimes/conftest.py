"""A real supervisor in a folder of its own, and a real repository with a tiny service in it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

from sluice.hosts.git import GitMirror
from sluice.hosts.sources import ServerValues, sources_of
from sluice.hosts.state import StatePaths
from sluice.model.secret import Redactor
from sluice.model.spec import HostEnvironment
from sluice.runner import LocalRunner
from sluice.runtimes.client import SupervisorClient
from sluice.runtimes.past import Past
from sluice.runtimes.process import ProcessRuntime

SERVER = """
import http.server, os, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (os.environ.get("MARK", "") + " " + os.environ.get("TINY_SECRET", "")).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
def main():
    if sys.argv[1] == "credentials":
        print('{"users": [{"name": "smoke", "token": "tok-' + "z" * 20 + '"}]}'); return
    if sys.argv[1] == "head":
        print("0001"); return
    print("secret is", os.environ["TINY_SECRET"], flush=True)
    signal.signal(signal.SIGUSR1, lambda *_: print("draining", flush=True))
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
"""


@pytest.fixture
def paths(tmp_path: Path) -> StatePaths:
    """State folders of one environment."""
    made = StatePaths(tmp_path / "state", "tiny", "test")
    made.prepare()
    return made


@pytest.fixture
def supervisor(paths: StatePaths) -> Iterator[SupervisorClient]:
    """Its supervisor, ended with everything it runs."""
    client = SupervisorClient(paths.supervisor_dir)
    yield client
    client.shutdown(grace_s=1)


class Counting(LocalRunner):
    """A runner that remembers which programs it ran."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__(redactor)
        self.programs: list[str] = []

    async def run_raw(self, argv, **options):
        self.programs.append(Path(argv[0]).name)
        return await super().run_raw(argv, **options)


@pytest.fixture
def runner() -> Counting:
    """A runner whose redactor knows one secret."""
    return Counting(Redactor())


def git(where: Path, *arguments: str) -> str:
    """Run git with nobody's configuration."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", "-c", "user.name=T", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(
        command, cwd=where, check=True, capture_output=True, text=True, env=environment
    ).stdout.strip()


@pytest.fixture
def commit_files(origin: Path) -> Callable[[dict[str, str]], str]:
    """Commit files on feature/a; gives the sha."""

    def commit(files: dict[str, str]) -> str:
        for name, content in files.items():
            (origin / name).parent.mkdir(parents=True, exist_ok=True)
            (origin / name).write_text(content)
        git(origin, "add", ".")
        git(origin, "commit", "-qm", "change")
        return git(origin, "rev-parse", "HEAD")

    return commit


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A repository with an own package, a locked requirements file served from a folder of it, and a web folder."""
    folder = tmp_path / "origin"
    (folder / "wheels").mkdir(parents=True)
    wheel = _flit_core_wheel(folder / "wheels")
    lock = (
        f"--no-index\n--find-links ./wheels\nflit-core=={metadata.version('flit-core')} --hash=sha256:{_sha(wheel)}\n"
    )
    pyproject = (
        '[build-system]\nrequires = ["flit_core>=3.12,<5"]\nbuild-backend = "flit_core.buildapi"\n'
        '[project]\nname = "tiny"\nversion = "1"\ndescription = "t"\n[project.scripts]\ntiny = "tiny:main"\n'
    )
    package = '{"name": "web", "version": "1.0.0", "scripts": {"build": "mkdir -p dist && cp page.html dist/"}}'
    npm_lock = (
        '{"name": "web", "version": "1.0.0", "lockfileVersion": 3, "requires": true, "packages": {"": {"name": "web"}}}'
    )
    files = {
        "requirements.txt": lock,
        "pkg/pyproject.toml": pyproject,
        "pkg/tiny.py": SERVER,
        "web/package.json": package,
        "web/package-lock.json": npm_lock,
        "web/page.html": "<p>one</p>",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    git(folder, "checkout", "-qb", "feature/a")
    return folder


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _flit_core_wheel(into: Path) -> Path:
    """The build backend packed again from this environment, so that no index is asked."""
    distribution = metadata.distribution("flit-core")
    wheel = into / f"flit_core-{distribution.version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in distribution.files or []:
            if "__pycache__" not in file.parts and file.name not in ("INSTALLER", "REQUESTED", "direct_url.json"):
                archive.write(str(file.locate()), str(file))
    return wheel


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    """An environment file with one secret."""
    file = tmp_path / "test.env"
    file.write_text("TINY_SECRET=sentinel-5f0d\nMARK=from-file\n")
    file.chmod(0o600)
    return file


@pytest.fixture
def free_ports() -> tuple[int, int]:
    """A range nobody else in this process tree uses: derived from the pid, above the kernel's ephemeral ports."""
    first = 61000 + (os.getpid() * 7) % 4000
    return first, first + 5


@pytest.fixture
def runtime(
    paths: StatePaths, origin: Path, env_file: Path, runner: Counting, free_ports: tuple[int, int], supervisor
) -> ProcessRuntime:
    """The runtime over all of these."""
    host = HostEnvironment(public_url="http://127.0.0.1:1", env_file=str(env_file), ports=free_ports)
    assert sys.platform == "linux"
    past = Past(ServerValues(sources_of(host)), paths, runner.redactor)
    return ProcessRuntime(paths, host, GitMirror(paths, str(origin), runner), runner, past)
