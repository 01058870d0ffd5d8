"""The audit trail of an environment: hash-chained, signed JSON lines, anchored on the origin, nobody can quietly edit.

Each record holds the hash of the one before and its own, over canonical JSON, and a signature of that hash by the
environment's ledger key. `verify` names the first record that was removed, changed, inserted, reordered or cut; what
was rewritten as a whole and signed anew shows against the anchor. Explained in docs/explanation/ledger.md.
"""

from sluice.ledger.anchor import Anchoring, Copy
from sluice.ledger.chain import GENESIS, Problem, Tampering, Verification, record_hash, verify_records
from sluice.ledger.file import Closed, Frozen, Ledger, blamed_by, closed_by, frozen_by
from sluice.ledger.signing import PublicKey

__all__ = [
    "GENESIS",
    "Anchoring",
    "Closed",
    "Copy",
    "Frozen",
    "Ledger",
    "Problem",
    "PublicKey",
    "Tampering",
    "Verification",
    "blamed_by",
    "closed_by",
    "frozen_by",
    "record_hash",
    "verify_records",
]
