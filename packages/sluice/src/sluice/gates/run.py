"""The gates beside each other: one that breaks says so itself and hides none of the others."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

import msgspec

from sluice.gates.branch import branch_policy, contains_main
from sluice.gates.context import GateContext, Names, OnFinding
from sluice.gates.disk import disk_space
from sluice.gates.docs import docs_changed
from sluice.gates.environment import server_env
from sluice.gates.freeze import freeze
from sluice.gates.history import bad_release
from sluice.gates.isolation import host_isolation
from sluice.gates.proof import checks_passed
from sluice.gates.secrets import HISTORY_S, no_secrets
from sluice.gates.summary import pr_summary
from sluice.gates.waivers import waived
from sluice.gates.way_back import way_back
from sluice.model.errors import SluiceError
from sluice.model.text import one_line
from sluice.model.verdict import Finding, Verdict, coded

Gate = Callable[[GateContext], Awaitable[Finding]]

GATES: Mapping[str, Gate] = MappingProxyType(
    {
        "branch-policy": branch_policy,
        "contains-main": contains_main,
        "checks-passed": checks_passed,
        "no-secrets": no_secrets,
        "server-env": server_env,
        "pr-summary": pr_summary,
        "docs-changed": docs_changed,
        "freeze": freeze,
        "bad-release": bad_release,
        "host-isolation": host_isolation,
        "disk-space": disk_space,
        "way-back": way_back,
    }
)

# The slowest gate reads every commit of the branch (bar: 5 s for 1,000 files); past this something hangs.
GATE_DEADLINE_S = 120.0
# Of the policy's own branch a whole history may have to be read: that gate ends by itself before this.
DEADLINES: Mapping[str, float] = MappingProxyType({"no-secrets": HISTORY_S + 30})


async def run_gates(context: GateContext, on_finding: OnFinding) -> list[Finding]:
    """Run every gate at the same time; findings come to `on_finding` as they end and back in the order of GATES.

    A gate that is waived runs all the same. Never raises for a gate's own fault: that is the verdict `error`.
    Cancellation ends what the gates started.
    """
    read = asyncio.Event()
    context = dataclasses.replace(context, names=Names(read=read))

    async def one(name: str, gate: Gate) -> Finding:
        started = context.clock.monotonic()
        deadline = DEADLINES.get(name, GATE_DEADLINE_S)
        try:
            async with asyncio.timeout(deadline):
                finding = await gate(context)
        except TimeoutError:
            fix = "ask again; where it hangs again, look at this host's load, its disk and its line to the forge"
            finding = _broken(name, f"it did not end within {deadline:g} s", fix, "GateTimeout")
        except SluiceError as error:
            finding = _broken(name, error.what, error.next)
        except Exception as error:  # noqa: BLE001 - whatever broke the gate must not read as a bad release
            # Only the kind of error: the text of an unforeseen one may quote what the gate was reading.
            fix = "ask again; where it breaks again, it is a fault of Sluice: report this kind of error and the command"
            finding = _broken(name, f"unexpected {type(error).__name__}", fix)
        finally:
            if name == "no-secrets":
                read.set()
        # A millisecond that began counts: 0 would read as not measured.
        ms = math.ceil((context.clock.monotonic() - started) * 1000)
        finding = waived(finding, context.asked)
        # Whoever names a branch or a file writes into these sentences, and they go to terminals.
        finding = msgspec.structs.replace(finding, ms=ms, detail=one_line(finding.detail), fix=one_line(finding.fix))
        on_finding(finding)
        return finding

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(name, gate), name=f"gate {name}") for name, gate in GATES.items()]
    return [task.result() for task in tasks]


def _broken(name: str, why: str, fix: str, code: str = "GateBroken") -> Finding:
    detail = f"The gate broke: {why}.".replace("..", ".")
    return Finding(name, Verdict.ERROR, detail=detail, fix=fix or "mend that, and ask again", metrics=coded(code))
