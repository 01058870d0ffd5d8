"""A stranger with a project of their own, who does what a page says, word for word, in a folder of their own.

The page's fenced blocks are run in a shell (`sh`) or written down (`toml`, `yaml`, whose first line names the file).
What differs from the page is declared in `SUBSTITUTIONS` and `Newcomer.places`, and nowhere else.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from images import Images
from workbench import COMPOSE, ROOT, Engine, wait_until

PAGE = ROOT / "docs" / "how-to" / "deploy-a-compose-project.md"
PROJECTS = Path(__file__).parent / "foreign"
PASSWORD = "5b3f0c9a7d2e4168"
COMMAND_S = 600  # the longest: a build that fetches packages on a busy machine
FENCE = re.compile(r"^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)

# One engine is shared with others: names, ports and images of our own. No registry is reachable.
SUBSTITUTIONS = (
    (r"\bshop(?=\b|_)", "fx-shop"),
    (r"\bjobs\b(?!\.)", "fx-jobs"),
    (r"\b8080\b", "18900"),
    (r"\b18100\b", "18901"),
    (r"\b18119\b", "18909"),
    (r'"8000:8000"', '"127.0.0.1:18940:8000"'),
    (r'"5432:5432"', '"127.0.0.1:18941:5432"'),
    (r"\bsudo ", ""),
)


@dataclass(frozen=True)
class Block:
    """One fenced block of the page."""

    kind: str
    text: str

    @property
    def label(self) -> str:
        """Its first line, where that is a comment: the file it is, or which of several commands."""
        first = self.text.partition("\n")[0]
        return first.removeprefix("# ") if first.startswith("# ") else ""


def blocks(title: str) -> list[Block]:
    """The blocks of a section, in order."""
    for section in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        if title in heading:
            return [Block(found["kind"], found["text"]) for found in FENCE.finditer(body)]
    raise AssertionError(f"the page has no section {title!r}")


@dataclass
class Ran:
    """What a command said and how it ended."""

    code: int
    text: str


def stand_ins(images: Images) -> dict[str, str]:
    """The images that strangers name, by their names here."""
    made = {}
    for name, lines in {
        "python": [
            f"FROM {images.python}",
            # The official image has the installer on its path.
            r"""RUN printf '#!/bin/sh\nexec python3 -m pip "$@"\n' >/usr/local/bin/pip""",
            "RUN chmod 755 /usr/local/bin/pip",
        ],
        # The official image becomes this user by itself, and its clients know where the socket is.
        "postgres": [f"FROM {images.postgres}", "ENV PGHOST=/run/postgresql", "USER postgres"],
    }.items():
        made[name] = f"sluice-e2e/fx-{name}:{images.python.rpartition(':')[2]}"
        subprocess.run(
            ["docker", "build", "--quiet", "--tag", made[name], "-"],
            input="\n".join(lines) + "\n",
            text=True,
            check=True,
            capture_output=True,
            env=os.environ | {"DOCKER_BUILDKIT": "0"},
        )
    return {"python:3.11-slim": made["python"], "postgres:16-alpine": made["postgres"], "nats:2.10": images.nats}


class Newcomer:
    """Somebody at a shell, with Sluice installed below `installed`."""

    def __init__(self, folder: Path, installed: Path, images: dict[str, str]) -> None:
        """Make the folders."""
        self.folder, self.home, self.etc, self.git_folder = (folder / part for part in ("", "home", "etc", "git"))
        for path in (self.home, self.etc, self.git_folder, installed / "bin"):
            path.mkdir(parents=True, exist_ok=True)
        self.here = self.home
        self.places = {
            "https://git.example.org/": f"{installed}/",
            "git@git.example.org:team/": f"{self.git_folder}/",
            "/etc/sluice": str(self.etc),
            "/opt/sluice": str(installed / "opt"),
            "/usr/local/bin": str(installed / "bin"),
            "docker compose": str(COMPOSE),
            **images,
        }
        self.environment = {
            "HOME": str(self.home),
            "USER": getpass.getuser(),
            "PATH": f"{installed / 'bin'}:{os.environ['PATH']}",
            "SLUICE_HOST_CONFIG": str(self.etc / "host.toml"),
            "DOCKER_BUILDKIT": "0",
            **{f"GIT_{who}_{what}": "new@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
            **{k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_")) or k.lower().endswith("_proxy")},
        }
        self.ran: list[str] = []

    def substituted(self, text: str) -> str:
        """A text of the page, or of a project, with what differs here."""
        for pattern, replacement in SUBSTITUTIONS:
            text = re.sub(pattern, replacement, text)
        for theirs, ours in self.places.items():
            text = text.replace(theirs, ours)
        return text

    # ------------------------------------------------------------ the page

    def follow(self, title: str, *, only: str = "") -> str:
        """Do what a section says, or its block with this label; what was printed. Every command must succeed."""
        chosen = [block for block in blocks(title) if not only or block.label == only]
        assert chosen, f"{title}: no block {only!r}"
        return "".join(self.do(block) for block in chosen)

    def do(self, block: Block) -> str:
        """Run it, or write it down."""
        text = self.substituted(block.text)
        if block.kind == "sh":
            ran = self.shell(text)
            assert ran.code == 0, f"{text}\n{ran.text[-6000:]}"
            return ran.text
        if block.kind in {"toml", "yaml"}:
            name = self.substituted(block.label).replace("~", str(self.home))
            path = self.here / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return ""

    def shell(self, text: str) -> Ran:
        """Commands, where the last ones left off."""
        where = self.folder / "pwd"
        argv = ["bash", "-euo", "pipefail", "-c", f"trap 'pwd >\"{where}\"' EXIT\n{text}"]
        done = subprocess.run(
            argv,
            cwd=self.here,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        self.here = Path(where.read_text().strip())
        return Ran(done.returncode, done.stdout)

    # ------------------------------------------------------------ projects

    def project(self, name: str) -> None:
        """The stranger's project in its repository."""
        work = self.folder / "project" / name
        for source in sorted((PROJECTS / name).rglob("*")):
            if source.is_file():
                target = work / source.relative_to(PROJECTS / name)
                target.parent.mkdir(parents=True, exist_ok=True)
                text = source.read_text()
                yaml_or_image = source.suffix in {".yml", ".yaml"} or source.name == "Dockerfile"
                target.write_text(self.substituted(text) if yaml_or_image else text)
        # `COPY shop.py` is a file of theirs, whose name stays.
        for dockerfile in work.glob("Dockerfile"):
            dockerfile.write_text(dockerfile.read_text().replace(f"fx-{name}.py", f"{name}.py"))
        self.push(work, "main", first=True, bare=self.git_folder / f"fx-{name}.git")

    def push(self, work: Path, branch: str, *, first: bool = False, bare: Path | None = None) -> None:
        """Commit everything there and push the branch."""
        begin = (
            f"git init -q -b main; git init -q --bare -b main {bare}; git remote add origin {bare}\n" if first else ""
        )
        ran = self.shell(
            f'(cd "{work}"\n{begin}git add --all; git commit -qm work --allow-empty; git push -q origin HEAD:{branch})'
        )
        assert ran.code == 0, ran.text

    def old_shop(self) -> None:
        """The shop as it ran before, by hand: another project for Sluice."""
        text = (
            f"git clone -q {self.git_folder}/fx-shop.git ~/old/fx-shop && cd ~/old/fx-shop\n"
            f"export DB_PASSWORD={PASSWORD}\n{COMPOSE} up --detach --quiet-pull"
        )
        ran = self.shell(f"({text})")
        assert ran.code == 0, ran.text


def get(url: str) -> str:
    """What is there, once it answers."""
    found: list[str] = []

    def answers() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:  # noqa: S310 - our own loopback address
                found.append(reply.read().decode())
        except OSError:
            return False
        return True

    wait_until(answers, f"{url} answers", 60)
    return found[0]


def post(url: str, body: str, token: str = "") -> int:
    """The status of the answer."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, body.encode(), headers, method="POST")  # noqa: S310 - as above
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310 - as above
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


def lives(label: str) -> dict[str, str]:
    """Name of each running container with this label, and which life of which container it is."""
    engine = Engine()
    found = engine.docker("ps", "--quiet", "--filter", f"label={label}").split()
    documents = json.loads(engine.docker("inspect", *found)) if found else []
    return {one["Name"].lstrip("/"): f"{one['Id']} {one['State']['StartedAt']}" for one in documents}


def remove(service: str, *projects: str) -> None:
    """Everything of a service, and of Compose projects made by hand."""
    engine = Engine()
    for label in (f"dev.sluice.service={service}", *(f"com.docker.compose.project={name}" for name in projects)):
        engine.remove(label)
    for kind in ("network", "volume"):
        listed = engine.docker(kind, "ls", "--filter", f"name={service}", "--format", "{{.Name}}").split()
        for name in listed:
            engine.docker(kind, "rm", name)
    for image in set(engine.docker("images", "--quiet", "--filter", f"label=dev.sluice.built-for={service}").split()):
        engine.try_docker("rmi", "--force", image)


def copy_of(checkout: Path, target: Path) -> None:
    """The checkout as a repository that can be cloned."""
    shutil.copytree(checkout, target)
    identity = ["-c", "user.name=T", "-c", "user.email=t@localhost"]
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "all"]):
        subprocess.run(["git", *identity, *words], cwd=target, check=True, capture_output=True)
