"""Who typed a run: the SSH key of the connection, looked up in the list of owners."""

from __future__ import annotations

import subprocess

import pytest

from sluice.hosts.owner import Unreadable, owner_of, parse_owners


@pytest.fixture
def keys(tmp_path):
    """Two people's public keys and a certificate authority's, made on the spot: (type, base64)."""
    made = {}
    for name in ("ann", "bob", "authority"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(tmp_path / name)]
        subprocess.run(command, check=True, timeout=30)
        made[name] = (tmp_path / f"{name}.pub").read_text().strip()
    return made


@pytest.fixture
def ask(tmp_path):
    """Ask with what sshd wrote and with this list of owners."""

    def asked(told, owners="", flag="", mode=0o600):
        (tmp_path / "auth").write_text(told)
        (tmp_path / "auth").chmod(mode)
        (tmp_path / "owners").write_text(owners)
        environment = {"SSH_USER_AUTH": str(tmp_path / "auth")}
        return owner_of(environment, str(tmp_path / "owners") if owners else "", flag, "user@host")

    return asked


def fingerprint(tmp_path, name):
    """As ssh-keygen prints it."""
    command = ["ssh-keygen", "-l", "-f", str(tmp_path / f"{name}.pub")]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.split()[1]


def test_a_listed_key_is_its_principal_whatever_the_flag_says(ask, keys, tmp_path):
    """The principal is the owner, the fingerprint its source, and a differing --owner is said not to be taken."""
    owners = f'# people\n"bob" {keys["bob"]}\nann@example.org,a namespaces="git,file" {keys["ann"]} a comment\n'
    found = ask(f"publickey {keys['ann']}\n", owners, flag="bob")
    assert (found.name, found.source) == ("ann@example.org", f"ssh-key {fingerprint(tmp_path, 'ann')}")
    assert "--owner bob was not taken" in found.note
    assert ask(f"publickey {keys['ann']}\n", owners, flag="ann@example.org").note == ""


@pytest.mark.parametrize(
    "owners", ["", "bob {bob}\n", 'ann valid-before="20200101" {ann}\n', "ann cert-authority {ann}\n"]
)
def test_an_unlisted_key_is_its_fingerprint(ask, keys, tmp_path, owners):
    """Neither the flag nor the user takes its place; an expired entry and an authority's are no person's."""
    found = ask(f"publickey {keys['ann']}\n", owners.format(**keys), flag="bob")
    assert found.name == f"{fingerprint(tmp_path, 'ann')} (unlisted key)"
    assert found.source.startswith("ssh-key SHA256:")


def test_a_certificate_is_the_principal_its_authority_may_name(ask, keys, tmp_path):
    """The certificate's principals that the authority's entry allows; a negated pattern wins."""
    command = ["ssh-keygen", "-q", "-s", str(tmp_path / "authority"), "-I", "ann's", "-n", "root,ann@example.org"]
    subprocess.run([*command, str(tmp_path / "ann.pub")], check=True, timeout=30)
    told = "publickey " + " ".join((tmp_path / "ann-cert.pub").read_text().split()[:2]) + "\n"
    assert ask(told, f"*@example.org cert-authority {keys['authority']}\n").name == "ann@example.org"
    assert "unlisted" in ask(told, f"*@example.org,!ann@* cert-authority {keys['authority']}\n").name
    assert "unlisted" in ask(told, f"*@example.org cert-authority {keys['bob']}\n").name


@pytest.mark.parametrize(
    ("told", "mode"),
    [
        ("publickey ssh-ed25519\n", 0o600),
        ("publickey ssh-ed25519 not-base64!\n", 0o600),
        ("publickey ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIA==\n", 0o600),
        ("publickey ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==\n", 0o644),
        ("\x00" * (1 << 20) + "x", 0o600),
    ],
)
def test_a_tampered_file_falls_back_and_says_so(ask, told, mode):
    """The next source is taken, and the record shows why it was."""
    found = ask(told, flag="bob", mode=mode)
    assert found.name == "bob"
    assert found.source.startswith("flag (")
    assert found.note


def test_no_file_no_key_and_no_variable_fall_back(ask, tmp_path):
    """A missing file says so; a password login and a local terminal are nothing to speak of."""
    gone = owner_of({"SSH_USER_AUTH": str(tmp_path / "gone")}, "", "", "user@host")
    assert (gone.name, gone.source.partition(" ")[0]) == ("user@host", "user")
    assert "gone cannot be read" in gone.source
    assert ask("password\n").source == "user"
    assert owner_of({}, "", "", "user@host").source == "user"
    (tmp_path / "link").symlink_to(tmp_path / "auth")
    assert "cannot be read" in owner_of({"SSH_USER_AUTH": str(tmp_path / "link")}, "", "bob", "user@host").source


@pytest.mark.parametrize(
    "line",
    [
        "ann",
        "ann ssh-ed25519",
        "ann ssh-ed25519 AAAA",
        'ann unknown="x" {ann}',
        'ann valid-after="yesterday" {ann}',
        'ann valid-after="20201340" {ann}',
        "a,,b {ann}",
        '"ann {ann}',
    ],
)
def test_a_list_that_cannot_be_read_names_its_line_and_blocks_nobody(ask, keys, line):
    """The key is recorded by its fingerprint, and the note names the line."""
    owners = f"# first\n{line.format(**keys)}\n"
    with pytest.raises(Unreadable, match="owners, line 2"):
        parse_owners(owners, "owners")
    found = ask(f"publickey {keys['ann']}\n", owners)
    assert "unlisted key" in found.name
    assert "line 2" in found.note


def test_times_are_read_to_the_second(keys):
    """With Z they are UTC; without hours they begin at midnight."""
    (entry,) = parse_owners(f'ann valid-after="20240102Z",valid-before="20240102030405Z" {keys["ann"]}', "owners")
    assert entry.after is not None
    assert entry.before is not None
    assert (entry.before - entry.after).total_seconds() == 3 * 3600 + 4 * 60 + 5
