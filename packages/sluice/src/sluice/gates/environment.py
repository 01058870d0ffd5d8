"""The server's variables are prepared before the rollout, outside git, readable by the operator alone."""

from __future__ import annotations

import re

from sluice.gates.context import GateContext
from sluice.gates.placeholder import is_placeholder, is_stand_in
from sluice.model.errors import Refused
from sluice.model.verdict import Finding, Verdict, coded

# A name whose value is a secret; one that says where something lies, or who, holds none.
_SECRET = re.compile(
    r"(?:secret|token|pass(?:word|wd|phrase)?|pw|pwd|key|credentials?|auth|salt|pepper)s?(?:_?\d+)?$", re.IGNORECASE
)
# Whatever the name: who wrote this meant it to be replaced.
_MARKER = re.compile(
    r"change[-_ ]?(?:me|it|this)(?![a-z])|replace[-_ ]?(?:me|with|this|it)(?![a-z])|(?<![a-z])placeholder(?![a-z])"
    r"|(?<![a-z])(?:insert|enter|put|fill|set)[-_ ](?:\w+[-_ ])*(?:here|in|me)(?![a-z])"
    r"|^(?:insert|enter|put)[-_ ]|^(?:todo|tbd|fixme)(?![a-z])|^dummy(?![a-z])"
    r"|(?:^|[/@.])example\.(?:com|org|net)(?![\w.-])",
    re.IGNORECASE,
)
_SHELL = re.compile(r"\$[A-Z_][A-Z0-9_]*|\$\{.*\}")  # a reference that nobody resolves in an env file
_WORDS = frozenset(
    {"none", "null", "nil", "secret", "password", "passwd", "example", "fill", "set", "change", "replace"}
)


async def server_env(context: GateContext) -> Finding:
    """Every required name has a real value in the env file or another source. Values are looked at, never shown.

    The sources themselves must be ours: outside git, and neither readable nor exchangeable by anybody else.
    """
    gate = "server-env"
    try:
        context.env_file.check()
        values = context.env_file.values()
    except Refused as error:
        return Finding(gate, Verdict.FAIL, detail=error.what, fix=error.next, metrics=coded("EnvSource"))
    required = {*context.candidate.run.required_env, *context.policy.required_env}
    lacking = sorted(required - values.keys())
    unfilled = sorted(name for name in required & values.keys() if is_unfilled(name, values[name].reveal()))
    if not lacking and not unfilled:
        return Finding(
            gate, Verdict.PASS, detail=f"{_all(len(required))}, outside git, where nobody else can read or change it."
        )
    parts = {}
    if lacking:
        parts["EnvMissing"] = f"missing: {', '.join(lacking)}"
    if unfilled:
        parts["EnvPlaceholder"] = f"empty or a placeholder: {', '.join(unfilled)}"
    return Finding(
        gate,
        Verdict.FAIL,
        detail=f"The server's variables are not ready; {'; '.join(parts.values())}.",
        fix=f"set {', '.join(sorted({*lacking, *unfilled}))} in the env file or another source named in host.toml",
        metrics=coded(*parts),
    )


def _all(count: int) -> str:
    return f"All {count} required names are set" if count != 1 else "The one required name is set"


def is_unfilled(name: str, value: str) -> bool:
    """Whether a value holds the place of one. Pure. `none` may be a setting's value, and never a secret's."""
    value = value.strip()
    if not value or _MARKER.search(value) or _SHELL.fullmatch(value):
        return True
    if re.fullmatch(r"\$\w+", value):  # a password may begin with a dollar sign
        return False
    if _SECRET.search(name):
        return is_stand_in(value)
    return is_placeholder(value) and value.lower() not in _WORDS
