"""What of a container's environment is secret, told by the document it was created from."""

from __future__ import annotations

import pytest

from sluice.model.secret import Secret
from sluice.runtimes.compose_logs import created_with

OLD = "s3ntinel-old-value"


def found(definition, given, settings=(), **sections):
    """What is hidden, and which variables are not found."""
    made_from = {"services": {"api": definition}, **sections}
    secrets, unknown = created_with(made_from, "api", {name: Secret(text) for name, text in given.items()}, settings)
    return {secret.reveal() for secret in secrets}, unknown


@pytest.mark.parametrize(
    ("environment", "given", "hidden"),
    [
        ({"KEY": "${KEY}"}, {"KEY": OLD}, {OLD}),
        (["KEY"], {"KEY": OLD}, {OLD}),
        ({"KEY": None}, {"KEY": OLD}, {OLD}),
        ({"KEY": "${OTHER:-nothing}"}, {"KEY": OLD}, {OLD}),
        ({"URL": "pg://app:$PW@db/x"}, {"URL": f"pg://app:{OLD}@db/x"}, {OLD, f"pg://app:{OLD}@db/x"}),
        ({"URL": "pg://${U}:${PW}@db"}, {"URL": f"pg://ann:{OLD}@db"}, {OLD, "ann", f"pg://ann:{OLD}@db"}),
        ({"URL": "${A:-${B}}-x"}, {"URL": f"{OLD}-x"}, {f"{OLD}-x"}),
        ({"PRICE": "$$5 and ${KEY}"}, {"PRICE": f"$5 and {OLD}"}, {OLD, f"$5 and {OLD}"}),
        ({"MODE": "production", "SHA": "${RELEASE_SHA}"}, {"MODE": "production", "SHA": "abcdef0"}, set()),
    ],
)
def test_what_came_from_the_servers_values_is_found_in_what_was_written(environment, given, hidden):
    """The value itself, also inside a longer one; neither what the file says in plain nor a setting of the release."""
    assert found({"environment": environment}, given, {"RELEASE_SHA"}) == (hidden, set())


def test_what_an_env_file_brought_is_hidden_whole():
    """A name that the Compose file does not mention came from there."""
    given = {"MODE": "live", "KEY": OLD}
    assert found({"env_file": ["/etc/e.env"], "environment": {"MODE": "live"}}, given)[0] == {OLD}
    assert found({"environment": {}}, {"KEY": OLD})[0] == set()


def test_what_reaches_a_container_in_another_way_is_unknown():
    """Commands, healthchecks and mounted secrets, but not where the same variable is in the environment too."""
    definition = {
        "command": ["serve", "--key", "${KEY}", "$$HOME"],
        "healthcheck": {"test": ["CMD", "ask", "$USER", "${RELEASE_SHA}"]},
        "secrets": ["token", {"source": "cert"}, "file"],
        "environment": {"USER": "${USER}"},
    }
    sections = {"secrets": {"token": {"environment": "TOKEN"}, "cert": {"environment": "CERT"}, "file": {"file": "/x"}}}
    assert found(definition, {"USER": "anne-marie"}, {"RELEASE_SHA"}, **sections) == (
        {"anne-marie"},
        {"KEY", "TOKEN", "CERT"},
    )
