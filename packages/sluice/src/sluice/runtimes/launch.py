"""The last step before a service: read its values, become its user, exec. So no secret is ever in an argument.

    python -m sluice.runtimes.launch [--env-file F] [--sources JSON] [--run-as U] [--dir D] [--go-fd N]
        [--set NAME=VALUE]... -- argv...

The service's environment is a small base, under the env file's values, under those of the other sources, under the
`--set` ones (which are not secret). `--sources` says where the other sources are, and holds none of their values.
With `--go-fd` nothing happens before one byte arrives there: the supervisor first writes down which process this is. If
it dies before that, the pipe ends without a byte and this process ends too, so no service runs that nobody knows of.
"""

from __future__ import annotations

import argparse
import os
import pwd
import sys
from collections.abc import Sequence

from sluice.hosts.sources import ServerValues, sources_from
from sluice.model.errors import Refused

EXIT_CONFIG = 78  # sysexits.h EX_CONFIG: what is written down is wrong, another try will not help
EXIT_ORPHAN = 70  # sysexits.h EX_SOFTWARE: the supervisor died before it knew us
EXIT_NOT_FOUND = 127  # what a shell says of a program that cannot be executed


def launch_argv(
    argv: Sequence[str],
    *,
    env_file: str = "",
    sources: str = "",
    run_as: str = "",
    directory: str = "",
    go_fd: int = -1,
    settings: dict[str, str] | None = None,
) -> list[str]:
    """The command line that runs `argv` through this module. `-I`: no folder or variable reaches it."""
    options = [part for name, value in (settings or {}).items() for part in ("--set", f"{name}={value}")]
    given = {
        "--env-file": env_file,
        "--sources": sources,
        "--run-as": run_as,
        "--dir": directory,
        "--go-fd": str(go_fd) if go_fd >= 0 else "",
    }
    options += [part for name, value in given.items() if value for part in (name, value)]
    return [sys.executable, "-I", "-m", "sluice.runtimes.launch", *options, "--", *argv]


def user(name: str) -> pwd.struct_passwd:
    """The account a `run_as` names. Raises Refused when there is none, or when we may not become it."""
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        raise Refused(f"run_as names the user {name!r}, who does not exist here.", next=f"useradd {name}") from None
    if os.geteuid() not in (0, account.pw_uid):
        raise Refused(
            f"run_as = {name!r} needs root: only root can become another user.",
            next="run Sluice as root, or leave run_as out where the host has one environment",
        )
    return account


def _become(name: str) -> str:
    account = user(name)
    if os.geteuid() == 0:
        # In this order: after setuid the other two are not allowed any more.
        os.initgroups(account.pw_name, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    return account.pw_dir


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="launch", allow_abbrev=False)
    parser.add_argument("--env-file", default="")
    parser.add_argument("--sources", default="")
    parser.add_argument("--run-as", default="")
    parser.add_argument("--dir", default="/")
    parser.add_argument("--go-fd", type=int, default=-1)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("argv", nargs="+")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Does not return when all is well: this process becomes the service. The reason goes to stderr otherwise."""
    given = _arguments(arguments)
    if given.go_fd >= 0:
        released = os.read(given.go_fd, 1)
        os.close(given.go_fd)
        if not released:
            return EXIT_ORPHAN
    try:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": os.environ.get("HOME", "/"),
            "PYTHONDONTWRITEBYTECODE": "1",  # an artifact stays as it was built; what is installed was compiled then
        }
        known = ServerValues(sources_from(given.env_file, given.sources))
        known.check()
        environment |= {name: value.reveal() for name, value in known.values().items()}
        if given.run_as:
            environment["HOME"] = _become(given.run_as)
        environment |= dict(item.split("=", 1) for item in given.set)
        os.umask(0o077)
        os.chdir(given.dir)
        os.execvpe(given.argv[0], given.argv, environment)  # noqa: S606 - the very purpose
    except Refused as error:
        sys.stderr.write(f"launch: {error}\n")
        return EXIT_CONFIG
    except OSError as error:
        sys.stderr.write(f"launch: {given.argv[0]}: {error.strerror}\n")
        return EXIT_NOT_FOUND


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
