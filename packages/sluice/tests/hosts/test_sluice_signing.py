"""A key that does not sign: the real ssh-keygen, and a reason that somebody can act upon."""

from __future__ import annotations

import subprocess

import pytest

from sluice.hosts.signing import fingerprint, known_fingerprint, sign
from sluice.model.errors import Refused
from sluice.model.policy import Role
from sluice.model.secret import Redactor
from sluice.runner import LocalRunner


@pytest.fixture
def key(tmp_path):
    """A new SSH key."""
    path = tmp_path / "my key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=30)
    return path


async def refusal(key):
    """What is said when it does not sign."""
    with pytest.raises(Refused) as refused:
        await sign(LocalRunner(Redactor([])), b"text", key, Role.APPROVE)
    return refused.value


async def test_a_key_that_others_may_read_is_told_by_its_mode(key):
    """The last line of ssh-keygen is not the reason; the mode is, and the command that mends it can be copied."""
    key.chmod(0o644)
    refused = await refusal(key)
    assert "its mode is 0644" in refused.what
    assert refused.next == f"chmod 600 '{key}'"
    key.chmod(0o600)
    assert "BEGIN SSH SIGNATURE" in await sign(LocalRunner(Redactor([])), b"text", key, Role.APPROVE)


async def test_a_key_that_is_not_there_is_told_by_ssh_keygen(tmp_path):
    """In its own words, and with the option that names another."""
    refused = await refusal(tmp_path / "none")
    assert "does not sign: " in refused.what
    assert "--key" in refused.next


def test_whose_a_key_is_shows_in_its_public_half(key):
    """Where that lies beside it, or is what was named; else nobody knows before it signs."""
    public = key.with_name("my key.pub")
    assert known_fingerprint(key) == known_fingerprint(public) == fingerprint(public.read_text())
    public.unlink()
    assert known_fingerprint(key) == ""
