"""What several policies ask for together: of a candidate's own and those before it none is made easier. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from sluice.model.policy import BY_KEY, ChecklistItem, GatesSpec, PromotionSpec, Role, Signer


def strictest(now: PromotionSpec, *before: PromotionSpec) -> PromotionSpec:
    """What all of them ask for: a candidate cannot make its own promotion easier."""
    specs = (now, *before)
    return PromotionSpec(
        approvals=max(one.approvals for one in specs),
        approval_ttl_s=min(one.approval_ttl_s for one in specs),
        approver_not_author=_stricter([one.approver_not_author for one in specs]),
        proof_ttl_s=min(one.proof_ttl_s for one in specs),
        checklist=_checklist(now.checklist, [item for one in before for item in one.checklist]),
    )


def _checklist(now: Iterable[ChecklistItem], before: Iterable[ChecklistItem]) -> tuple[ChecklistItem, ...]:
    """Every item, in the candidate's order; what was asked before is asked as before, and rather of a person."""
    kept: dict[str, ChecklistItem] = {}
    for item in sorted(before, key=lambda one: bool(one.command)):
        kept.setdefault(item.id, item)
    items = {one.id: kept.get(one.id, one) for one in now}
    return tuple((items | kept).values())


def _stricter(rules: Sequence[bool | Literal["by-key"]]) -> bool | Literal["by-key"]:
    return BY_KEY if BY_KEY in rules else any(rules)


def gates_of(now: GatesSpec, *before: GatesSpec) -> GatesSpec:
    """The candidate's gates, of which none may be waived that any of them forbids to waive.

    Windows of a freeze cannot be put together like that: the gate judges by each policy (sluice.gates.freeze).
    """
    names = [name for one in (now, *before) for name in one.never_waive]
    return msgspec.structs.replace(now, never_waive=tuple(dict.fromkeys(names)))


def approvers_of(now: Mapping[str, Signer], *before: Mapping[str, Signer]) -> tuple[str, ...]:
    """Whose signature approves: by a key that the policy, and every one before it, name for that."""
    good = set.intersection(*(_approving(one.values()) for one in (now, *before)))
    return tuple(name for name, one in now.items() if good & _approving([one]))


def _approving(signers: Iterable[Signer]) -> set[str]:
    """The keys that may approve, without their comments."""
    return {" ".join(key.split()[:2]) for one in signers if Role.APPROVE in one.may for key in one.keys}
