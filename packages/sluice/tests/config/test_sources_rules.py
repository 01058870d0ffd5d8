"""host.toml's sources of secrets: what nobody could use is refused with its path."""

from __future__ import annotations

import pytest

from sluice.config import load_host
from sluice.model.errors import ConfigError

HOST = """
[service.shop]
repo = "git@git.example.org:team/shop.git"
[service.shop.env.test]
public_url = "http://127.0.0.1:8080"
env_file = "/etc/shop/test.env"
ports = [18100, 18119]
"""
TEST = "$.service.shop.env.test"


def load(tmp_path, more):
    """host.toml with these lines in its environment."""
    path = tmp_path / "host.toml"
    path.write_text(HOST + more)
    return load_host(path)


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ('secret_files = "secrets"', "secret_files"),
        ('sops_file = "x.sops"', "sops_file"),
        ('age_file = "x.age"', "age_file"),
        ('age_identity = "/etc/key"', "age_identity"),
        ('secret_command = ["vault"]', "secret_command"),
        ('secret_command = ["/bin/vault", ""]', "secret_command"),
        ('secret_command = "/bin/vault get"', "secret_command"),
    ],
)
def test_a_source_nobody_could_use_is_refused_with_its_path(tmp_path, more, path):
    """Relative paths, a program by its bare name, a key for nothing and a shell line."""
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, more)
    assert f"{TEST}.{path}" in f"{refused.value}"


def test_all_sources_together_are_read(tmp_path):
    """They come back as they stand."""
    lines = (
        'sops_file = "/etc/s"\nage_file = "/etc/a"\nage_identity = "/etc/k"\n'
        'secret_command = ["/bin/vault", "get"]\nsecret_files = "/run/secrets"\n'
    )
    (one,) = load(tmp_path, lines).service["shop"].env.values()
    assert (one.sops_file, one.age_file, one.age_identity) == ("/etc/s", "/etc/a", "/etc/k")
    assert (one.secret_command, one.secret_files) == (("/bin/vault", "get"), "/run/secrets")
