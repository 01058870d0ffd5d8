"""`python -m boltorezka.smoke all | sso | voice | call | refusals | canary`.

Exit code 0 when everything passed, 1 when not, 2 when it was asked wrongly.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from boltorezka.smoke import canary, refusals, sso, voice, whole
from boltorezka.smoke.report import Report
from boltorezka.smoke.target import Target, UsageError, from_environment


async def smoke_sso(target: Target, report: Report) -> None:
    """The SSO part alone."""
    async with sso.client(target) as http:
        await whole.check_health(http, target, report)
        await sso.check_mode(http, target, report)
        await sso.check_only(http, target, report)
        await sso.check_redirect(http, target, report)
        await sso.check_nobody(http, target, report)


PARTS = {
    "all": whole.run,
    "sso": smoke_sso,
    "voice": voice.check_voice,
    "call": voice.check_call,
    "refusals": refusals.run,
    "canary": canary.run,
}


def main() -> int:
    """Run one part against the target of the environment."""
    parser = argparse.ArgumentParser(prog="boltorezka.smoke", description=__doc__)
    parser.add_argument("part", choices=sorted(PARTS))
    part = parser.parse_args().part
    report = Report(for_people="SLUICE_URL" not in os.environ)
    try:
        asyncio.run(PARTS[part](from_environment(), report))
    except UsageError as wrong:
        print(f"smoke: {wrong}", file=sys.stderr)
        return 2
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
