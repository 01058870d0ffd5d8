"""How two policies differ, in words for the line of a text that people sign. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from sluice.model.spec import ServiceSpec
from sluice.model.text import told_apart

# The policy: these take effect from policy_ref only.
POLICY_PARTS = ("gates", "checks", "watch", "promotion", "signers")
VALUE = 200  # letters of one value: a freeze window, or a key, whole
LINE = 2000  # of all that one key's change says: ten such values


def policy_changes(candidate: ServiceSpec, policy: ServiceSpec) -> dict[str, str]:
    """What the candidate would like otherwise: dotted path -> what it was, and what it would be."""
    theirs, ours = msgspec.to_builtins(candidate), msgspec.to_builtins(policy)
    return {
        f"{part}.{key}": told_apart(_change(ours[part].get(key), theirs[part].get(key)), LINE)
        for part in POLICY_PARTS
        for key in dict.fromkeys([*ours[part], *theirs[part]])
        if theirs[part].get(key) != ours[part].get(key)
    }


def _change(was: Any, now: Any) -> str:
    """Of tables by key, of lists by what was taken out and put in: the rest is as it was."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        other = [key for key in dict.fromkeys([*was, *now]) if was.get(key) != now.get(key)]
        return "; ".join(f"{key}: {_change(was.get(key), now.get(key))}" for key in other)
    if isinstance(was, list | tuple) and isinstance(now, list | tuple):
        out, into = ([one for one in these if one not in those] for these, those in ((was, now), (now, was)))
        if out or into:
            return ", ".join([*(f"without {_value(one)}" for one in out), *(f"with {_value(one)}" for one in into)])
    return f"{_value(was)} -> {_value(now)}"


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        value = {key: one for key, one in value.items() if one not in ("", (), [], None)}
    return told_apart(msgspec.json.encode(value).decode(), VALUE)
