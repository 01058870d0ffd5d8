"""Where a secret may lie: where nobody but us and root can put another file in its place, and git does not see it."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from pathlib import Path

LINKS = 40  # as the kernel follows; more is a circle
ELSEWHERE = "keep it below a folder of yours, e.g. /etc/sluice/"
GIT_S = 10  # a question to an index on a disk that is in trouble


def exchangeable(path: Path) -> tuple[str, str]:
    """How somebody but us and root could put something else at this path, and what to type; ("", "") when nobody can.

    Every folder and link on the way counts, as given and where links lead; of a folder itself too. In a sticky one
    (/tmp) nobody moves what is another's. A group that is our own counts as us. Raises OSError where no way leads.
    """
    todo, here, links = list(path.absolute().parts[1:]), Path("/"), 0
    while True:
        status = here.stat()
        if not _ours(status.st_uid):
            mend = f"chown {os.geteuid()} {here}"
            return f"the folder {here} belongs to user {status.st_uid}", _for_own(mend, here, todo, status)
        if _open(status):
            return f"they may write in the folder {here}", _for_own(f"chmod go-w {here}", here, todo, status)
        if not todo:
            return "", ""
        name, *todo = todo
        if name == "..":
            here = here.parent
            continue
        step = here / name
        found = step.lstat()
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if links > LINKS or not _ours(found.st_uid):
                return f"the link {step} belongs to user {found.st_uid}, or leads in a circle", f"remove {step}"
            target = step.readlink()
            todo = [*(target.parts[1:] if target.is_absolute() else target.parts), *todo]
            here = Path("/") if target.is_absolute() else here
        elif todo or stat.S_ISDIR(found.st_mode):
            here = step
        else:
            return "", ""


def _for_own(mend: str, here: Path, todo: list[str], status: os.stat_result) -> str:
    """The advice, where it is about the file's own folder: one above it, or a person's home, is others' too."""
    own = not todo or (len(todo) == 1 and not (here / todo[0]).is_dir())
    try:
        home = Path(pwd.getpwuid(status.st_uid).pw_dir) == here
    except KeyError:
        home = False
    return mend if own and not home else ELSEWHERE


def _ours(uid: int) -> bool:
    return uid in {0, os.geteuid()}


def _open(status: os.stat_result) -> bool:
    others = status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and status.st_gid != os.getegid())
    return bool(others) and not status.st_mode & stat.S_ISVTX


def seen_by_git(path: Path) -> Path | None:
    """The repository this file or folder lies in, unless it ignores it and tracks nothing of it; else None.

    Git itself is asked, also in the repository of another user; what it cannot say counts as seen.
    """
    real = path.resolve()
    for folder in real.parents:
        if (folder / ".git").exists():
            if not _ignored(folder, real):
                return folder
        elif (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir():
            return folder  # a bare one, or the inside of any: nothing there is ignored
    return None


def _ignored(tree: Path, path: Path) -> bool:
    # The demo keeps all it makes in one ignored folder of the checkout.
    inside = f"./{path.relative_to(tree)}"  # no name has a meaning of its own then
    tracked = _git(tree, "--literal-pathspecs", "ls-files", "--cached", "-z", "--", inside)
    ignored = _git(tree, "check-ignore", "--quiet", "--", inside)
    return tracked == (0, b"") and ignored == (0, b"")


def _git(tree: Path, *words: str) -> tuple[int, bytes]:
    # Here: a launcher that starts a service again has no use for it.
    from sluice.hosts.git import SAFE, local_environment

    # Git may read what another user's repository says, since nothing of it is run or written.
    argv = ["git", *SAFE, "-c", "safe.directory=*", "-C", str(tree), *words]
    environment = local_environment() | {"GIT_NO_LAZY_FETCH": "1"}
    try:
        done = subprocess.run(
            argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=GIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return -1, b""
    return done.returncode, done.stdout
