"""The image and the Compose files of deploy/ on a real engine: small, locked down, healthy, graceful."""

from __future__ import annotations

import itertools
import json
import re
import secrets
import socket
import struct
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from images import Images
from workbench import BUILD_S, ROOT, Engine, wait_until

pytestmark = pytest.mark.e2e

DEPLOY = ROOT / "deploy"
TREE = "1234567890abcdef1234567890abcdef12345678"
SHA = "abcdef1234567890abcdef1234567890abcdef12"
MAX_OVER_BASE = 120_000_000  # bytes; what a release costs on a disk and over a line
OVERLAYS = ("test", "prod", "postgres", "turn")
LOCKED_DOWN = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")  # noqa: S108
VARIABLE = re.compile(r"\$\{([A-Z_]+)")


@pytest.fixture(scope="session")
def image(engine_answers: None, images: Images, checkout: Path) -> str:
    """The server's image, built by the classic builder from a clean export. Kept, so that the next build is warm."""
    tag = "sluice-e2e/boltorezka:test"
    arguments = {"PYTHON_BASE": images.python, "NODE_BASE": images.node, "RELEASE_TREE": TREE}
    options = [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
    argv = ["build", "--quiet", "--file", str(checkout / "deploy/Dockerfile"), "--tag", tag, *options, str(checkout)]
    Engine._checked(["docker", *argv], {}, BUILD_S)
    return tag


@pytest.fixture
def settings(images: Images) -> dict[str, str]:
    """An env file's values: everything that any overlay asks for, with secrets nobody else has."""
    postgres, nats = secrets.token_hex(16), secrets.token_hex(16)
    return {
        **images.environment(),
        "BOLTOREZKA_PUBLIC_ORIGIN": "https://rooms.example.org",
        "BOLTOREZKA_AUTH_SSO_BASE_URL": "https://sso.example.org",
        "BOLTOREZKA_DATABASE_URL": "sqlite:////var/lib/boltorezka/boltorezka.sqlite3",
        "BOLTOREZKA_JWT_SECRET": secrets.token_hex(32),
        "BOLTOREZKA_METRICS_TOKEN": secrets.token_hex(16),
        "BOLTOREZKA_TURN_URLS": "turn:turn.example.org:3478?transport=udp",
        "BOLTOREZKA_TURN_SECRET": secrets.token_hex(16),
        "BOLTOREZKA_NATS_URL": f"nats://boltorezka:{nats}@nats:4222",
        "BOLTOREZKA_RELEASE_SHA": SHA,
        "POSTGRES_PASSWORD": postgres,
        "NATS_PASSWORD": nats,
        "TURN_REALM": "turn.example.org",
        "TURN_EXTERNAL_IP": "192.0.2.1",
        "TURN_MIN_PORT": "52000",
        "TURN_MAX_PORT": "52003",
        "TURN_PORT": str(free_port()),
        "PUBLISHED_PORT": str(free_port()),
        "IMAGE_TAG": f"e2e-{secrets.token_hex(4)}",
    }


@pytest.fixture
def compose(engine: Engine, image: str, settings: dict[str, str]) -> Iterator[Callable[..., str]]:
    """Compose on the checkout's files with these overlays; the project is removed at the end, its volumes too."""
    settings["project"] = f"sluice-{engine.mark}"
    engine.docker("tag", image, f"boltorezka:{settings['IMAGE_TAG']}")

    def run(overlays: Sequence[str], *arguments: str) -> str:
        project = ["--project-name", settings["project"], *files(overlays)]
        try:
            return engine.compose(*project, *arguments, environment=settings)
        except AssertionError as error:
            # Why a container did not come up is in its own words, and it goes with the test.
            for words in (("ps", "--all"), ("logs", "--tail", "30")):
                error.add_note(engine.compose(*project, *words, environment=settings))
            raise

    yield run
    engine.remove(f"com.docker.compose.project={settings['project']}")
    engine.docker("image", "rm", f"boltorezka:{settings['IMAGE_TAG']}")


def files(overlays: Sequence[str]) -> list[str]:
    """The -f options of a combination."""
    names = ["compose.yaml", *(f"compose.{overlay}.yaml" for overlay in overlays)]
    return [part for name in names for part in ("--file", str(DEPLOY / name))]


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ask(port: int, path: str, method: str = "GET") -> tuple[int, bytes]:
    """Status and body of one request."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310 - our own loopback address
        return reply.status, reply.read()


def published(engine: Engine, container: str) -> int:
    """The port of this machine that leads to the server's."""
    return int(engine.docker("port", container, "8080/tcp").split(":")[-1])


def health(engine: Engine, container: str) -> str:
    """What the engine's own check says."""
    return str(engine.inspect(container)["State"]["Health"]["Status"])


def started(engine: Engine, image: str, settings: dict[str, str], *, migrate: bool = True) -> str:
    """A server as deploy/compose.yaml would run it, with a volume of its own."""
    told = {name: value for name, value in settings.items() if name.startswith("BOLTOREZKA_") and "NATS" not in name}
    environment = [part for name, value in told.items() for part in ("--env", f"{name}={value}")]
    options = [*LOCKED_DOWN, *environment, "--volume", f"{engine.volume()}:/var/lib/boltorezka"]
    if migrate:
        engine.docker("run", "--rm", *options, image, "boltorezka", "migrate")
    return engine.run(*options, "--publish", "127.0.0.1::8080", image)


def test_image_is_small(engine: Engine, image: str, images: Images) -> None:
    """The image is at most 120 MB over its base, and one more release shares all but a few of them."""
    over = engine.inspect(image)["Size"] - engine.inspect(images.python)["Size"]
    history = engine.docker("history", "--no-trunc", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", image)
    own = sum(int(line.split()[0]) for line in history.split("COPY dir")[0].splitlines() if line[:1].isdigit())
    print(f"\nimage over its base: {over / 1e6:.1f} MB, above its last folder: {own / 1e6:.1f} MB")
    assert over <= MAX_OVER_BASE


def test_image_holds_no_installer_and_no_test(engine: Engine, image: str) -> None:
    """What runs can install nothing, and neither tests nor deploy/ nor any environment file came along."""
    look = "import os\nfor folder in os.walk('/opt'): print(folder[0], *folder[2])"
    listing = engine.docker("run", "--rm", image, "python", "-c", look)
    assert re.search(r"^/opt/boltorezka/boltorezka ", listing, re.MULTILINE)
    assert not re.search(r"site-packages/pip\b|\.env\b|sluice|^/opt/boltorezka/.*tests?\b", listing, re.MULTILINE)


def test_server_without_a_schema_says_so_and_ends(engine: Engine, image: str, settings: dict[str, str]) -> None:
    """A server whose database was not migrated ends with its own exit code and one sentence."""
    container = started(engine, image, settings, migrate=False)
    assert engine.docker("wait", container).strip() == "3"
    assert "boltorezka migrate" in engine.try_docker("logs", container).stderr


def test_server_lives_locked_down(engine: Engine, image: str, settings: dict[str, str]) -> None:
    """On a read-only root, without root and capabilities, it migrates, becomes healthy, answers and ends with 0."""
    container = started(engine, image, settings)
    assert engine.inspect(container)["Config"]["User"] == "10001:10001"
    wait_until(lambda: health(engine, container) == "healthy", "the container becomes healthy")
    port = published(engine, container)
    assert ask(port, "/health")[0] == 200
    assert ask(port, "/health", "HEAD") == (200, b"")
    version = json.loads(ask(port, "/version")[1])
    assert (version["tree"], version["sha"]) == (TREE, SHA)
    assert b"<div id=" in ask(port, "/")[1]
    assert engine.docker("exec", container, "id", "-u").strip() == "10001"
    written = engine.try_docker("exec", container, "sh", "-c", "echo x >/opt/x")
    assert "Read-only file system" in written.stderr
    engine.docker("stop", "--time", "15", container)
    state = engine.inspect(container)["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
    assert '"stopped"' in engine.try_docker("logs", container).stderr + engine.docker("logs", container)


def test_hung_server_becomes_unhealthy(engine: Engine, image: str, settings: dict[str, str]) -> None:
    """The healthcheck asks the server, not the process: one that answers nothing is unhealthy."""
    told = [part for name in ("BOLTOREZKA_JWT_SECRET",) for part in ("--env", f"{name}={settings[name]}")]
    # A start period of nothing would be the image's own.
    periods = {"interval": "1s", "timeout": "1s", "start-period": "1ms"}
    quick = [part for name, value in periods.items() for part in (f"--health-{name}", value)]
    silent = "import socket, threading; s = socket.create_server(('', 8080)); threading.Event().wait()"
    container = engine.run(*LOCKED_DOWN, *told, *quick, "--health-retries", "2", image, "python", "-c", silent)
    wait_until(lambda: health(engine, container) == "unhealthy", "the container becomes unhealthy")


@pytest.mark.parametrize(
    "overlays",
    [
        pytest.param(chosen, id="+".join(chosen) or "alone")
        for count in range(len(OVERLAYS) + 1)
        for chosen in itertools.combinations(OVERLAYS, count)
        if not {"test", "prod"} <= set(chosen)
    ],
)
def test_compose_files_fit_together(engine: Engine, settings: dict[str, str], overlays: tuple[str, ...]) -> None:
    """Every combination of overlays is valid, and every service is locked down and rotates its logs."""
    printed = engine.compose(*files(overlays), "config", "--format", "json", environment=settings)
    document = json.loads(printed)
    environment = next((name for name in overlays if name in {"test", "prod"}), None)
    if environment is not None:
        assert document["name"] == f"boltorezka-{environment}"
        assert document["services"]["server"]["environment"]["BOLTOREZKA_ENVIRONMENT"] == environment
    for name, service in document["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["logging"]["options"]["max-size"], name
        assert "container_name" not in service, name


@pytest.mark.parametrize(
    ("overlays", "name"),
    [
        ((), "BOLTOREZKA_JWT_SECRET"),
        ((), "BOLTOREZKA_METRICS_TOKEN"),
        (("postgres",), "POSTGRES_PASSWORD"),
        (("postgres",), "NATS_PASSWORD"),
        (("turn",), "BOLTOREZKA_TURN_SECRET"),
    ],
)
def test_nothing_starts_without_its_secret(
    engine: Engine, settings: dict[str, str], overlays: tuple[str, ...], name: str
) -> None:
    """There is no default secret: Compose refuses by name."""
    del settings[name]
    with pytest.raises(AssertionError, match=name):
        engine.compose(*files(overlays), "config", "--quiet", environment=settings)


def test_env_examples_name_every_variable_and_no_value() -> None:
    """Both examples name what the Compose files ask for, nothing else, and hold not one value."""
    # The demo's overlay is filled in by the demo itself.
    asked_in = set(DEPLOY.glob("compose*.yaml")) - {DEPLOY / "compose.demo.yaml"}
    asked = {name for path in asked_in for name in VARIABLE.findall(path.read_text())}
    asked |= {"PYTHON_BASE", "NODE_BASE", "RELEASE_TREE"}
    for example in sorted((DEPLOY / "env").iterdir()):
        lines = [line for line in example.read_text().splitlines() if re.match(r"#?[A-Z_]+=", line)]
        assert {line.strip("#").partition("=")[0] for line in lines} == asked, example.name
        assert [line for line in lines if line.partition("=")[2]] == [], example.name


def test_no_file_holds_a_secret() -> None:
    """The scanner of the no-secrets gate finds nothing in any file of deploy/."""
    from sluice.gates.scanner import scan
    from sluice.gates.secret_finds import Text

    paths = [path for path in sorted(DEPLOY.rglob("*")) if path.is_file()]
    texts = [Text(str(path.relative_to(DEPLOY.parent)), path.read_text()) for path in paths]
    assert [f"{paths[hit.text]}:{hit.line} {hit.rule}" for hit in scan(texts)] == []


def test_every_setting_of_the_server_can_be_given() -> None:
    """The Compose file hands on every setting the server knows, but those that the image itself answers."""
    from boltorezka.config import SETTINGS

    handed = set(re.findall(r"^ +BOLTOREZKA_([A-Z_]+):", (DEPLOY / "compose.yaml").read_text(), re.MULTILINE))
    assert handed == set(SETTINGS) - {"WEB_ROOT", "BUILD_INFO"}


def test_server_on_postgresql_and_nats(engine: Engine, compose: Callable[..., str], settings: dict[str, str]) -> None:
    """With the overlay the server migrates PostgreSQL, is ready with its bus, and keeps what it has over a restart."""
    password = settings["POSTGRES_PASSWORD"]
    address = f"postgresql://boltorezka:{password}@postgres:5432/boltorezka?sslmode=disable"
    settings["BOLTOREZKA_DATABASE_URL"] = address
    overlays = ("test", "postgres")
    compose(overlays, "run", "--rm", "server", "boltorezka", "migrate")
    compose(overlays, "up", "--detach", "--wait", "--wait-timeout", "60")
    port = int(settings["PUBLISHED_PORT"])
    assert json.loads(ask(port, "/health")[1])["checks"] == {"api": "ok", "db": "ok", "bus": "ok"}
    people = [user["userId"] for user in smoke_session(compose, overlays)["users"]]
    compose(overlays, "restart", "postgres", "nats")
    wait_until(lambda: healthy(port), "the server is healthy again")
    assert [user["userId"] for user in smoke_session(compose, overlays)["users"]] == people
    for service in ("postgres", "nats", "server"):
        listed = engine.docker("top", compose(overlays, "ps", "--quiet", service).strip())
        assert password not in listed
        assert settings["NATS_PASSWORD"] not in listed
        assert not re.search(r"^root\b", listed, re.MULTILINE), listed


def test_nats_refuses_a_wrong_password(compose: Callable[..., str], settings: dict[str, str]) -> None:
    """The bus takes its password from the environment, also one that reads like a number, and refuses any other."""
    settings["NATS_PASSWORD"] = "12e3"
    settings["BOLTOREZKA_NATS_URL"] = "nats://boltorezka:12e3@nats:4222"
    overlays = ("test", "postgres")
    compose(overlays, "up", "--detach", "--no-deps", "nats")
    code = (
        "import asyncio, nats\n"
        "async def main(password):\n"
        "    c = await nats.connect('nats://nats:4222', user='boltorezka', password=password, allow_reconnect=False)\n"
        "    await c.flush(); await c.close()\n"
        "asyncio.run(main('12e3'))\n"
        "try: asyncio.run(main('12000'))\n"
        "except nats.errors.Error as error: print('refused', type(error).__name__)\n"
    )
    assert "refused" in compose(overlays, "run", "--rm", "--no-deps", "server", "python", "-c", code)


def test_relay_answers_and_its_secret_is_in_no_argument(
    engine: Engine, compose: Callable[..., str], settings: dict[str, str]
) -> None:
    """The relay runs without root, answers a STUN request at its published port, and hides its secret."""
    overlays = ("test", "turn")
    compose(overlays, "up", "--detach", "--no-deps", "coturn")
    container = compose(overlays, "ps", "--quiet", "coturn").strip()
    wait_until(lambda: answers_stun(int(settings["TURN_PORT"])), "the relay answers", 30)
    listed = engine.docker("top", container)
    assert "turnserver -c" in listed
    said = engine.try_docker("logs", container)
    for text in (listed, said.stdout, said.stderr):
        assert settings["BOLTOREZKA_TURN_SECRET"] not in text
    assert not re.search(r"^root\b", listed, re.MULTILINE), listed


def smoke_session(compose: Callable[..., str], overlays: Sequence[str]) -> dict[str, Any]:
    """What the server mints for the smoke: it writes to the database and reads from it."""
    printed = compose(overlays, "exec", "-T", "server", "boltorezka", "smoke-session", "--ttl", "60")
    minted: dict[str, Any] = json.loads(printed)
    return minted


def answers_stun(port: int) -> bool:
    """Whether a binding request (RFC 8489) is answered with success."""
    transaction = secrets.token_bytes(12)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.5)
        client.connect(("127.0.0.1", port))
        try:
            client.send(struct.pack("!HHI", 0x0001, 0, 0x2112A442) + transaction)
            answer = client.recv(2048)
        except OSError:
            return False
    return answer[:2] == b"\x01\x01" and answer[8:20] == transaction


def healthy(port: int) -> bool:
    """Whether the server answers with 200."""
    try:
        return ask(port, "/health")[0] == 200
    except OSError:
        return False
