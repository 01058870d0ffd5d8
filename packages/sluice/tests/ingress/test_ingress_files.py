"""What Traefik is told, without Traefik."""

from __future__ import annotations

import json
import os

import pytest

from sluice.hosts.state import StatePaths
from sluice.ingress.files import Address, IngressFiles, Route, address_of, public_address
from sluice.model.errors import Refused, StateCorrupted
from sluice.model.release import Slot

SLOT = Slot("r7", "u7", 20001, "http://127.0.0.1:20001", "http://u7:8000")


@pytest.fixture
def files(paths: StatePaths, host) -> IngressFiles:
    """The files of an ingress without TLS."""
    return IngressFiles(paths.ingress_dir, host("http://127.0.0.1:8080"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-20],
        lambda _: b"",
        lambda _: b"[]",
        lambda _: b"null",
        lambda whole: whole.replace(b"PathPrefix", b"Path"),
        lambda whole: whole.replace(b'"r7"', b"7"),
        lambda whole: whole.replace(b'"servers"', b'"backends"'),
        lambda whole: b"\xff" + whole,
        lambda whole: whole[:-80],
    ],
)
def test_damaged_file_is_named_and_left_as_it_is(files, damage):
    """Cut, emptied or hand-edited content raises StateCorrupted with the file's name, and nothing is overwritten."""
    files.point(SLOT)
    damaged = damage(files.dynamic.read_bytes())
    files.dynamic.write_bytes(damaged)
    for ask in (files.read, files.prepare):
        with pytest.raises(StateCorrupted, match=r"service\.yaml"):
            ask()
    assert files.dynamic.read_bytes() == damaged


def test_full_disk_leaves_the_old_file(files, monkeypatch):
    """When the disk does not take the new content, the error says so and requests go where they went."""
    files.point(SLOT)

    def full(*arguments: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Refused, match="No space left"):
        files.point(None)
    assert files.read().url == SLOT.target


@pytest.mark.parametrize("name", ["certificate", "certificate_key"])
def test_unreadable_certificate_is_refused_by_name(paths, host, certified, name):
    """A certificate or key that is not there is refused before anything is written."""
    chain, key = certified("a")
    (chain if name == "certificate" else key).unlink()
    tls = {"certificate": str(chain), "certificate_key": str(key)}
    files = IngressFiles(paths.ingress_dir, host("https://127.0.0.1:8443", **tls))
    with pytest.raises(Refused, match=tls[name]):
        files.prepare()
    assert not files.dynamic.exists()


def test_the_target_is_routed_and_the_release_is_told(files):
    """Requests go to the slot's target where it has one, else to its URL; every answer names the release."""
    assert files.read() == Route()
    files.point(SLOT)
    assert files.read() == Route(url="http://u7:8000", release="r7")
    http = json.loads(files.dynamic.read_bytes().partition(b"#")[0])["http"]
    assert http["middlewares"]["service"]["headers"]["customResponseHeaders"] == {"Sluice-Release": "r7"}
    files.point(Slot("r8", "u8", 20002, "http://127.0.0.1:20002"))
    assert files.read().url == "http://127.0.0.1:20002"
    files.point(None)
    assert files.read() == Route()


def test_url_changed_by_hand_is_believed_and_said_until_the_next_switch(files):
    """The way out that a failed rollback names, another url in the file, is no damage; that it was edited is told."""
    assert files.edited() == ""
    files.point(SLOT)
    assert files.edited() == ""
    files.dynamic.write_bytes(files.dynamic.read_bytes().replace(b"u7:8000", b"127.0.0.1:20003"))
    assert files.read().url == "http://127.0.0.1:20003"
    assert "edited by hand: requests go to http://127.0.0.1:20003" in files.edited()
    files.prepare()
    assert "edited by hand" in files.edited()
    files.point(SLOT)
    assert files.edited() == ""


def test_file_of_a_version_that_wrote_no_checksum_is_read(files):
    """An update of Sluice finds the file of the version before: whole, and nobody's edit."""
    files.point(SLOT)
    files.dynamic.write_bytes(files.dynamic.read_bytes().partition(b"#")[0])
    assert files.read().url == SLOT.target
    assert files.edited() == ""


def test_new_settings_keep_the_backend(paths, host, certified):
    """When host.toml begins to name a certificate, the file is written anew and requests go where they went."""
    IngressFiles(paths.ingress_dir, host("http://127.0.0.1:8080")).point(SLOT)
    chain, key = (str(path) for path in certified("a"))
    tls = {"certificate": chain, "certificate_key": key, "redirect_http": "127.0.0.1:8081"}
    files = IngressFiles(paths.ingress_dir, host("https://rooms.example.org", **tls))
    files.prepare()
    assert files.read() == Route("http://u7:8000", "r7", chain, key, "https://rooms.example.org")
    assert "PRIVATE KEY" not in files.dynamic.read_text()


def test_file_is_written_again_only_after_the_certificate_was_renewed(paths, host, certified):
    """Traefik reads a certificate when it reads the file: a newer one touches it, the same one does not."""
    chain, key = (str(path) for path in certified("a"))
    files = IngressFiles(paths.ingress_dir, host("https://a.example.org", certificate=chain, certificate_key=key))
    files.prepare()
    os.utime(files.dynamic, (4_000_000_000, 4_000_000_000))  # younger than any certificate
    files.prepare()
    assert files.dynamic.stat().st_mtime == 4_000_000_000
    os.utime(files.dynamic, (1, 1))
    files.prepare()
    assert files.dynamic.stat().st_mtime > 1


def test_forwarded_headers_are_trusted_behind_an_edge_alone(paths, host, certified):
    """Plain HTTP and own TLS trust nobody's X-Forwarded-*; behind an edge only private networks are trusted."""
    chain, key = (str(path) for path in certified("a"))

    def entry(public_url: str, **more: str) -> dict:
        files = IngressFiles(paths.ingress_dir, host(public_url, **more))
        return json.loads(files.settings(Address("", 8080), files.redirect, "/w"))["entryPoints"]["public"]

    assert "forwardedHeaders" not in entry("http://127.0.0.1:8080")
    assert "forwardedHeaders" not in entry("https://a.example.org", certificate=chain, certificate_key=key)
    trusted = entry("https://a.example.org", listen="127.0.0.1:8080")["forwardedHeaders"]["trustedIPs"]
    assert "127.0.0.0/8" in trusted
    assert "0.0.0.0/0" not in trusted


def test_addresses(host):
    """`listen` goes before the public URL; a URL without a port means its scheme's; IPv6 stands in brackets."""
    assert public_address(host("http://a.example.org")) == Address("a.example.org", 80)
    assert public_address(host("https://a.example.org")) == Address("a.example.org", 443)
    assert public_address(host("https://a.example.org", listen="[::1]:8080")) == Address("::1", 8080)
    assert str(address_of("[::1]:8080")) == "[::1]:8080"
    assert str(Address("", 8080)) == ":8080"


def test_the_way_it_is_already_needs_no_room_on_the_disk(files, monkeypatch):
    """Pointed where it points, nothing is written: a way back on a full disk is still one."""
    files.point(SLOT)

    def full(*_arguments, **_options):
        raise Refused("No space left on device")

    monkeypatch.setattr("sluice.ingress.files.write_file", full)
    files.point(SLOT)
    assert files.read().url == SLOT.target
    with pytest.raises(Refused):
        files.point(None)
