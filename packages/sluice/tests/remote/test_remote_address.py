"""Addresses of servers, and the ssh commands made of them."""

from __future__ import annotations

import pytest

from sluice.hosts.ssh import OPTIONS, parse_server
from sluice.model.errors import UsageError


@pytest.mark.parametrize(
    ("address", "arguments"),
    [
        ("ssh://srv", ["--", "srv"]),
        ("ssh://Ann@Srv.example:2222/", ["-l", "Ann", "-p", "2222", "--", "Srv.example"]),
        ("ssh://deploy@[::1]:22", ["-l", "deploy", "-p", "22", "--", "::1"]),
    ],
)
def test_an_address_becomes_sshs_own_arguments(address, arguments):
    """Names keep their case: they may be aliases of the user's configuration. Nothing of that is overruled."""
    command = parse_server(address).argv(("status", "--env", "test"))
    assert command == ["ssh", *OPTIONS, *arguments, "sluice status --env test"]
    assert not [word for word in command if "HostKey" in word or "KnownHosts" in word or "Batch" in word]


def test_words_are_quoted_for_the_remote_shell():
    """A branch with a semicolon is a branch; the program is the user's own text for his own shell."""
    server = parse_server("ssh://srv", "env SLUICE_STATE=/s ~/bin/sluice")
    assert server.argv(("rollout", "--branch", "a b; rm -rf '$HOME'"))[-1] == (
        "env SLUICE_STATE=/s ~/bin/sluice rollout --branch 'a b; rm -rf '\"'\"'$HOME'\"'\"''"
    )


@pytest.mark.parametrize(
    "address",
    [
        "srv",
        "http://srv",
        "ssh://",
        "ssh://-oProxyCommand=x",
        "ssh://-l@srv",
        "ssh://a:b@srv",
        "ssh://srv:0",
        "ssh://srv:99999",
        "ssh://srv/path",
        "ssh://s rv",
    ],
)
def test_what_is_no_address_is_a_usage_error(address):
    """Least of all may it become an option of ssh."""
    with pytest.raises(UsageError, match="is not an address"):
        parse_server(address)
