"""Which gates the policy switches off, and how each stands in a promotion before anything is asked. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

from sluice.gates.run import GATES
from sluice.model.policy import GatesSpec, Proof
from sluice.model.promotion import GateStanding

# A gate that has no line here judges whatever the policy says. Without its rules one of these is `skipped`.
RULES: Mapping[str, Callable[[GatesSpec], bool]] = MappingProxyType(
    {
        "checks-passed": lambda one: bool(one.checks or one.checks_status or one.checks_proof is Proof.STATUS),
        "pr-summary": lambda one: bool(one.summary),
        "docs-changed": lambda one: bool(one.docs),
        "freeze": lambda one: bool(one.freeze),
    }
)
# What is asked of a branch. A promotion takes the policy's own branch, in which these were judged before the merge.
OF_BRANCHES = frozenset({"branch-policy", "pr-summary", "docs-changed"})
# Judged without rules too: what an operator froze is in the ledger, not in the policy.
BESIDE_RULES = frozenset({"freeze"})


def switched_on(gate: str, policy: GatesSpec) -> bool:
    """Whether the policy has what this gate judges by."""
    return gate not in RULES or RULES[gate](policy)


def in_promotion(policy: GatesSpec, waived: Collection[str]) -> dict[str, str]:
    """How each gate stands in a promotion, in the order of GATES."""

    def standing(gate: str) -> GateStanding:
        if gate in waived:
            return GateStanding.WAIVED
        if not switched_on(gate, policy) and gate not in BESIDE_RULES:
            return GateStanding.OFF
        return GateStanding.MERGED if gate in OF_BRANCHES else GateStanding.REQUIRED

    return {gate: standing(gate).value for gate in GATES}
