"""PostgreSQL and NATS go away and come back under a running fleet."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from .follower import Follower, check_log


async def health(fleet) -> list[tuple[int, str, dict]]:
    """Status code, status and checks of every server."""
    async with httpx.AsyncClient(timeout=20) as http:
        answers = [await http.get(f"http://127.0.0.1:{slot.port}/health") for slot in fleet.slots]
    return [(answer.status_code, answer.json()["status"], answer.json()["checks"]) for answer in answers]


async def until_health(fleet, failing: str | None) -> None:
    """Wait until every server says that exactly this check fails (None: that it is well)."""
    asked = asyncio.Condition()
    async with asyncio.timeout(60):
        while True:
            found = await health(fleet)
            bad = {name for _, _, checks in found for name, state in checks.items() if state != "ok"}
            codes = {code for code, _, _ in found}
            if (bad, codes) == (({failing}, {503}) if failing else (set(), {200})):
                return
            try:
                async with asyncio.timeout(0.1), asked:
                    await asked.wait_for(lambda: False)
            except TimeoutError:
                continue


@pytest.mark.e2e
@pytest.mark.parametrize("fleet", ["postgres"], indirect=True)
async def test_restarts_of_the_bus_and_the_database_lose_nothing_acked(fleet, postgres_server, nats_server):
    """Without NATS messages are acked and cross a little later; without PostgreSQL nothing is acked; then all is well.

    /health answers 503 with the name of the check while each is away, and 200 by itself when it is back.
    """
    for wire in fleet.wires:
        wire.cutting = False
    people = []
    for number in range(6):
        token = await fleet.person(f"p{number}", "general")
        wires = [fleet.wires[number % len(fleet.wires)]]
        people.append(Follower(f"p{number}", token, "general", wires, fleet.dice))
    tasks = [asyncio.create_task(slot.live()) for slot in fleet.slots]
    tasks += [asyncio.create_task(person.run()) for person in people]

    def acked_more(floor: int) -> bool:
        for task in tasks:
            if task.done():
                task.result()
        return all(len(person.acked) > floor for person in people)

    async def talk_on() -> None:
        floor = max(len(person.acked) for person in people) + 5
        await fleet.eventually("everybody is acked again", lambda: acked_more(floor))

    try:
        await talk_on()
        await until_health(fleet, None)
        nats_server.stop()
        await until_health(fleet, "bus")
        await talk_on()
        nats_server.start()
        await until_health(fleet, None)
        await talk_on()
        postgres_server.stop()
        await until_health(fleet, "db")
        postgres_server.start()
        await until_health(fleet, None)
        await talk_on()
        for person in people:
            person.sending = False
        await fleet.eventually("every message is acked", lambda: not any(person.pending for person in people))
        head = len(await fleet.events("general"))
        await fleet.eventually("everybody has the whole log", lambda: all(person.last == head for person in people))
        check_log(await fleet.events("general"), people)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
