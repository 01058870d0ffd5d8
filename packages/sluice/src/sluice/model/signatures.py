"""What the records of a ledger say of signatures: which were taken in, and which are used up. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def recorded_in(records: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The signatures that were taken in, by their digests."""
    taken = (one for one in records if one["type"] in ("approval", "sign-off") and one.get("outcome") == "signed")
    return frozenset(str(one["digest"]) for one in taken)


def used_in(records: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The signatures that promotions acted upon, and all others that were handed in for the same plan before.

    A promotion that was refused before it announced its first change has done nothing, and its signatures still hold.
    After that they are used up, though no user saw anything: a database may have been migrated. Nor does somebody's
    second signature, which was not needed, carry another run.
    """
    used, of_plan = set[str](), dict[str, set[str]]()
    for record in records:
        if record["type"] in ("approval", "sign-off") and record.get("outcome") == "signed":
            of_plan.setdefault(str(record["plan"]), set()).add(str(record["digest"]))
        if record["type"] == "promotion" and (record.get("touched") or record.get("decision") != "refused"):
            used |= {str(one["digest"]) for one in record.get("approvals", ())}
            used |= of_plan.get(str(record["plan"]), set())
    return frozenset(used)
