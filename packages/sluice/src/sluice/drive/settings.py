"""What host.toml says of an environment, as somebody who signs a plan for it reads it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

from sluice.config import Environment

DIGEST_LETTERS = 12  # enough to tell two commands apart; nobody has to be kept from finding one with the same
COMMAND = "secret_command"  # its arguments are no place for a secret, and somebody may have put one there


def settings_of(env: Environment) -> dict[str, str]:
    """Everything of the service's and of the environment's section that is not as it is by default, and the engine.

    Not: the other environments, and what [host] says of whom is told and which key is whose. Files are named by their
    place; the env file's values have a fingerprint of their own.
    """
    found = {**dict(_set(env.host_service)), **dict(_set(env.host))}
    if "runtime" in found:
        found["docker"] = env.settings.docker
    return found


def _set(section: msgspec.Struct) -> Iterator[tuple[str, str]]:
    for one in msgspec.structs.fields(section):
        value = getattr(section, one.name)
        if one.name != "env" and value != one.default:
            yield one.name, _text(one.name, msgspec.to_builtins(value))


def _text(name: str, value: Any) -> str:
    if name == COMMAND:
        return f"sha256 {hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:DIGEST_LETTERS]}"
    if isinstance(value, dict):
        return " ".join(str(each) for each in value.values() if each)
    if isinstance(value, list | tuple):
        return "-".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
