"""host.toml and sluice.toml as values: TOML, shape and types, with the file and the key's path in every error."""

from __future__ import annotations

import difflib
import re
import tomllib
import types
import typing
from enum import EnumType
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sluice.config.host_rules import HostRules
from sluice.config.rules import wrong
from sluice.config.service_rules import ServiceRules
from sluice.model.errors import ConfigError
from sluice.model.spec import HostConfig, ServiceSpec

DEFAULT_HOST_CONFIG = Path("/etc/sluice/host.toml")
S = TypeVar("S", bound=msgspec.Struct)
KINDS: dict[str, type[msgspec.Struct]] = {"host": HostConfig, "service": ServiceSpec}
FILES = {"host": "host.toml", "service": "sluice.toml"}
HOST_PATHS = (
    *("env_file", "sops_file", "age_file", "age_identity", "secret_command", "secret_files"),
    *("certificate", "certificate_key", "ca_file"),
)
FEW = 4  # keys that show which file it is
# What msgspec expects -> what is to be written.
WANTED = {
    "float": "a number, e.g. 10",
    "int": "a whole number, e.g. 10",
    "str": 'text in quotes, e.g. "text"',
    "bool": "true or false",
    "array": 'a list, e.g. ["a", "b"]',
    "object": "a table",
}
GOT = {"str": "text", "int": "a number", "float": "a number", "bool": "true or false", "array": "a list"}
TYPES = re.compile(r"Expected `(\w+)`, got `(\w+)`")


def load_host(path: Path | None) -> HostConfig:
    """Read and judge host.toml; None: /etc/sluice/host.toml. Raises ConfigError."""
    file = path or DEFAULT_HOST_CONFIG
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the host configuration {file} cannot be read: {error.strerror}.",
            next="write one (`sluice config example host` prints it) and name it with --host-config",
            file=str(file),
            path="$",
        ) from error
    host = _at_home(_decode(raw, str(file), HostConfig))
    HostRules(str(file)).judge(host)
    return host


def _at_home(host: HostConfig) -> HostConfig:
    """`~/…` in every path of host.toml is below the home of whoever runs Sluice, as a shell has it."""

    def expanded(struct: S, *names: str) -> S:
        changed: dict[str, Any] = {}
        for name in names:
            value = getattr(struct, name)
            first, *rest = (value,) if isinstance(value, str) else value or ("",)
            if first.startswith("~/"):
                path = str(Path(first).expanduser())
                changed[name] = path if isinstance(value, str) else (path, *rest)
        return msgspec.structs.replace(struct, **changed)

    services = {}
    for name, service in host.service.items():
        env = {key: expanded(one, *HOST_PATHS) for key, one in service.env.items()}
        forge = expanded(service.forge, "token_file") if service.forge else None
        services[name] = msgspec.structs.replace(expanded(service, "repo"), env=env, forge=forge)
    settings = expanded(host.host, "docker", "owners", "notify_file")
    return msgspec.structs.replace(host, host=settings, service=services)


def load_service(raw: bytes, where: str) -> ServiceSpec:
    """Read and judge sluice.toml. `where` names it in errors, e.g. `sluice.toml at 1a2b3c4`. Raises ConfigError."""
    spec = _decode(raw, where, ServiceSpec)
    ServiceRules(where).judge(spec)
    return spec


def _decode(raw: bytes, where: str, kind: type[S]) -> S:
    try:
        tree = tomllib.loads(raw.decode())
    except UnicodeDecodeError as error:
        raise wrong(where, "$", f"is not UTF-8 text (byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise _no_toml(where, str(error)) from error
    _must_be_this_file(tree, where, kind)
    return typing.cast("S", _convert(tree, kind, "$", where))


def _no_toml(where: str, found: str) -> ConfigError:
    """The parser's sentence, with the place in front, where editors and people look for it."""
    why, _, place = found.removesuffix(")").partition(" (at ")
    line = place.partition(",")[0] if place.startswith("line") else "the end of the file"
    return ConfigError(
        f"{where}, {place or line}: not valid TOML: {why}.",
        next=f"correct {line} of {where}, then `sluice config check`",
        file=where,
        path="$",
    )


def _must_be_this_file(tree: dict[str, Any], where: str, kind: type[msgspec.Struct]) -> None:
    """The one file given for the other, or both in one, is said as such and not as an unknown key."""
    own = {field.encode_name for field in msgspec.structs.fields(kind)}
    wanted, other = ("host", "service") if kind is HostConfig else ("service", "host")
    of_other = {field.encode_name for field in msgspec.structs.fields(KINDS[other])}
    foreign = [key for key in tree if key not in own]
    if foreign and set(foreign) <= of_other:
        shown = ", ".join(foreign[:FEW]) + (", …" if len(foreign) > FEW else "")
        raise ConfigError(
            f"{where}: this looks like {FILES[other]} ({shown}), and {FILES[wanted]} is read here.",
            next=f"`sluice config example {wanted}` prints a {FILES[wanted]}; each of the two is a file of its own",
            file=where,
            path="$",
        )


def _convert(value: Any, kind: Any, path: str, where: str) -> Any:
    # Structs and tables are walked here, because msgspec names neither the key of a table nor the nearest known key.
    if isinstance(kind, types.UnionType):  # `X | None`: TOML has no null, so what is there is an X
        kind = next(one for one in typing.get_args(kind) if one is not type(None))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _convert_struct(value, kind, path, where)
    if typing.get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise wrong(where, path, "must be a table")
        key_kind, value_kind = typing.get_args(kind)
        return {
            _convert_key(k, key_kind, path, where): _convert(v, value_kind, f"{path}.{k}", where)
            for k, v in value.items()
        }
    if typing.get_origin(kind) is tuple and typing.get_args(kind)[1:] == (...,) and isinstance(value, list):
        of = typing.get_args(kind)[0]
        return tuple(_convert(one, of, f"{path}[{number}]", where) for number, one in enumerate(value))
    if isinstance(kind, EnumType) and isinstance(value, str):
        return _member(value, kind, path, where, f"{value!r} ")
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        message, _, at = str(error).partition(" - at `$")
        path += at.rstrip("`")
        raise wrong(where, path, _mistaken(message, path)) from error


def _mistaken(message: str, path: str) -> str:
    """What msgspec says of types, in the words of whoever writes TOML."""
    found = TYPES.fullmatch(message)
    if found is None or found[1] not in WANTED:
        return f"is wrong: {message}"
    wanted = WANTED[found[1]]
    if path.endswith("_s"):
        wanted = "a number of seconds, e.g. 10"
    return f"must be {wanted}, not {GOT.get(found[2], found[2])}"


def _convert_key(key: str, kind: Any, path: str, where: str) -> Any:
    return _member(key, kind, f"{path}.{key}", where) if isinstance(kind, EnumType) else key


def _member(value: str, kind: Any, path: str, where: str, shown: str = "") -> Any:
    known = [str(member.value) for member in kind]
    if value not in known:
        raise wrong(where, path, f"{shown}is not known here; use one of: {', '.join(known)}")
    return kind(value)


def _convert_struct(value: Any, kind: type[S], path: str, where: str) -> S:
    if not isinstance(value, dict):
        raise wrong(where, path, "must be a table")
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for key in value:
        if key not in fields:
            near = difflib.get_close_matches(key, list(fields), n=1)
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(fields)}"
            raise wrong(where, f"{path}.{key}", f"is an unknown key; {hint}")
    for name, field in fields.items():
        if field.required and name not in value:
            raise wrong(where, f"{path}.{name}", "is missing")
    return kind(**{fields[k].name: _convert(v, fields[k].type, f"{path}.{k}", where) for k, v in value.items()})
