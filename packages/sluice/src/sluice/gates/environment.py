"""The server's variables are prepared before the rollout, outside git, readable by the operator alone."""

from __future__ import annotations

from sluice.gates.context import GateContext
from sluice.gates.placeholder import is_placeholder
from sluice.model.errors import Refused
from sluice.model.verdict import Finding, Verdict


async def server_env(context: GateContext) -> Finding:
    """Every required name has a real value in the env file or another source. Values are looked at, never shown.

    The sources themselves must be ours: outside git, and neither readable nor exchangeable by anybody else.
    """
    gate = "server-env"
    try:
        context.env_file.check()
        values = context.env_file.values()
    except Refused as error:
        return Finding(gate, Verdict.FAIL, detail=error.what, fix=error.next)
    required = {*context.candidate.run.required_env, *context.policy.required_env}
    lacking = sorted(required - values.keys())
    unfilled = sorted(name for name in required & values.keys() if is_placeholder(values[name].reveal()))
    if not lacking and not unfilled:
        return Finding(
            gate, Verdict.PASS, detail=f"{_all(len(required))}, outside git, where nobody else can read or change it."
        )
    parts = []
    if lacking:
        parts.append(f"missing: {', '.join(lacking)}")
    if unfilled:
        parts.append(f"empty or a placeholder: {', '.join(unfilled)}")
    return Finding(
        gate,
        Verdict.FAIL,
        detail=f"The server's variables are not ready; {'; '.join(parts)}.",
        fix=f"set {', '.join(sorted({*lacking, *unfilled}))} in the env file or another source named in host.toml",
    )


def _all(count: int) -> str:
    return f"All {count} required names are set" if count != 1 else "The one required name is set"
