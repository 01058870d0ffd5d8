"""`domain-dns`, `domain-tls`, `domain-redirect`: whether people who type the public URL arrive where they should."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import urllib.parse
from dataclasses import dataclass

from sluice.checks.http import PROBE_TIMEOUT_S, client
from sluice.checks.together import aside
from sluice.checks.trust import trust
from sluice.model.verdict import Finding, Verdict, counted

DNS, TLS, REDIRECT = "domain-dns", "domain-tls", "domain-redirect"
# Two tries of a resolver at two name servers take longer, but then people do not get there either.
DNS_S = 3.0
TLS_S = 3.0
DAY_S = 86400
HTTP_PORT = 80
REDIRECTS = {301, 302, 307, 308}
EVERYWHERE = {"", "0.0.0.0", "::", "*"}  # noqa: S104 - what a listener may be called; nothing is bound here
# "Try again later" and "the system failed" are the resolver's trouble, not an answer about the name.
RESOLVER_BROKE = {socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_SYSTEM, socket.EAI_MEMORY}


@dataclass(frozen=True)
class Domain:
    """The public URL in its parts."""

    scheme: str
    host: str
    port: int
    standard: bool  # the port is the scheme's own

    @property
    def literal(self) -> bool:
        """Whether the host is an address and not a name."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True


def domain_of(public_url: str) -> Domain:
    """Raises ValueError for what is no URL."""
    parts = urllib.parse.urlsplit(public_url)
    usual = 443 if parts.scheme == "https" else HTTP_PORT
    port = parts.port or usual
    return Domain(parts.scheme, (parts.hostname or "").lower(), port, port == usual)


async def domain_dns(public_url: str) -> Finding:
    """The name resolves. A resolver that is itself broken is `error`."""
    domain = domain_of(public_url)
    if domain.literal:
        return Finding(DNS, Verdict.SKIPPED, detail=f"Not judged: {domain.host} is an address, not a name.")
    fix = f"`getent ahosts {domain.host}` shows what this server's resolver says"
    try:
        async with asyncio.timeout(DNS_S):
            found = await aside(lambda: socket.getaddrinfo(domain.host, domain.port, type=socket.SOCK_STREAM))
    except TimeoutError:
        return Finding(DNS, Verdict.ERROR, detail=f"The resolver did not answer within {DNS_S:g} s.", fix=fix)
    except UnicodeError:
        return Finding(DNS, Verdict.FAIL, detail=f"{domain.host} is no name that can be resolved.", fix=fix)
    except socket.gaierror as error:
        verdict = Verdict.ERROR if error.errno in RESOLVER_BROKE else Verdict.FAIL
        return Finding(DNS, verdict, detail=f"{domain.host} does not resolve: {error.strerror}.", fix=fix)
    addresses = sorted({str(address[4][0]) for address in found})
    return Finding(DNS, Verdict.PASS, detail=f"{domain.host} is {', '.join(addresses[:4])}.")


async def domain_tls(public_url: str, ca_file: str, min_days: int, now: float) -> Finding:
    """The chain verifies, the certificate is for this host, and it is good for `min_days` more days.

    `now` is Unix seconds. Trusted are the system's authorities, or those of `ca_file` alone where it is set.
    """
    domain = domain_of(public_url)
    if domain.scheme != "https":
        return Finding(TLS, Verdict.SKIPPED, detail="Not judged: the public URL is plain HTTP.")
    try:
        context = trust(ca_file)
    except OSError as error:
        fix = "correct ca_file in host.toml"
        return Finding(TLS, Verdict.ERROR, detail=f"ca_file cannot be used: {error}.", fix=fix)
    try:
        async with asyncio.timeout(TLS_S):
            ends = await _not_after(domain, context)
    except OSError as error:
        return _tls(_refused(domain, error))
    days = int((ends - now) // DAY_S)
    if days < min_days:
        return _tls(
            f"the certificate of {domain.host} ends in {counted(days, 'day')}, fewer than the {min_days} demanded"
        )
    return Finding(
        TLS, Verdict.PASS, detail=f"The chain verifies, for {domain.host}, and ends in {counted(days, 'day')}."
    )


def _refused(domain: Domain, error: OSError) -> str:
    where = f"{domain.host}:{domain.port}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {domain.host} is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"{where} does not speak TLS as it should: {error.reason or error}"
    if isinstance(error, TimeoutError):
        return f"{where} did not finish a TLS handshake within {TLS_S:g} s"
    return f"{where} cannot be reached: {error.strerror or error}"


def _tls(detail: str) -> Finding:
    fix = "renew or correct the certificate where TLS ends: at the edge, or `certificate` in host.toml"
    return Finding(TLS, Verdict.FAIL, detail=f"{detail[0].upper()}{detail[1:]}.", fix=fix)


async def _not_after(domain: Domain, context: ssl.SSLContext) -> float:
    _, writer = await asyncio.open_connection(domain.host, domain.port, ssl=context, server_hostname=domain.host)
    try:
        certificate = writer.get_extra_info("peercert")
        return float(ssl.cert_time_to_seconds(certificate["notAfter"]))
    finally:
        writer.transport.abort()  # nothing was asked, so nothing is lost; a graceful end would wait for the peer
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def domain_redirect(public_url: str, redirect_http: str, path: str) -> Finding:
    """Plain HTTP answers with a redirect to the same host by HTTPS; nothing is served in the clear."""
    import httpx

    domain = domain_of(public_url)
    if domain.scheme != "https":
        return Finding(REDIRECT, Verdict.SKIPPED, detail="Not judged: the public URL is plain HTTP.")
    if not redirect_http and not domain.standard:
        detail = f"Not judged: the public URL names port {domain.port}, so no port is known for plain HTTP."
        return Finding(REDIRECT, Verdict.SKIPPED, detail=detail, fix="redirect_http in host.toml names one")
    host, port = _plain_address(domain, redirect_http)
    name = f"[{domain.host}]" if ":" in domain.host else domain.host
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}{path}"
    try:
        async with client() as http, http.stream("GET", url, headers={"Host": _host(name, port)}) as answer:
            problem = _not_redirected(domain, answer.status_code, answer.headers.get("location", ""))
    except httpx.TimeoutException:
        problem = f"did not answer within {PROBE_TIMEOUT_S:g} s"
    except httpx.HTTPError as error:
        problem = f"is answered by nobody ({type(error).__name__})"
    if problem:
        fix = "let the edge, or redirect_http in host.toml, answer plain HTTP with a redirect to https"
        return Finding(REDIRECT, Verdict.FAIL, detail=f"Plain HTTP on port {port} {problem}.", fix=fix)
    return Finding(REDIRECT, Verdict.PASS, detail=f"Plain HTTP on port {port} is sent to https.")


def _host(name: str, port: int) -> str:
    return name if port == HTTP_PORT else f"{name}:{port}"


def _not_redirected(domain: Domain, status: int, location: str) -> str:
    if status not in REDIRECTS:
        return f"answered {status} instead of a redirect"
    problem = wrong_target(domain, location)
    return f"redirects {problem}" if problem else ""


def wrong_target(domain: Domain, location: str) -> str:
    """Why this Location is not the public URL's own site; "" when it is. Pure."""
    try:
        target = domain_of(location)
    except ValueError:
        return "to nonsense"
    if target.scheme != "https":
        return f"to {location[:120]!r}, which is not https"
    if (target.host, target.port) != (domain.host, domain.port):
        return f"to {target.host}:{target.port} instead of {domain.host}:{domain.port}"
    return ""


def _plain_address(domain: Domain, redirect_http: str) -> tuple[str, int]:
    if not redirect_http:
        return domain.host, HTTP_PORT
    host, _, port = redirect_http.rpartition(":")
    bare = host.strip("[]")
    return (domain.host if bare in EVERYWHERE else bare), int(port)
