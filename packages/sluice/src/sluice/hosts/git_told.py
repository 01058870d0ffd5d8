"""What git says of a commit's files and messages, taken apart. Pure."""

from __future__ import annotations

# Each commit's name, a line end, its message, a NUL.
MESSAGES = ("log", "--no-walk=unsorted", "--no-show-signature", "--encoding=UTF-8", "--format=%H%n%B%x00")


def messages_of(raw: bytes) -> list[tuple[str, str]]:
    """Each commit and its message."""
    told = [one.lstrip("\n").partition("\n") for one in raw.decode(errors="replace").split("\0")]
    return [(sha, message) for sha, _, message in told if sha]


def content_of(told: str, path: str) -> tuple[str, tuple[str, ...], str] | None:
    """One line of `git diff-tree --raw`: a colon and a mode for each parent, modes and hashes of old and new."""
    words = told.split(" ")
    parents = len(words[0]) - len(words[0].lstrip(":"))
    modes, names = words[: parents + 1], words[parents + 1 : 2 * parents + 2]
    if not names[-1].strip("0") or modes[-1] == "160000":  # removed, or a submodule: no content of ours
        return None
    return path, tuple(name for name in names[:-1] if name.strip("0")), names[-1]
