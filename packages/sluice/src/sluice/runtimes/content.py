"""What a built folder holds, as one digest: paths, modes, links and bytes, read from disk each time it is asked.

    <folder>/.content   one line for each entry: mode, kind, sha256 of its bytes (a link's: of where it points), path

The digest is that of these lines. Whoever can write the folder can write its `.content` too, so what is compared for a
promotion or a rollback is the digest in the release and in the ledger; the lines only tell which file it is.

Bytecode counts: Python runs a `.pyc` without looking at its source. What is installed is compiled when it is built, and
slots, their commands and plug-ins write none (PYTHONDONTWRITEBYTECODE), so nothing of it changes by being used.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from sluice.hosts.state import write_file

COMPLETE = ".complete"
LISTED = ".content"
BUILD_NOTE = "build.json"
# At the top of a folder, and no part of what runs from it: the markers; the notes of where an artifact's bundles lie,
# each of which has its own digest; what Compose is told, which has one for each environment (`compose.ENV`). The last
# two are written to when another environment builds.
OMITTED = frozenset({COMPLETE.encode(), LISTED.encode(), b"node", b"compose"})
CHUNK = 1024 * 1024
LARGE = 256 * 1024  # bytes: from here on a file takes longer to hash than to open


def seal(folder: Path) -> str:
    """Write down what a finished build left, and give its digest. Raises OSError, and Refused on a full disk."""
    lines = _lines(folder)
    write_file(folder / LISTED, lines, mode=0o644)
    return hashlib.sha256(lines).hexdigest()


def measure(folder: Path) -> str:
    """The digest of what is there now. Raises OSError when the folder itself cannot be read."""
    return hashlib.sha256(_lines(folder)).hexdigest()


def sealed(folder: Path) -> str:
    """The digest that was written down when it was built, or "" when that is not there any more."""
    try:
        return hashlib.sha256((folder / LISTED).read_bytes()).hexdigest()
    except OSError:
        return ""


def difference(folder: Path) -> str:
    """Which entry is not as it was written down: the first, and how many more; "" when all are."""
    try:
        then = _parsed((folder / LISTED).read_bytes())
    except OSError:
        return f"{LISTED} is gone"
    now = _parsed(_lines(folder))
    said = [
        f"{path} {'was added' if path not in then else 'is gone' if path not in now else 'is another'}"
        for path in sorted(then.keys() | now.keys())
        if then.get(path) != now.get(path)
    ]
    return f"{said[0]}, and {len(said) - 1} more" if said[1:] else "".join(said)


def _lines(folder: Path) -> bytes:
    root = os.fsencode(folder)
    found = [one for one in _entries(root, b"") if one[0].split(b"/", 1)[0] not in OMITTED]
    large = [one for one in found if one[1].st_size >= LARGE]
    with ThreadPoolExecutor(1) as beside:
        # Hashing lets go of the interpreter: while one thread is at the libraries, this one is at the thousands of
        # small files. More threads only wait for each other.
        slow = beside.map(lambda one: _line(root, *one), large)
        lines = [_line(root, *one) for one in found if one[1].st_size < LARGE]
        lines += slow
    lines.sort(key=lambda line: line.split(b" ", 3)[3])
    return b"".join(lines)


def _entries(folder: bytes, below: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    """Every entry below a folder with its state, links not followed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            path = below + entry.name
            yield path, entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path, path + b"/")


def _line(root: bytes, path: bytes, state: os.stat_result) -> bytes:
    kind, content = _content(root + b"/" + path, path, state)
    # A path may hold any byte but NUL; as it stands here nothing of it ends a line.
    shown = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
    return b"%04o %s %s %s\n" % (stat.S_IMODE(state.st_mode), kind, content, shown)


def _content(full: bytes, path: bytes, state: os.stat_result) -> tuple[bytes, bytes]:
    if stat.S_ISDIR(state.st_mode):
        return b"d", b"-"
    if stat.S_ISLNK(state.st_mode):
        return b"l", hashlib.sha256(os.readlink(full)).hexdigest().encode()  # noqa: PTH115 - bytes: any name
    if not stat.S_ISREG(state.st_mode):
        return b"o", b"-"  # a socket, a pipe: nothing built leaves one, and reading it could wait for ever
    try:
        return b"f", _file(full, state.st_size, note=path == BUILD_NOTE.encode()).encode()
    except OSError as error:
        return b"f", f"unreadable:{error.errno}".encode()  # which it was not when it was built


def _file(full: bytes, size: int, *, note: bool) -> str:
    descriptor = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        wanted = min(size + 1, CHUNK)  # most files are small, and a megabyte of memory for each takes longer than they
        content = os.read(descriptor, wanted)
        digest = hashlib.sha256(_timeless(content) if note else content)
        while content := os.read(descriptor, wanted):
            digest.update(content)
        return digest.hexdigest()
    finally:
        os.close(descriptor)


def _timeless(raw: bytes) -> bytes:
    """The note of a build without its time: built again, the same content has the same digest."""
    with contextlib.suppress(msgspec.DecodeError):
        note = msgspec.json.decode(raw)
        if isinstance(note, dict) and note.pop("builtAt", None) is not None:
            return msgspec.json.encode(note, order="sorted")
    return raw


def _parsed(lines: bytes) -> dict[str, bytes]:
    """Path -> the rest of its line."""
    parts = (line.split(b" ", 3) for line in lines.split(b"\n"))
    return {os.fsdecode(part[3]): b" ".join(part[:3]) for part in parts if len(part) == 4}
