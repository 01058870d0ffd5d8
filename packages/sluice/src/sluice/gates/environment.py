"""The server's variables are prepared before the rollout, outside git, readable by the operator alone."""

from __future__ import annotations

import re

from sluice.gates.context import GateContext
from sluice.gates.placeholder import is_placeholder, says_so
from sluice.model.errors import Refused
from sluice.model.verdict import Finding, Verdict, coded

# A name whose value is a secret; one that says where something lies, who or how (`SMTP_AUTH`), holds none.
_SECRET = re.compile(
    r"(?:secret|token|pass(?:word|wd|phrase)?|pw|pwd|key|credentials?|salt|pepper)s?(?:_?\d+)?$", re.IGNORECASE
)
_ADDRESS = r"(?:^|[/@.])example\.(?:com|org|net)(?![\w.-])"
# Of a secret: who wrote this meant it to be replaced.
_MARKER = re.compile(
    r"change[-_ ]?(?:me|it|this)(?![a-z])|replace[-_ ]?(?:me|with|this|it)(?![a-z])|(?<![a-z])placeholder(?![a-z])"
    r"|(?<![a-z])(?:insert|enter|put|fill|set)[-_ ](?:[a-z0-9]+[-_ ])*(?:here|in|me)(?![a-z])"
    rf"|^(?:insert|enter|put)[-_ ]|^(?:todo|tbd|fixme)(?![a-z])|^dummy(?![a-z])|{_ADDRESS}",
    re.IGNORECASE,
)
# Of anything else: as no title, file or host is called. `todo-app`, `put-object` and `Change it now` are values.
_PLAIN_MARKER = re.compile(
    r"(?<![a-z])(?:change|replace)[-_]?me(?![a-z])|(?<![a-z])replace[-_]with[-_]"
    r"|(?<![a-z])(?:insert|enter|put|fill|set)[-_](?:(?:[a-z0-9]+[-_])*here(?![a-z])|your[-_])"
    rf"|^(?:placeholder|dummy)(?:[-_ ]value)?$|^(?:todo|tbd|fixme)(?::.*)?$|{_ADDRESS}",
    re.IGNORECASE,
)
_SPOKEN = re.compile(r"(?:your|(?:change|replace|fill|set) (?:it|this)) .*", re.IGNORECASE)
_SHELL = re.compile(r"\$[A-Z_][A-Z0-9_]*|\$\{.*\}")  # a reference that nobody resolves in an env file
# What another program was to fill in or decrypt, as a whole: a password may have such signs inside.
_TEMPLATE = re.compile(
    r"\$\(.*\)|\{\{.*\}\}|<%.*%>|\{%.*%\}|#\{.*\}|@@\w+@@|%\(\w+\)s|%\w+%|__\w+__|\{[A-Za-z_][\w.:]*\}|<[^<>]*>|\{\}"
    r"|ENC\[.*|!vault.*|\$ANSIBLE_VAULT.*|(?:vault|env|secret|ssm|awskms|keyring):.*|«[^»]*»"
    r"|(?:[a-z]+[-_])*[a-z]{0,4}(?:\*{3,}|x{6,}|•{3,}|\.{3,}|…)",
    re.IGNORECASE,
)
# Where the secret lies, which the service itself looks up.
_FILLED = re.compile(r"(?:/|\.{1,2}/|~/).+|[a-z][a-z0-9+.-]*://.+|(?:arn|file):.+", re.IGNORECASE)
# A setting whose name only ends like a secret's: `USE_TOKEN=1`, `SORT_KEY=id`. Nobody means that by `JWT_SECRET=1`.
_FLAG = re.compile(r"\d|id|on|off|yes|no|true|false|(?:en|dis)abled", re.IGNORECASE)
_OF_A_FLAG = re.compile(r"(?:key|token|credential)s?(?:_?\d+)?$", re.IGNORECASE)
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
    if not value or _SHELL.fullmatch(value):
        return True
    if not _SECRET.search(name):
        setting = value.lower() in _WORDS or _SPOKEN.fullmatch(value) or re.fullmatch(r"\$\w+", value)
        return bool(_PLAIN_MARKER.search(value)) or (is_placeholder(value) and not setting)
    if _MARKER.search(value):
        return True
    if re.fullmatch(r"\$\w+", value) or _FILLED.fullmatch(value):  # a password may begin with a dollar sign
        return False
    if _OF_A_FLAG.search(name) and _FLAG.fullmatch(value):
        return False
    return says_so(value) or bool(_TEMPLATE.fullmatch(value))
