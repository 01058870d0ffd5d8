"""Where a browser may be sent after signing in."""

from urllib.parse import unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltorezka.auth.return_url import absolute_return_url, checked_return_url, host_of

HOSTS = frozenset({"rooms.example", "127.0.0.1", "[::1]"})
ORIGIN = "https://rooms.example"


@pytest.mark.parametrize(
    "odd",
    [
        None,
        "",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/%09/evil.example",
        "/%2fevil.example",
        "/%2Fevil.example",
        "%2f%2fevil.example",
        "/%252fevil.example",
        "/%5cevil.example",
        "/.//evil.example",
        "/a\nb",
        "/%0d%0aset-cookie:x=1",
        " /",
        "https://evil.example/",
        "https://rooms.example.evil.example/",
        "https://rooms.example@evil.example/",
        "https://user:pass@rooms.example/",
        "https://rooms.example\\@evil.example/",
        "https:/rooms.example/",
        "https:rooms.example",
        "https:///rooms.example/",
        "HTTPS://rooms.example/",
        "https://ROOMS.example/",
        "https://rooms.example:port/",
        "https://rooms.example/%0d%0ax",
        "javascript:alert(1)",
        "data:text/html,x",
        "ftp://rooms.example/",
        "rooms.example/",
        "https://rooms.example/\u202e",
        "/" + "a" * 3000,
    ],
)
def test_odd_addresses_become_home(odd):
    """Everything that only looks like one of our addresses sends the browser home."""
    assert checked_return_url(odd, HOSTS) == "/"


@pytest.mark.parametrize(
    "plain",
    [
        "/",
        "/room/general?tab=1#top",
        "/%D0%BA",
        "/?next=%2f%2fevil.example",
        "https://rooms.example",
        "https://rooms.example:8443/a//b?c=d#e",
        "http://127.0.0.1:5173/",
        "http://[::1]:5173/",
    ],
)
def test_plain_addresses_stay(plain):
    """Our own paths and the allowed hosts are returned to as they are."""
    assert checked_return_url(plain, HOSTS) == plain


def test_a_path_is_put_behind_our_origin():
    """The SSO needs an absolute address, so a path gets our origin and a refused address becomes our home."""
    assert absolute_return_url("/room", HOSTS, ORIGIN) == f"{ORIGIN}/room"
    assert absolute_return_url("//evil.example", HOSTS, ORIGIN) == f"{ORIGIN}/"
    assert absolute_return_url("http://127.0.0.1:1/x", HOSTS, ORIGIN) == "http://127.0.0.1:1/x"


def test_host_of_an_origin_has_no_port():
    """Hosts are compared without their ports, IPv6 ones in brackets."""
    assert host_of("https://rooms.example:8443") == "rooms.example"
    assert host_of("http://[::1]:80") == "[::1]"


_PIECES = st.sampled_from(
    [
        "http:",
        "https:",
        "HTTP:",
        "rooms.example",
        "evil.example",
        "[::1]",
        "a",
        "\u3002",
        "\u2044",
        " ",
        "/",
        "//",
        "\\",
        "%2f",
        "%5c",
        "%25",
        "%09",
        "\t",
        "\n",
        "@",
        ":",
        "?",
        "#",
        ".",
        "..",
        ";",
    ]
)
_ADDRESSES = st.lists(_PIECES, max_size=10).map("".join) | st.text(max_size=40)


def _as_a_browser(address: str) -> str:
    """The host a browser would go to: WHATWG strips control characters and takes a backslash for a slash."""
    cleaned = "".join(char for char in address.strip("\x00 \t\r\n") if char not in "\t\r\n").replace("\\", "/")
    return urlsplit(urljoin(f"{ORIGIN}/", cleaned)).hostname or ""


@given(_ADDRESSES)
def test_nothing_leads_to_a_foreign_host(address):
    """Whatever is asked for, decoded as often as one likes, the browser stays with the allowed hosts."""
    checked = checked_return_url(address, HOSTS)
    assert checked == checked_return_url(checked, HOSTS)
    path, _, _ = checked.partition("?")
    for form in (path, unquote(path), unquote(unquote(path))):
        assert _as_a_browser(form) in {"rooms.example", "127.0.0.1", "::1"}
