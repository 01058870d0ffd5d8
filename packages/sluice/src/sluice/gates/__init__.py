"""Gates: what must hold before a step. Each is a verdict with evidence; none may judge a candidate by its own rules.

The policy comes from `policy_ref`, never from the candidate. Gates run beside each other, each timed.
"""

from __future__ import annotations

from sluice.gates.context import Asked, EnvFileLike, GateContext
from sluice.gates.run import GATES, run_gates

__all__ = ["GATES", "Asked", "EnvFileLike", "GateContext", "run_gates"]
