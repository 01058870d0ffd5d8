"""Two projects of strangers, deployed by somebody who does what the how-to says, and what that runs into."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from images import Images
from newcomer import PASSWORD, Newcomer, blocks, copy_of, get, lives, post, remove, stand_ins
from workbench import COMPOSE, LOOK_S, Engine

pytestmark = pytest.mark.e2e

SHOP, OLD_SHOP, JOBS = "http://127.0.0.1:18900", "http://127.0.0.1:18940", "http://127.0.0.1:18920"
OLD = "com.docker.compose.project=fx-shop"
DATABASE = "fx-shop-test-shared-db-1"
TOKEN = "0d4e1f7a9b3c5268"
DATA = "Data that is there already"


@pytest.fixture(scope="module")
def stood_in(images: Images) -> dict[str, str]:
    """Images under the names strangers use."""
    return stand_ins(images)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, checkout: Path, stood_in: dict[str, str]) -> Path:
    """Sluice, installed as the page says."""
    folder = tmp_path_factory.mktemp("installed")
    copy_of(checkout, folder / "boltorezka.git")
    said = Newcomer(folder / "installer", folder, stood_in).follow("1. Install")
    assert re.search(r"^sluice, version \d", said, re.MULTILINE)
    return folder


@pytest.fixture
def newcomer(tmp_path: Path, installed: Path, stood_in: dict[str, str]) -> Iterator[Newcomer]:
    """Somebody new, and nothing of theirs left afterwards."""
    try:
        yield Newcomer(tmp_path, installed, stood_in)
    finally:
        for service in ("fx-shop", "fx-jobs", "fx-trap"):
            remove(service, "fx-shop")
        Engine().try_docker("rmi", "fx-shop-web")


def orders(base: str) -> list[str]:
    """What the shop's customers ordered."""
    found: list[str] = json.loads(get(f"{base}/orders"))
    return found


def title() -> str:
    """Which release of the shop answers."""
    return str(json.loads(get(f"{SHOP}/"))["title"])


def prepared(newcomer: Newcomer) -> None:
    """The shop runs by hand with an order in it, and the page's steps 2 and 3 are done."""
    newcomer.project("shop")
    newcomer.old_shop()
    get(f"{OLD_SHOP}/orders")
    assert post(f"{OLD_SHOP}/orders", "lamp") == 201
    newcomer.follow("2. The server")
    # "The password in the env file must be the one the database was made with."
    (newcomer.etc / "fx-shop-test.env").write_text(f"DB_PASSWORD={PASSWORD}\n")
    newcomer.follow("3. The repository")


def test_a_stranger_deploys_a_shop_and_its_data_as_the_page_says(newcomer):
    """Every step of the page works: the data comes along and stays, the database is one container, others are left."""
    prepared(newcomer)
    newcomer.follow(DATA, only="copy")
    others = lives(OLD)
    newcomer.follow("4. The first rollout")
    assert (title(), orders(SHOP)) == ("Lamps and more", ["lamp"])
    database = lives("dev.sluice.service=fx-shop")[DATABASE]
    assert post(f"{SHOP}/orders", "table") == 201

    newcomer.follow("5. The next release")
    assert (title(), orders(SHOP)) == ("Lamps and shades", ["lamp", "table"])
    log = newcomer.follow("6. Back")
    assert (title(), orders(SHOP)) == ("Lamps and more", ["lamp", "table"])
    assert "rollback" in log
    assert "serving" in newcomer.follow("7. Other ways")

    newcomer.shell("git switch -qc feature/broken origin/main; echo 'raise SystemExit(\"no lamps\")' > shop.py")
    newcomer.push(newcomer.here, "feature/broken")
    broken = newcomer.shell("sluice rollout --env test --branch feature/broken")
    assert broken.code == 1, broken.text[-3000:]
    assert "no lamps" in broken.text
    assert (title(), orders(SHOP)) == ("Lamps and more", ["lamp", "table"])

    assert lives("dev.sluice.service=fx-shop")[DATABASE] == database
    assert len(lives("dev.sluice.service=fx-shop")) == 3
    assert lives(OLD) == others
    assert orders(OLD_SHOP) == ["lamp"]


def test_a_volume_is_taken_over_and_is_nobody_elses_at_the_same_time(newcomer):
    """The running predecessor, its ports, and a sibling with the same volume are named before anything is touched."""
    prepared(newcomer)
    before = lives(OLD)
    with (newcomer.etc / "host.toml").open("a") as host:
        host.write(
            '[service.fx-shop.env.prod]\nruntime = "compose"\npublic_url = "http://127.0.0.1:18910"\n'
            f'env_file = "{newcomer.etc}/fx-shop-prod.env"\nports = [18911, 18915]\n'
        )
    newcomer.shell("(umask 077; echo DB_PASSWORD=91c2d7e80f43ba65 > ~/../etc/fx-shop-prod.env)")
    shared = newcomer.here / "compose.prod.yaml"
    shared.write_text("volumes:\n  pgdata:\n    name: fx-shop_pgdata\n")
    newcomer.shell("git add compose.prod.yaml")
    for block in blocks(DATA):
        if block.label in {"compose.test.yaml", "take over"}:
            newcomer.do(block)
    newcomer.shell("git switch -qc feature/published")
    with (newcomer.here / "sluice.toml").open("a") as service:
        service.write("[compose.services.db]\npublish = true\n")
    newcomer.push(newcomer.here, "feature/published")
    found = newcomer.shell("sluice check --json --env test --branch feature/published")
    assert found.code == 1, found.text
    detail = next(
        one["finding"]["detail"]
        for one in map(json.loads, filter(lambda line: line.startswith("{"), found.text.splitlines()))
        if one["finding"]["name"] == "host-isolation"
    )
    for sentence in (
        "test and the Compose project fx-shop would share the volume fx-shop_pgdata",
        "test and the Compose project fx-shop would share the host port 127.0.0.1:18941/tcp",
        "test and prod would share the volume fx-shop_pgdata",
    ):
        assert sentence in detail
    refused = newcomer.shell("sluice rollout --env test --branch feature/published")
    assert refused.code == 1, refused.text[-3000:]
    assert lives("dev.sluice.service=fx-shop") == {}
    assert lives(OLD) == before

    newcomer.shell("git switch -q main")
    shared.write_text("volumes:\n  pgdata:\n")
    newcomer.push(newcomer.here, "main")
    newcomer.follow(DATA, only="change over")
    assert orders(SHOP) == ["lamp"]
    assert DATABASE in lives("dev.sluice.service=fx-shop")
    newcomer.shell("git switch -qc feature/other-volume; sed -i s/fx-shop_pgdata/fx-shop_other/ compose.test.yaml")
    newcomer.push(newcomer.here, "feature/other-volume")
    other = newcomer.shell("sluice check --env test --branch feature/other-volume")
    assert "shared service db changed" in other.text


class Watched:
    """How many workers ran at each look."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        label = ("--filter", "label=dev.sluice.service=fx-jobs", "--filter", "label=com.docker.compose.service=worker")
        while not self.ended.wait(LOOK_S):
            self.counts.append(len(Engine().docker("ps", "--quiet", *label).split()))

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join(60)


def test_a_stranger_deploys_jobs_after_saying_what_readiness_is(newcomer):
    """Refused with what to write, then it runs; one worker at a time; results stay through a release and back."""
    newcomer.project("jobs")
    (newcomer.etc / "host.toml").write_text(
        f'[service.fx-jobs]\nrepo = "{newcomer.git_folder}/fx-jobs.git"\n[service.fx-jobs.env.test]\n'
        f'runtime = "compose"\npublic_url = "{JOBS}"\nenv_file = "{newcomer.etc}/jobs.env"\nports = [18921, 18929]\n'
    )
    newcomer.shell(f"(umask 077; echo API_TOKEN={TOKEN} > ~/../etc/jobs.env)")
    newcomer.shell(f"git clone -q {newcomer.git_folder}/fx-jobs.git ~/fx-jobs; cd ~/fx-jobs")
    said, wanted = (block for block in blocks("Workers") if block.kind in {"text", "toml"})
    newcomer.do(wanted)
    declared = (newcomer.here / "sluice.toml").read_text()
    (newcomer.here / "sluice.toml").write_text(declared.partition("[compose.services")[0])
    newcomer.push(newcomer.here, "main")
    refused = newcomer.shell("sluice rollout --env test --branch main")
    assert refused.code == 1, refused.text[-3000:]
    assert newcomer.substituted(said.text).strip() in refused.text
    assert "ready_after_s" in refused.text.partition("Next:")[2]
    assert lives("dev.sluice.service=fx-jobs") == {}

    (newcomer.here / "sluice.toml").write_text(declared)
    newcomer.push(newcomer.here, "main")
    first = newcomer.shell("sluice rollout --env test --branch main")
    assert first.code == 0, first.text[-4000:]
    assert post(f"{JOBS}/one", "hello", "wrong") == 401
    assert post(f"{JOBS}/one", "hello", TOKEN) == 202
    one = get(f"{JOBS}/one")
    assert one.startswith("HELLO by ")

    newcomer.shell("git switch -qc feature/quiet; sed -i s/upper/title/ worker.py")
    newcomer.push(newcomer.here, "feature/quiet")
    with Watched() as seen:
        second = newcomer.shell("sluice rollout --env test --branch feature/quiet")
    assert second.code == 0, second.text[-4000:]
    assert post(f"{JOBS}/two", "hello", TOKEN) == 202
    assert get(f"{JOBS}/two").startswith("Hello by ")
    with Watched() as seen_back:
        back = newcomer.shell("sluice rollback --env test")
    assert back.code == 0, back.text[-4000:]
    assert post(f"{JOBS}/three", "hello", TOKEN) == 202
    assert get(f"{JOBS}/three").startswith("HELLO by ")
    assert get(f"{JOBS}/one") == one
    for counts in (seen.counts, seen_back.counts):
        assert len(counts) > 10
        assert set(counts) <= {0, 1}
        assert (counts[0], counts[-1]) == (1, 1)


WEB = {"image": "python:3.11-slim", "command": ["python3", "-m", "http.server", "8000"]}
SECRET = "7e1d0a6c94b8f253"
BUILD = "FROM python:3.11-slim\nARG KEY\nRUN echo compiling with $KEY; echo 'no such header: lamp.h'; exit 3\n"
TRAPS = {
    "a variable that is missing": ({"environment": {"A": "${LAMP:?set it}"}}, "LAMP"),
    "an image that cannot be had": ({"image": "127.0.0.1:18999/lamp:1"}, "127.0.0.1:18999/lamp:1"),
    "a container that ends at once": ({"command": ["sh", "-c", "echo no lamp oil; exit 3"]}, "no lamp oil"),
    "a build that fails": ({"image": None, "build": {"context": ".", "args": {"KEY": "${KEY}"}}}, "lamp.h"),
}


@pytest.fixture
def trap(newcomer):
    """A service of one web page; called with what is wrong with it, it is rolled out: the answer."""
    work = newcomer.folder / "trap"
    work.mkdir()
    (newcomer.etc / "host.toml").write_text(
        f'[service.fx-trap]\nrepo = "{newcomer.git_folder}/trap.git"\n[service.fx-trap.env.test]\nruntime = "compose"\n'
        f'public_url = "http://127.0.0.1:18930"\nenv_file = "{newcomer.etc}/trap.env"\nports = [18931, 18939]\n'
    )
    newcomer.shell(f"umask 077; echo KEY={SECRET} > ~/../etc/trap.env")

    def rolled_out(wrong, **more):
        web = {key: value for key, value in (WEB | wrong).items() if value}
        services = {"services": {"web": web, **more}}
        (work / "compose.yaml").write_text(newcomer.substituted(json.dumps(services)))
        (work / "Dockerfile").write_text(newcomer.substituted(BUILD))
        (work / "sluice.toml").write_text(
            'name = "fx-trap"\n[run]\nhealth_path = "/"\nversion_path = ""\nready_timeout_s = 8\n'
            '[compose]\nfiles = ["compose.yaml"]\nroute = "web"\nport = 8000\n'
            + ('[compose.services.side]\nmode = "slotted"\n' if more else "")
        )
        newcomer.push(work, "main", first=True, bare=newcomer.git_folder / "trap.git")
        return newcomer.shell("sluice rollout --env test --branch main")

    return rolled_out


@pytest.mark.parametrize("name", TRAPS)
def test_what_a_newcomer_gets_wrong_is_said_in_words(trap, name):
    """The sentence names what is wrong or shows the last lines, and never a secret."""
    wrong, sentence = TRAPS[name]
    ran = trap(wrong)
    assert ran.code in {1, 2, 7}, ran.text[-3000:]
    end = ran.text.rpartition("rollout: ")[2]
    assert sentence in end or f"log: web: {sentence}" in ran.text, ran.text[-3000:]
    assert SECRET not in ran.text
    assert "Traceback" not in ran.text


def test_a_service_that_never_becomes_healthy_says_what_its_healthcheck_said(trap):
    """Its log's last lines, and the words of the healthcheck, which are often the only ones that say why."""
    check = {"test": ["CMD-SHELL", "echo the lamp is out; exit 1"], "interval": "1s", "retries": 2}
    side = {"image": WEB["image"], "healthcheck": check, "command": ["sh", "-c", "echo lamp; exec sleep 600"]}
    ran = trap({"depends_on": ["side"]}, side=side)
    assert ran.code in {1, 7}, ran.text[-3000:]
    end = ran.text.rpartition("rollout: ")[2]
    assert "the lamp is out" in end
    assert "lamp\n" in end


def test_a_public_port_that_somebody_has_is_said(trap, engine, stood_in):
    """A stranger's container holds the port of public_url: refused, and that container goes on."""
    held = engine.run("--publish", "127.0.0.1:18930:8000", stood_in["python:3.11-slim"], *WEB["command"])
    ran = trap({})
    assert ran.code in {1, 7}, ran.text[-3000:]
    assert "18930" in ran.text.rpartition("rollout: ")[2]
    assert engine.inspect(held)["State"]["Running"]


def test_the_old_projects_are_what_a_stranger_runs_by_hand(newcomer):
    """Compose itself takes both files as they are: nothing in them was written for Sluice."""
    for name, file in (("shop", "docker-compose.yml"), ("jobs", "compose.yaml")):
        newcomer.project(name)
        folder = newcomer.folder / "project" / name
        (folder / "secrets.env").write_text("API_TOKEN=x\n")
        argv = [str(COMPOSE), "--file", str(folder / file), "config", "--quiet"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env={"DB_PASSWORD": "x"})
        assert done.returncode == 0, done.stderr
        assert "sluice" not in (folder / file).read_text().replace("sluice-e2e/", "")
