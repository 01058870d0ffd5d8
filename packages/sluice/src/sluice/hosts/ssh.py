"""A server reached through the user's own OpenSSH: its address, and the command line that runs Sluice there.

Keys, agent, jump hosts and known hosts are the user's configuration; nothing of it is overruled, least of all the check
of the host key.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from sluice.model.errors import UsageError

ADDRESS = re.compile(
    r"ssh://(?:(?P<user>[^@/:\s]+)@)?(?P<host>\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[^@/:\s\[\]]+)(?::(?P<port>[0-9]{1,5}))?/?"
)
DEFAULT_PROGRAM = "sluice"
# A line that died without a word is noticed within 20 s: one question every 5 s, three without an answer.
# -T: a terminal in between would rewrite the JSON lines, should the user's configuration ask for one.
OPTIONS = ("-T", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3")

# sh sets Ctrl-C aside and becomes ssh, which keeps a signal ignored that it found ignored: Ctrl-C is for us to answer,
# and the connection is still needed then. The terminal stays ssh's own, to ask for a passphrase.
UNINTERRUPTED = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")

CONNECTION_FAILED = 255  # ssh's own exit code for anything that is not the remote command's
NOT_FOUND = frozenset({126, 127})  # the remote shell's: the program is not there, or cannot be run


@dataclass(frozen=True)
class Server:
    """Where Sluice runs."""

    host: str
    user: str = ""
    port: str = ""
    program: str = DEFAULT_PROGRAM  # read by the remote shell as it stands: it may hold arguments

    def argv(self, words: Sequence[str], *, interruptible: bool = True) -> list[str]:
        """The ssh command that runs `sluice WORDS…` there. Words are in process lists: never a secret."""
        login = ("-l", self.user) if self.user else ()
        port = ("-p", self.port) if self.port else ()
        before = () if interruptible else UNINTERRUPTED
        command = f"{self.program} {shlex.join(words)}"
        return [*before, "ssh", *OPTIONS, *login, *port, "--", self.host.strip("[]"), command]

    def __str__(self) -> str:
        user, port = f"{self.user}@" if self.user else "", f":{self.port}" if self.port else ""
        return f"ssh://{user}{self.host}{port}"


def parse_server(address: str, program: str = "") -> Server:
    """`ssh://[user@]host[:port]`; the host may be a name of the user's ssh configuration. Raises UsageError."""
    found = ADDRESS.fullmatch(address)
    user, host, port = found.group("user", "host", "port") if found else ("", "", "")
    # A leading dash would be an option of ssh.
    if found is None or host.startswith("-") or (user or "").startswith("-") or int(port or 1) not in range(1, 65536):
        raise UsageError(f"{address!r} is not an address of a server.", next="write it as ssh://[user@]host[:port]")
    return Server(host, user or "", port or "", program or DEFAULT_PROGRAM)
