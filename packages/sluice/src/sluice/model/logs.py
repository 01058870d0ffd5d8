"""What was read of the services' logs, and what of it may not be quoted."""

from __future__ import annotations

import msgspec

from sluice.model.verdict import counted


class Logs(msgspec.Struct, frozen=True):
    """The newest lines by service, redacted with everything that is known to be secret."""

    lines: dict[str, list[str]]
    # By service: why its lines may hold a secret that nobody knows any more, and where they are. They are judged and
    # counted, and no line of them is shown or kept.
    withheld: dict[str, str] = {}


def quotable(logs: Logs, lines: int) -> list[str]:
    """The newest lines, each with its service; of a log that is withheld, how many there are and why. Pure."""
    shown = {service: said for service, said in logs.lines.items() if service not in logs.withheld}
    shown = {service: said for service, said in logs.lines.items() if service not in logs.withheld}
    told = [f"{service}: {line}" for service, said in shown.items() for line in said]
    kept = [
        f"{service}: {counted(len(logs.lines[service]), 'line')} not shown: {why}"
        for service, why in logs.withheld.items()
        if logs.lines.get(service)
    ]
    return [*(told[-lines:] if lines > 0 else []), *kept]
