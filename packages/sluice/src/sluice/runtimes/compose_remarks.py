"""What a person should know of a Compose file that is run as it is: it works, and yet not as they may think. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from sluice.runtimes.compose_values import Document, Origin, Plans, ServicePlan, as_mapping

# Names whose values are secret by custom. The words stand alone between underscores, or at an end: TOKENIZER is none.
SECRET_NAME = re.compile(
    r"(?:^|_)(?:PASS|PASSWD|PASSWORD|PASSPHRASE|PW|PWD|SECRETS?|TOKENS?|CREDENTIALS?|DSN|NPMRC|NETRC"
    r"|AUTH|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|SSH_?KEY|DEPLOY_?KEY|SIGNING_?KEY|KEY|PAT)(?:_|$)"
    r"|(?:DATABASE|DB|POSTGRES|MYSQL|REDIS|MONGO|AMQP)_UR[IL]$|(?:PASSWORD|SECRET|TOKEN|APIKEY)$",
    re.IGNORECASE,
)
PUBLIC_NAME = re.compile(r"PUBLIC|(?:^|_)(?:VITE|NEXT_PUBLIC|REACT_APP)_", re.IGNORECASE)  # they enter a bundle anyway
VARIABLE = re.compile(r"\$(?:\{)?([A-Za-z_]\w*)")
STAYS_DOWN = {"no": "no", "none": "no", "on-failure": "on-failure"}  # as `restart` or as deploy's condition says it


def looks_secret(name: str) -> bool:
    """Whether a variable of this name holds a secret, by custom."""
    return bool(SECRET_NAME.search(name)) and not PUBLIC_NAME.search(name)


def remarks(base: Document, decided: Document, plans: Plans, unset: Sequence[str]) -> Iterator[str]:
    """One sentence each, with names and never a value. `base` is as written, `decided` interpolated."""
    if unset:
        yield f"not set in the env file, and so empty in the Compose files: {', '.join(unset)}"
    readable = [
        f"{argument} of {name}" for name, plan in plans.items() for argument in _readable(base["services"][name], plan)
    ]
    if readable:
        yield (
            f"build arguments stay readable in the image (docker history): {', '.join(readable)}; "
            "if that is a secret, give it as a build secret (docs/explanation/compose.md), or at run time"
        )
    for name, plan in plans.items():
        policy = _restart(decided["services"][name])
        if policy in STAYS_DOWN and not plan.one_shot:
            yield f"{name} has restart {STAYS_DOWN[policy]}, which is kept: it stays down after the machine restarts"
    if writable := [f"{path} of {name}" for name, plan in plans.items() for path in _writable(plan)]:
        yield (
            f"mounted from the repository so that a container may write there: {', '.join(writable)}; written to, the "
            "artifact is another one, and is not promoted: mount it read-only, or let it write to a volume"
        )


def _readable(definition: dict[str, Any], plan: ServicePlan) -> Iterator[str]:
    """Arguments that look secret by their own name or by the variable they are filled from."""
    build = definition.get("build")
    if not plan.build or not isinstance(build, dict):
        return
    for argument, written in as_mapping(build.get("args")).items():
        names = {argument, *VARIABLE.findall(str(written or ""))}
        if any(map(looks_secret, names)):
            yield argument


def _writable(plan: ServicePlan) -> Iterator[str]:
    for mount in plan.mounts:
        if mount.source is not None and mount.source.origin is Origin.TREE and not mount.read_only:
            yield mount.source.relative


def _restart(definition: dict[str, Any]) -> str:
    own = str(definition.get("restart") or "").partition(":")[0]
    policy = (definition.get("deploy") or {}).get("restart_policy") or {}
    return own or str(policy.get("condition") or "")
