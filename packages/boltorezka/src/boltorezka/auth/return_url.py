r"""Where a browser may be sent after signing in: our own hosts or our own paths, and nothing that only looks like them.

Browsers and URL parsers disagree about the odd forms (`/\host`, tabs inside a scheme, userinfo), so the rule accepts a
small plain language instead of trying to understand every form: whatever is not plainly inside it becomes `/`.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Collection

HOME = "/"

# Longer addresses are cut by proxies and are not typed by people.
MAX_LENGTH = 2048

# How often an address may be percent-encoded on top of itself before it stops being plain.
MAX_ENCODINGS = 3

_PLAIN = re.compile(r"[!-~]+")
_ABSOLUTE = re.compile(r"https?://(?P<host>[a-z0-9.-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?(?P<rest>[/?#].*)?")


def checked_return_url(return_url: str | None, allowed_hosts: Collection[str]) -> str:
    """The address itself when it is allowed, else `/`.

    Allowed: an absolute http(s) URL whose host (without the port) is in `allowed_hosts`, or a path that begins with
    exactly one `/`. Never raises. Checking an answer again gives the same answer.
    """
    if not return_url or len(return_url) > MAX_LENGTH or not _PLAIN.fullmatch(return_url):
        return HOME
    if return_url.startswith("/"):
        return return_url if _is_plain_path(return_url, own=True) else HOME
    match = _ABSOLUTE.fullmatch(return_url)
    if match is None or match["host"] not in allowed_hosts or not _is_plain_path(match["rest"] or "/", own=False):
        return HOME
    return return_url


def absolute_return_url(return_url: str | None, allowed_hosts: Collection[str], public_origin: str) -> str:
    """The checked address as an absolute one: a path is put behind our own origin."""
    checked = checked_return_url(return_url, allowed_hosts)
    return public_origin + checked if checked.startswith("/") else checked


def host_of(origin: str) -> str:
    """The host of an origin, without its port, as `allowed_hosts` names it."""
    host = urllib.parse.urlsplit(origin).hostname or ""
    return f"[{host}]" if ":" in host else host


def _is_plain_path(rest: str, *, own: bool) -> bool:
    if "\\" in rest:
        return False
    path = re.split(r"[?#]", rest, maxsplit=1)[0]
    for _ in range(MAX_ENCODINGS):
        if not all(char.isprintable() for char in path) or "\\" in path or (own and "//" in path):
            return False
        decoded = urllib.parse.unquote(path)
        if decoded == path:
            return True
        path = decoded
    return False
