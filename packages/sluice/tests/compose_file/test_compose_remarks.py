"""What is said of a Compose file that is run as it is: names, never values."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice.model.secret import Redactor, Secret
from sluice.runner import LocalRunner
from sluice.runtimes.compose_cli import ComposeCli
from sluice.runtimes.compose_remarks import looks_secret, remarks

FILE = """
services:
  api:
    build:
      context: .
      args:
        NPM_TOKEN: ${NPM_TOKEN}
        REGISTRY: "https://ci:${REGISTRY_PASSWORD}@registry.example.org"
        PLAIN: ${COLOUR}
        SENTRY_AUTH_TOKEN:
  worker:
    image: shop/worker
    restart: "no"
    command: ${COMMAND}
  mailer: {image: shop/mailer, restart: "on-failure:5"}
  store: {image: shop/store, restart: unless-stopped, volumes: ["data:/data"]}
  cron: {image: shop/cron, deploy: {restart_policy: {condition: none}}}
  setup: {image: shop/setup, restart: "no"}
  after: {image: shop/after, depends_on: {setup: {condition: service_completed_successfully}}}
volumes: {data: {}}
"""
VALUES = {
    "NPM_TOKEN": "tok-value",
    "REGISTRY_PASSWORD": "pass-value",
    "COLOUR": "red",
    "COMMAND": "run",
    "SENTRY_AUTH_TOKEN": "sentry-value",
}


def said(known, unset: tuple[str, ...] = ()) -> str:
    """Everything that is remarked."""
    return "\n".join(remarks(known.base, known.resolved, known.plans, unset))


def test_build_arguments_that_look_secret_are_named_and_no_value_is(read):
    """By their own name, or by the variable they are filled from; with the way out."""
    text = said(read(FILE, values=VALUES))
    assert "NPM_TOKEN of api, REGISTRY of api, SENTRY_AUTH_TOKEN of api" in text
    assert "PLAIN" not in text
    assert "build secret" in text
    assert not [value for value in ("tok-value", "pass-value") if value in text]


def test_what_stays_down_after_a_restart_of_the_machine_is_named(read):
    """`no`, `on-failure` and their like in `deploy`; what runs to its end should stay down, and the rest comes back."""
    lines = [line for line in said(read(FILE, values=VALUES)).splitlines() if "stays down" in line]
    assert [line.split(" ")[0] for line in lines] == ["cron", "mailer", "worker"]
    assert "restart on-failure" in lines[1]


def test_a_file_without_any_of_it_is_no_news(read):
    """Nothing is said."""
    assert said(read("services: {api: {build: {context: ., args: {COLOUR: red}}}}")) == ""


def test_what_a_container_may_write_to_in_the_repository_is_named(read):
    """Such an artifact is not promoted once it was written to; what is read-only, data or a volume is no news."""
    text = said(
        read(
            "services: {api: {image: shop/api}, worker: {image: shop/worker, "
            "volumes: ['./app:/app', './conf:/conf:ro', './made:/made', 'd:/d']}}\nvolumes: {d: {}}",
            files={"app/main.py": "", "conf/it": ""},
        )
    )
    assert "may write there: app of worker;" in text
    assert "read-only" in text
    assert "conf" not in text
    assert "made" not in text


async def test_variables_that_are_not_set_are_named_once(tmp_path: Path):
    """Compose's own warning, which stands on its standard error; one with a default is none."""
    (tmp_path / "compose.yaml").write_text(
        'services: {api: {image: shop/api, command: "${A_WORD} ${IMAGE} ${OTHER:-x}", environment: {S: "${SET}"}}}\n'
    )
    cli = ComposeCli(LocalRunner(Redactor()), "/nowhere.sock", lambda: {"SET": Secret("value")})
    unset: set[str] = set()
    await cli.config(tmp_path, ["compose.yaml"], interpolate=True, settings={}, unset=unset)
    assert unset == {"IMAGE", "A_WORD"}
    assert list(remarks({"services": {}}, {"services": {}}, {}, sorted(unset))) == [
        "not set in the env file, and so empty in the Compose files: A_WORD, IMAGE"
    ]


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *((name, True) for name in ("NPM_TOKEN", "db_password", "DATABASE_URL", "API_KEY", "apikey", "GITHUB_PAT")),
        *((name, False) for name in ("TOKENIZER", "COLOUR", "VITE_API_KEY", "NEXT_PUBLIC_TOKEN", "AUTHOR", "PATH")),
    ],
)
def test_which_names_look_secret(name, secret):
    """By the words people use; what enters a public bundle by custom is none."""
    assert looks_secret(name) is secret
