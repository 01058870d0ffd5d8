"""host.toml and sluice.toml as values: TOML, shape and types, with the file and the key's path in every error."""

from __future__ import annotations

import difflib
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


def load_host(path: Path | None) -> HostConfig:
    """Read and judge host.toml; None: /etc/sluice/host.toml. Raises ConfigError."""
    file = path or DEFAULT_HOST_CONFIG
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the host configuration {file} cannot be read: {error.strerror}.",
            next="write one (`sluice config example` prints it) and name it with --host-config",
            file=str(file),
            path="$",
        ) from error
    host = _decode(raw, str(file), HostConfig)
    HostRules(str(file)).judge(host)
    return host


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
        raise wrong(where, "$", f"is not valid TOML: {error}") from error
    return typing.cast("S", _convert(tree, kind, "$", where))


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
    if isinstance(kind, EnumType) and isinstance(value, str):
        return _member(value, kind, path, where, f"{value!r} ")
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        message, _, at = str(error).partition(" - at `$")
        raise wrong(where, path + at.rstrip("`"), f"is wrong: {message}") from error


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
