"""DNS, TLS and the redirect of the public URL, against real servers with certificates made on the spot."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest

from sluice.checks import domain as module
from sluice.checks.domain import domain_dns, domain_of, domain_redirect, domain_tls, wrong_target
from sluice.model.verdict import Verdict


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads until the client goes."""
    await reader.read()


# ---------------------------------------------------------------- DNS


@pytest.mark.parametrize(
    ("failure", "verdict"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), Verdict.FAIL),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), Verdict.ERROR),
        (UnicodeError("label too long"), Verdict.FAIL),
    ],
)
async def test_a_name_that_does_not_resolve_fails_and_a_broken_resolver_is_an_error(monkeypatch, failure, verdict):
    """The resolver's own trouble is no answer about the name."""

    def broken(*_arguments, **_options):
        raise failure

    monkeypatch.setattr(socket, "getaddrinfo", broken)
    finding = await domain_dns("https://test.example.org")
    assert finding.verdict is verdict
    assert "test.example.org" in finding.detail


async def test_a_resolver_that_hangs_is_an_error_at_the_deadline(monkeypatch):
    """Nobody waits for a name server that does not answer."""
    free = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: free.wait())
    monkeypatch.setattr(module, "DNS_S", 0.05)
    finding = await domain_dns("https://test.example.org")
    free.set()
    assert finding.verdict is Verdict.ERROR
    assert "did not answer within 0.05 s" in finding.detail


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "https://[::1]"])
async def test_an_address_needs_no_name_server(url):
    """Skipped, with the reason."""
    assert (await domain_dns(url)).verdict is Verdict.SKIPPED


async def test_a_name_that_resolves_passes_with_its_addresses():
    """`localhost` is known everywhere."""
    finding = await domain_dns("http://localhost:1")
    assert finding.verdict is Verdict.PASS
    assert "127.0.0.1" in finding.detail or "::1" in finding.detail


# ---------------------------------------------------------------- TLS


@pytest.mark.parametrize(
    ("days", "names", "trusted", "says"),
    [
        (90, ("localhost", "127.0.0.1"), False, "is not accepted: "),
        (90, ("other.example.org",), True, "is not accepted: IP address mismatch"),
        (-1, ("127.0.0.1",), True, "is not accepted: certificate has expired"),
        (13.5, ("127.0.0.1",), True, "ends in 13 days, fewer than the 14 demanded"),
        (0.5, ("127.0.0.1",), True, "ends in 0 days"),
    ],
)
async def test_a_certificate_that_is_wrong_fails(authority, listen, days, names, trusted, says):
    """An unknown authority, another name, expired, ending soon: each with its own sentence."""
    async with listen(silent, authority.server(days, names)) as port:
        ca_file = str(authority.file) if trusted else ""
        finding = await domain_tls(f"https://127.0.0.1:{port}", ca_file, 14, time.time())
    assert finding.verdict is Verdict.FAIL
    assert says in finding.detail


async def test_a_good_certificate_passes_by_name_and_by_address(authority, listen):
    """The chain verifies against ca_file, and the days left are in the evidence."""
    async with listen(silent, authority.server(60.5)) as port:
        for host in ("127.0.0.1", "localhost"):
            finding = await domain_tls(f"https://{host}:{port}", str(authority.file), 14, time.time())
            assert finding.verdict is Verdict.PASS, finding.detail
            assert "ends in 60 days" in finding.detail


async def test_a_server_that_does_not_speak_tls_fails(listen):
    """Plain HTTP on the port of https, and nobody at all."""

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    async with listen(plain) as port:
        finding = await domain_tls(f"https://127.0.0.1:{port}", "", 14, time.time())
    assert finding.verdict is Verdict.FAIL
    assert "does not speak TLS" in finding.detail
    gone = await domain_tls("https://127.0.0.1:1", "", 14, time.time())
    assert (gone.verdict, "cannot be reached" in gone.detail) == (Verdict.FAIL, True)


async def test_a_handshake_that_hangs_fails_at_the_deadline(listen, monkeypatch):
    """A server that accepts and says nothing."""
    monkeypatch.setattr(module, "TLS_S", 0.05)
    async with listen(silent) as port:
        finding = await domain_tls(f"https://127.0.0.1:{port}", "", 14, time.time())
    assert finding.verdict is Verdict.FAIL
    assert "within 0.05 s" in finding.detail


async def test_a_ca_file_that_cannot_be_read_is_an_error(tmp_path):
    """The operator's mistake is not the certificate's."""
    (tmp_path / "nonsense.pem").write_text("not a certificate")
    for file in ("missing.pem", "nonsense.pem"):
        finding = await domain_tls("https://127.0.0.1:1", str(tmp_path / file), 14, time.time())
        assert finding.verdict is Verdict.ERROR
        assert "ca_file" in finding.detail


@pytest.mark.parametrize("ask", [lambda u: domain_tls(u, "", 14, 0), lambda u: domain_redirect(u, "", "/")])
async def test_plain_http_has_no_certificate_and_nothing_to_redirect(ask):
    """Skipped, with the reason."""
    finding = await ask("http://127.0.0.1:8080")
    assert (finding.verdict, "plain HTTP" in finding.detail) == (Verdict.SKIPPED, True)


# ---------------------------------------------------------------- redirect


def redirecting(status: int, location: str):
    """A plain server that answers every request so; what it was asked for is in `heads`."""
    heads: list[str] = []

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(f"HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()

    return one, heads


@pytest.mark.parametrize(
    ("status", "location", "says"),
    [
        (200, "", "answered 200 instead of a redirect"),
        (404, "", "answered 404"),
        (303, "https://test.example.org/", "answered 303"),
        (301, "/health", "which is not https"),
        (301, "http://test.example.org/", "which is not https"),
        (301, "https://evil.example.org/", "to evil.example.org:443 instead of test.example.org:443"),
        (301, "https://test.example.org:8443/", "to test.example.org:8443 instead"),
        (301, "https://[nonsense/", "to nonsense"),
    ],
)
async def test_anything_but_a_redirect_to_the_same_host_by_https_fails(listen, status, location, says):
    """Served in the clear, sent elsewhere, or sent nowhere."""
    serve, _ = redirecting(status, location)
    async with listen(serve) as port:
        finding = await domain_redirect("https://test.example.org", f"127.0.0.1:{port}", "/health")
    assert finding.verdict is Verdict.FAIL
    assert says in finding.detail


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_to_https_passes(listen, status):
    """It is asked under the public name, at the address where plain HTTP is answered."""
    serve, heads = redirecting(status, "https://TEST.example.org/health")
    async with listen(serve) as port:
        finding = await domain_redirect("https://test.example.org", f"127.0.0.1:{port}", "/health")
        assert finding.verdict is Verdict.PASS, finding.detail
        assert f"host: test.example.org:{port}\r\n" in heads[0].lower()
        everywhere = await domain_redirect(f"https://localhost:{port}", f"0.0.0.0:{port}", "/health")
    assert "test.example.org" in everywhere.detail


async def test_nobody_on_the_plain_port_fails_and_an_unknown_port_is_skipped():
    """Without redirect_http only the usual port is known."""
    finding = await domain_redirect("https://test.example.org", "127.0.0.1:1", "/health")
    assert (finding.verdict, "answered by nobody" in finding.detail) == (Verdict.FAIL, True)
    assert (await domain_redirect("https://127.0.0.1:8443", "", "/health")).verdict is Verdict.SKIPPED


def test_the_default_port_may_be_written_out():
    """`:443` is the same place."""
    assert wrong_target(domain_of("https://a.example"), "https://a.example:443/x") == ""
