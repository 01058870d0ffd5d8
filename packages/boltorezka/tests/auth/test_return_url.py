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

# What leads to a foreign host in some browser or parser. Each is put in the forms below, and none may be returned to.
_ATTACKS = st.sampled_from(
    [
        "//evil.example",
        "///evil.example/x",
        "/\\evil.example",
        "\\/evil.example",
        "/\t/evil.example",
        "/\r\n/evil.example",
        "/.//evil.example",
        "/a/..//evil.example",
        "https://evil.example",
        "https:evil.example",
        "https:/evil.example",
        "https:///evil.example",
        "https://rooms.example@evil.example/",
        "https://rooms.example:x@evil.example/",
        "https://evil.example\\@rooms.example/",
        "https://evil.example#@rooms.example/",
        "https://evil.example?@rooms.example/",
        "https://rooms.example.evil.example/",
        "https://evil.example:443/",
        "https://[::ffff:203.0.113.1]/",
        "ftp://rooms.example/",
        "javascript:alert(1)//rooms.example",
        "data:text/html,rooms.example",
        "\x00//evil.example",
        "\u2028//evil.example",
    ]
)


def _encoded(text: str, times: int) -> str:
    for _ in range(times):
        text = "".join(f"%{byte:02x}" if not chr(byte).isalnum() else chr(byte) for byte in text.encode())
    return text


def _mixed_case(text: str, choices: int) -> str:
    return "".join(char.upper() if choices >> place & 1 else char for place, char in enumerate(text))


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


@given(
    attack=_ATTACKS, times=st.integers(0, 4), case=st.integers(0, 2**40), before=st.sampled_from(["", " ", "\t", "/"])
)
def test_no_form_of_an_attack_is_returned_to(attack, times, case, before):
    """Encoded on top of itself, in mixed case, behind blanks or a slash: it becomes home, or a path of our own."""
    asked = before + _mixed_case(_encoded(attack, times), case)
    checked = checked_return_url(asked, HOSTS)
    assert checked == "/" or (checked == asked and checked.startswith("/"))
    form = checked.partition("?")[0]
    for _ in range(times + 2):
        assert _as_a_browser(form) == "rooms.example"
        form = unquote(form)


@given(st.text(max_size=30))
def test_what_is_returned_to_fits_in_a_header(text):
    """No control character, blank or letter beyond ASCII can reach the Location, whatever was asked for."""
    for asked in (text, f"/{text}", f"{ORIGIN}/{text}"):
        checked = checked_return_url(asked, HOSTS)
        assert all("!" <= char <= "~" for char in checked)
        assert absolute_return_url(asked, HOSTS, ORIGIN).startswith("https://rooms.example/")


@given(st.from_regex(r"/[a-z0-9-]{0,8}(/[a-z0-9-]{1,8}){0,3}(\?[a-z]=[0-9]{1,3})?(#[a-z]{1,5})?", fullmatch=True))
def test_every_plain_path_of_ours_stays(path):
    """The rule is not so strict that people lose their place."""
    assert checked_return_url(path, HOSTS) == (path if not path.startswith("//") else "/")
    assert checked_return_url(ORIGIN + path, HOSTS) == ORIGIN + path
