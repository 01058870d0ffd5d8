"""What is missing in a repository's lock files, and the command that makes them. Pure, but for a look at a folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path, PurePosixPath

from sluice.model.spec import NodeBuild, PythonBuild

NODE_LOCKS = ("package-lock.json", "npm-shrinkwrap.json")  # `npm ci` takes either
THEN = "commit it, push, and roll out again"


def unhashed(lock: bytes) -> str:
    """The first requirement of a requirements file that names no hash; "" where each does."""
    whole = re.sub(r"\\\r?\n", " ", lock.decode(errors="replace"))
    for line in whole.splitlines():
        words = line.partition(" #")[0].split()
        if words and not words[0].startswith(("#", "-")) and "sha256" not in line:
            return words[0]
    return ""


def python_lock(build: PythonBuild) -> str:
    """How a requirements file with hashes is made."""
    source = str(PurePosixPath(build.requirements).with_suffix(".in"))
    made = f"uv pip compile --generate-hashes {shlex.quote(source)} -o {shlex.quote(build.requirements)}"
    return f"{made} (where {source} says what you ask for), {THEN}"


def missing_node_lock(folder: Path, build: NodeBuild) -> str:
    """The lock that is wanted and not there; "" where one is."""
    if any((folder / name).is_file() for name in NODE_LOCKS):
        return ""
    return str(PurePosixPath(build.directory, NODE_LOCKS[0]))


def node_lock(build: NodeBuild) -> str:
    """How it is made."""
    return f"(cd {shlex.quote(build.directory)} && npm install --package-lock-only), {THEN}"
