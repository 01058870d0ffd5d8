"""One server process of the two-process tests: `serve_rooms.py LOOP DATABASE INSTANCE NAME...`.

Prints its port and a ticket for each name as one JSON line, then serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from pathlib import Path

import uvloop


async def serve(database: str, instance: str, names: list[str]) -> None:
    """Serve until standard input ends."""
    spec = importlib.util.spec_from_file_location("rooms_conftest", Path(__file__).with_name("conftest.py"))
    assert spec is not None
    assert spec.loader is not None
    rooms_conftest = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = rooms_conftest
    spec.loader.exec_module(rooms_conftest)
    settings = rooms_conftest.RealtimeSettings(
        allowed_origins=(rooms_conftest.ORIGIN,), drain_spread_s=0.05, lease_renew_s=0.1, lease_expires_s=0.6,
        close_grace_s=0.5, unanswered=1000, frames=rooms_conftest.UNLIMITED, rates=rooms_conftest.UNLIMITED_RATES,
    )  # fmt: skip
    async with rooms_conftest.Rooms(Path(database), settings, instance) as rooms:
        tickets = {name: await rooms.ticket(name) for name in names}
        print(json.dumps({"port": rooms.port, "tickets": tickets}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    loop_factory = uvloop.new_event_loop if sys.argv[1] == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(serve(sys.argv[2], sys.argv[3], sys.argv[4:]))
