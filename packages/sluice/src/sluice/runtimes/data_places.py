"""Where the variables of an environment say that its data lies: databases by URL or by parts, files and folders."""

from __future__ import annotations

import os
import pwd
import re
import socket
import stat
import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path

# A shared SSO, mail server or message bus may be meant; a shared database never is.
DATABASES = ("sqlite", "postgres", "mysql", "mongodb", "redis", "mssql", "oracle", "cockroachdb")
OTHER_WORDS = {
    "postgresql": "postgres",
    "rediss": "redis",
    "valkey": "redis",
    "valkeys": "redis",
    "mariadb": "mysql",
    "sqlserver": "mssql",
    "file": "sqlite",
    "pg": "postgres",
    "mongo": "mongodb",
}
PORTS = {"postgres": 5432, "mysql": 3306, "mongodb": 27017, "redis": 6379, "mssql": 1433, "cockroachdb": 26257}
_HOST = re.compile(r"(?P<of>(?:.*_)?(?P<kind>PG|POSTGRES(?:QL)?|MYSQL|MARIADB|MONGO(?:DB)?|REDIS|DB|DATABASE))_?HOST")
_NAMES = ("DATABASE", "_DATABASE", "_NAME", "_DBNAME", "_DB", "_INDEX")
_FILES = re.compile(r"(?:^|_)(?:DB|DATABASE|SQLITE|DATA|STORAGE|STORE|UPLOADS?|MEDIA|STATE|SPOOL|QUEUE|VOLUME)(?:_|$)")
_FILE_ENDS = {".db", ".sqlite", ".sqlite3"}
# What such a name ends with when it names no data: what is read, a way to a server, a part of an address.
_NO_DATA = re.compile(r"_(?:(?:CA|CERTS?)(?:_FILE|_BUNDLE)?|SOCK|SOCKET|PREFIX|ROUTE|URL|URI|SCHEMA)$")
_NO_DATA_ENDS = {".pem", ".crt", ".cer", ".key", ".sock", ".mmdb", ".sql"}
_ADDRESS = re.compile(r"_PATH$")  # as often a part of a URL: a folder of data where there is one
# Of the system: read, or sockets and what is gone after a start, and never a service's data.
_NOBODYS = ("/usr", "/etc", "/proc", "/sys", "/dev", "/run", "/var/run")
_COMMON = {Path("/"), Path("/tmp"), Path("/var/tmp")}  # noqa: S108 - what lies in them is somebody's, they are nobody's


ACCESS_LIST = "system.posix_acl_access"


def databases_of(values: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Variable -> the database it names, by a URL, or by a host beside a name (`PGHOST`, `DB_HOST` and their kin)."""
    found = {name: place for name, value in values.items() if (place := database_of(value)) is not None}
    for variable, host in values.items():
        parts = _HOST.fullmatch(variable)
        if parts is None or not host or "://" in host:
            continue
        kind = OTHER_WORDS.get(parts["kind"].lower(), parts["kind"].lower())
        name = next((values[parts["of"] + end] for end in _NAMES if values.get(parts["of"] + end)), "")
        port = values.get(f"{parts['of']}PORT") or values.get(f"{parts['of']}_PORT") or str(PORTS.get(kind, 0))
        if name or kind == "redis":
            found[variable] = (kind, _host(host), port, name or "0")
    return found


def database_of(value: str) -> tuple[str, ...] | None:
    """Which database a URL names, whoever signs in there and by whichever driver; None when it names none for sure.

    Kind, host, port and name; of a file its path alone. A socket's folder is a host, as the drivers write it.
    """
    value = value.removeprefix("jdbc:")
    try:
        parts = urllib.parse.urlsplit(value)
        scheme = parts.scheme.partition("+")[0].lower()
        scheme = OTHER_WORDS.get(scheme, scheme)
        if scheme not in DATABASES:
            return None
        if scheme == "sqlite":
            return _file_of(value, parts)
        asked = dict(urllib.parse.parse_qsl(parts.query))
        where = parts.netloc.rpartition("@")[2] or asked.get("host") or asked.get("unix_socket") or ""
        hosts = sorted(_host_and_port(one, asked.get("port") or str(PORTS.get(scheme, 0))) for one in where.split(","))
    except ValueError:
        return None
    name = urllib.parse.unquote(parts.path).strip("/") or asked.get("dbname") or asked.get("db") or ""
    if not name and scheme == "postgres":
        name = parts.username or ""  # as libpq has it
    if len(hosts) > 1:
        return scheme, ",".join(f"{host}:{port}" for host, port in hosts), "", name
    return scheme, *hosts[0], name or ("0" if scheme == "redis" else "")


def _file_of(value: str, parts: urllib.parse.SplitResult) -> tuple[str, ...] | None:
    path = urllib.parse.unquote(parts.path)
    if "://" in value and parts.scheme != "file":
        path = path[1:]  # the fourth slash of an absolute one
    # A relative one lies in the environment's own folder.
    return ("sqlite", str(Path(path).resolve())) if path.startswith("/") else None


def _host_and_port(where: str, port: str) -> tuple[str, str]:
    if where.startswith(("/", "%2F", "%2f")):
        return urllib.parse.unquote(where).rstrip("/"), port
    one = urllib.parse.urlsplit(f"//{where}")
    return _host(one.hostname or ""), str(one.port or port)


def _host(host: str) -> str:
    """One name for this machine, and one way to write any other."""
    host = host.lower().strip("[]").removesuffix(".")
    here = {"", "localhost", "::1", "0.0.0.0", socket.gethostname().lower()}  # noqa: S104 - a word to compare
    return "localhost" if host in here or host.startswith("127.") else host


def files_of(values: Mapping[str, str]) -> dict[str, Path]:
    """Variable -> the file or folder of data it names by its absolute path; one that is not there yet is one too."""
    found = {}
    for variable, value in values.items():
        place = database_of(value)
        file = place[1] if place and place[0] == "sqlite" else ""
        path = Path(file or value)
        if "\0" in value or not path.is_absolute():
            continue
        path = path.resolve()
        if file or (_says_data(variable.upper(), path) and not any(map(path.is_relative_to, _NOBODYS))):
            found[variable] = path
    return {variable: path for variable, path in found.items() if path not in _COMMON and not _is_way(path)}


def _says_data(variable: str, path: Path) -> bool:
    if path.suffix in _FILE_ENDS:
        return True  # also of DATABASE_URL and DB_PATH: no address ends so
    if _NO_DATA.search(variable) or path.suffix in _NO_DATA_ENDS or (_ADDRESS.search(variable) and not is_there(path)):
        return False
    return bool(_FILES.search(variable))


def is_there(path: Path) -> bool:
    """Whether something lies there; also when it is another user's, and not ours to look at."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


def _is_way(path: Path) -> bool:
    """Whether it is a socket, or a folder of nothing else: the way to a server, whose databases are told apart."""
    try:
        if not path.is_dir():
            return path.is_socket()
        with os.scandir(path) as inside:
            sockets = {stat.S_ISSOCK(entry.stat().st_mode) for entry in inside if not entry.name.endswith(".lock")}
    except OSError:
        return False
    return sockets == {True}


def is_written(path: Path, users: Iterable[str]) -> bool:
    """Whether one of these accounts ("": our own) may write what lies there. A file none may write is nobody's data.

    Nor may they put another in its place. A folder may hold what is written though itself is not, and what is not there
    yet will be.
    """
    try:
        return not path.is_file() or any(_may_write(one, user) for user in users for one in (path, path.parent))
    except OSError:
        return True


def _may_write(file: Path, user: str) -> bool:
    if not user:
        return os.access(file, os.W_OK)
    if _has_access_list(file):
        return True  # the mode does not say who
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return True  # nobody can tell
    status = file.stat()
    if status.st_uid == account.pw_uid:
        return bool(status.st_mode & stat.S_IWUSR)
    if status.st_gid in os.getgrouplist(user, account.pw_gid):
        return bool(status.st_mode & stat.S_IWGRP)
    return bool(status.st_mode & stat.S_IWOTH) or account.pw_uid == 0


def _has_access_list(file: Path) -> bool:
    try:
        return ACCESS_LIST in os.listxattr(file)
    except OSError:
        return False  # a file system without such lists
