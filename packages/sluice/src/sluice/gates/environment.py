"""The server's variables are prepared before the rollout, outside git, readable by the operator alone."""

from __future__ import annotations

from sluice.gates.context import GateContext
from sluice.gates.placeholder import is_placeholder
from sluice.model.errors import Refused
from sluice.model.verdict import Finding, Verdict


async def server_env(context: GateContext) -> Finding:
    """Every required name has a real value in the env file. Values are looked at, never shown."""
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
        return Finding(gate, Verdict.PASS, detail=f"All {len(required)} required names are set.")
    parts = []
    if lacking:
        parts.append(f"missing: {', '.join(lacking)}")
    if unfilled:
        parts.append(f"empty or a placeholder: {', '.join(unfilled)}")
    return Finding(
        gate,
        Verdict.FAIL,
        detail=f"The env file is not ready; {'; '.join(parts)}.",
        fix=f"set {', '.join(sorted({*lacking, *unfilled}))} in the env file named in host.toml",
    )
