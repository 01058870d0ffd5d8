"""Compose itself: the program of the locked wheel, run on rendered files with the env file's values around it.

Secret values reach it as its environment and nothing else: no argument, no file. It interpolates them when it creates
containers; what Sluice keeps on disk still says `${NAME}`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from sluice.hosts.state import write_file
from sluice.model.errors import ConfigError, Refused, StepFailed
from sluice.model.release import Completed
from sluice.model.secret import Secret
from sluice.ports import Progress
from sluice.runner import LocalRunner, RawOutput, minimal_environment

CONFIG_S = 30  # reads files; seconds only where includes are many
BUILD_S = 1800  # a cold build of a large image over a slow line
CREATE_S = 120  # containers of a slot on a slow disk
START_S = 15  # what the engine needs for starting them on a busy machine, beyond what they need to become ready
FAILURE_LINES = 20  # the end of a build's output names the reason
# What the builder says of itself, beside what it does: ids of layers, containers of steps, warnings about plug-ins.
NOISE = re.compile(r"--->|Removing intermediate container|time=|Sending build context|Image \S+ Buil")
ANSI = re.compile(r"\x1b\[[0-9;]*m")  # the classic builder's colours, which it does not ask about
UNSET = re.compile(r'The \\*"(\w+)\\*" variable is not set')  # Compose's warning: it stands for nothing then
DEADLINE = "did not end within its deadline"
# What a container itself is to blame for when it does not start; a port, a disk or the engine is not the release's.
ITS_OWN = re.compile(r"dependency failed to start|is unhealthy|exited \(|OCI runtime|complete successfully")
NOT_ITS_OWN = re.compile(
    r"no space left|cannot allocate memory|address already in use|already allocated", re.IGNORECASE
)
GONE = re.compile(r"cannot connect to the docker|error during connect|connection refused|unexpected EOF", re.IGNORECASE)
OF_DOCKER = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_CERT_PATH", "DOCKER_CONFIG", "DOCKER_API_VERSION")


@dataclass(frozen=True)
class Rendered:
    """A document on disk and how it is run. `settings` are not secret and are interpolated too."""

    path: Path
    project: str
    directory: str  # where its relative paths start
    settings: Mapping[str, str] = field(default_factory=dict)
    defaults: str = os.devnull  # the repository's `.env`

    def arguments(self) -> list[str]:
        """The options that name it."""
        place = ["--project-name", self.project, "--project-directory", self.directory]
        return [*place, "--file", str(self.path), "--env-file", self.defaults]


class ComposeCli:
    """One environment's way to run Compose. `values` gives the env file's values at the time of the call."""

    def __init__(self, runner: LocalRunner, socket: str, values: Callable[[], Mapping[str, Secret]]) -> None:
        """Touches nothing."""
        self.runner = runner
        self._socket = socket
        self._values = values

    async def config(
        self,
        tree: Path,
        files: Sequence[str],
        *,
        interpolate: bool,
        settings: Mapping[str, str],
        unset: set[str] | None = None,
    ) -> dict[str, Any]:
        """The merged files as one document. With `interpolate` it may hold secrets: it is for deciding, not keeping.

        `unset` gets the names of the variables that had no value and no default.
        Raises ConfigError in Compose's own words.
        """
        argv = [*self._files(tree, files), "--profile", "*", "config", "--format", "json", "--no-env-resolution"]
        # Kept paths stay as written: Compose would glue the project directory even before an absolute `${VARIABLE}`.
        argv += [] if interpolate else ["--no-interpolate", "--no-path-resolution"]
        raw = await self._raw(argv, CONFIG_S, tree, settings)
        if raw.exit_code or raw.timed_out:
            words = self._words(raw.stderr.decode(errors="replace"))
            raise ConfigError(
                f"Compose cannot read {', '.join(files)}: {words or DEADLINE}.",
                next="correct the files and the variables they name in the env file",
                file=files[-1],
                path="$",
            )
        if unset is not None:
            unset.update(UNSET.findall(raw.stderr.decode(errors="replace")))
        document: dict[str, Any] = msgspec.json.decode(raw.stdout)
        return document

    async def build(
        self, rendered: Rendered, services: Sequence[str], progress: Progress, every_line: Progress = lambda _line: None
    ) -> None:
        """Build the images of these services under the names the document gives them. Raises StepFailed."""

        def told(line: str) -> None:
            words = ANSI.sub("", line).strip()
            every_line(words)
            if words and not NOISE.match(words):
                progress(words)

        done = await self._run(rendered, ["build", *services], BUILD_S, told)
        if done.exit_code or done.timed_out:
            reason = DEADLINE if done.timed_out else f"ended with {done.exit_code}"
            raise StepFailed(
                f"The build of {', '.join(services)} {reason}.\n" + "\n".join(_told_last(done)),
                world="The new release was not started.",
                next="build it by hand: docker compose build",
            )

    async def create(self, rendered: Rendered, services: Sequence[str]) -> None:
        """Their containers, not started; what is there with the same definition stays. Raises StepFailed."""
        verb = ["up", "--no-start", "--no-build", "--no-deps", *services]
        self._good(await self._run(rendered, verb, CREATE_S), f"creating {', '.join(services)}")

    async def start(self, rendered: Rendered, services: Sequence[str], timeout_s: float) -> None:
        """Start what was created, each after what it depends on. Raises StepFailed, naming what did not come up."""
        verb = ["up", "--detach", "--no-build", "--no-recreate", *services]
        done = await self._run(rendered, verb, timeout_s + START_S)
        self._good(done, f"starting {', '.join(services)}", bad_release=True)

    async def up(self, rendered: Rendered, services: Sequence[str], timeout_s: float) -> None:
        """Create or recreate exactly these, and start them. Raises StepFailed."""
        verb = ["up", "--detach", "--no-build", "--no-deps", *services]
        self._good(await self._run(rendered, verb, timeout_s), f"starting {', '.join(services)}")

    async def run_once(self, rendered: Rendered, service: str, argv: Sequence[str], timeout_s: float) -> Completed:
        """A container of its own for one command, removed afterwards; whatever the command's exit code is."""
        return await self._run(rendered, ["run", "--rm", "--no-deps", "-T", service, *argv], timeout_s)

    async def execute(self, rendered: Rendered, service: str, argv: Sequence[str], timeout_s: float) -> RawOutput:
        """A command in a running container of the service; nothing of its output is redacted yet."""
        verb = [*rendered.arguments(), "exec", "-T", service, *argv]
        return await self._raw(verb, timeout_s, rendered.path.parent, rendered.settings)

    def value(self, name: str) -> str:
        """A variable of the env file that is no secret, e.g. COMPOSE_PROFILES; empty when it is not set."""
        found = self._values().get(name)
        return found.reveal() if found else ""

    def names(self) -> tuple[str, ...]:
        """The variables of the environment's sources that a document may be filled with."""
        return tuple(sorted(_without_own(self._values())))

    def fingerprint(self) -> str:
        """Of everything a document can be interpolated with. For comparing within one process; never kept."""
        values = {name: value.reveal() for name, value in self._values().items()}
        return hashlib.sha256(
            msgspec.json.encode([sorted(values.items()), sorted(self._around({}).items())])
        ).hexdigest()

    def write(self, path: Path, document: Mapping[str, Any]) -> Path:
        """Keep a rendered document (JSON is YAML)."""
        write_file(path, as_bytes(document))
        return path

    def _files(self, tree: Path, files: Sequence[str]) -> list[str]:
        directory = (tree / files[0]).parent
        argv = ["--project-name", "sluice-config", "--project-directory", str(directory)]
        argv += ["--env-file", dotenv(tree, directory)]
        return [*argv, *(part for name in files for part in ("--file", str(tree / name)))]

    async def _run(
        self, rendered: Rendered, verb: Sequence[str], timeout_s: float, told: Progress | None = None
    ) -> Completed:
        return await self.runner.run(
            [_binary(), *rendered.arguments(), *verb],
            timeout_s=timeout_s,
            cwd=rendered.path.parent,
            environment=self._around(rendered.settings),
            on_line=told,
        )

    async def _raw(self, argv: Sequence[str], timeout_s: float, cwd: Path, settings: Mapping[str, str]) -> RawOutput:
        around = self._around(settings)
        return await self.runner.run_raw([_binary(), *argv], timeout_s=timeout_s, cwd=cwd, environment=around)

    def _around(self, settings: Mapping[str, str]) -> dict[str, str]:
        values = {name: value.reveal() for name, value in _without_own(self._values()).items()}
        own = {"DOCKER_HOST": f"unix://{self._socket}", "COMPOSE_ANSI": "never", "COMPOSE_PROGRESS": "plain"}
        # A `.env` of the repository may not have shared services removed that the file names no more.
        own |= {"COMPOSE_REMOVE_ORPHANS": "false"}
        return {**minimal_environment(), **values, **settings, **own, "COMPOSE_MENU": "false"}

    def _good(self, done: Completed, what: str, *, bad_release: bool = False) -> None:
        if done.exit_code or done.timed_out:
            how = DEADLINE if done.timed_out else "failed"
            raise StepFailed(
                f"{what} {how}: {self._words(done.stderr)}.",
                bad_release=bad_release and is_its_own(done.stderr) and not done.timed_out,
                unreachable=bool(GONE.search(done.stderr)),
            )

    def _words(self, text: str) -> str:
        """What Compose said last; its progress lines say nothing."""
        lines = [line.strip() for line in self.runner.redactor(text).splitlines() if line.strip()]
        crash = next((line for line in lines if line.startswith("panic:")), "")
        return crash or "; ".join(lines[-2:]).rstrip(".")


def _without_own(values: Mapping[str, Secret]) -> dict[str, Secret]:
    """Compose takes its own settings from the environment too: the operator's file may not redirect us."""
    return {name: value for name, value in values.items() if not name.startswith(("COMPOSE_", *OF_DOCKER))}


def is_its_own(words: str) -> bool:
    """Whether a container that did not start is itself to blame, by what Compose or the engine said of it."""
    return bool(ITS_OWN.search(words)) and not NOT_ITS_OWN.search(words)


def as_bytes(document: Mapping[str, Any]) -> bytes:
    """A rendered document as it is kept."""
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def _told_last(done: Completed) -> list[str]:
    """The end of a build's output: what a command printed is on one stream or the other, as the builder has it."""
    lines = [line.strip() for text in (done.stdout, done.stderr) for line in ANSI.sub("", text).splitlines()[-200:]]
    return [line for line in lines if line and not NOISE.match(line)][-FAILURE_LINES:]


def dotenv(tree: str | Path, directory: str | Path) -> str:
    """The `.env` that holds the repository's defaults: beside the first Compose file, else at the root.

    The env file's values go over it. Without one it is the null device: Compose would look elsewhere by itself.
    """
    places = (Path(directory, ".env"), Path(tree, ".env"))
    return next((str(path) for path in places if path.is_file()), os.devnull)


def _binary() -> str:
    here = Path(sysconfig.get_path("scripts")) / "docker-compose"
    found = str(here) if here.exists() else shutil.which("docker-compose")
    if found is None:
        raise Refused("Compose is not installed beside Sluice.", next="install Sluice with its locked requirements")
    return found
