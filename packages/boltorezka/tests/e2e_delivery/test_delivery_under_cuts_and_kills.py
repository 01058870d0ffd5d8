"""The proof of the whole: nothing acked is lost and nothing is doubled, whatever is cut or killed, wherever."""

from __future__ import annotations

import asyncio
import json

import pytest

from .follower import Follower, check_log

CUTS, KILLS = 1000, 20
PEOPLE = 8
ROOMS = ("general", "den")


async def until_quiet(fleet, followers, tasks) -> None:
    """Let everybody come to rest: no cuts any more, everything acked, everybody at the end of their log."""
    for wire in fleet.wires:
        wire.cutting = False
    for follower in followers:
        follower.sending = False

    def quiet() -> bool:
        for task in tasks:
            if task.done():
                task.result()
        return not any(follower.pending for follower in followers)

    await fleet.eventually("every message is acked", quiet)
    heads = {slug: len(await fleet.events(slug)) for slug in ROOMS}
    await fleet.eventually(
        "everybody has the whole log", lambda: all(each.last == heads[each.slug] for each in followers)
    )


@pytest.mark.e2e
async def test_a_thousand_cuts_and_twenty_kills_lose_and_double_nothing(fleet, capsys):
    """Eight people in two rooms send, edit and delete over connections that are cut after a random number of bytes.

    Servers are killed inside the transaction, after the commit, after the hint, after the ack. In the end every ack
    is kept, every key is stored once, and what each client applied is the stored log, in order, without a hole.
    """
    await fleet.private_room("den")
    followers = []
    for number in range(PEOPLE):
        slug = ROOMS[number % 2]
        token = await fleet.person(f"p{number}", slug)
        followers.append(Follower(f"p{number}", token, slug, fleet.wires, fleet.dice))
    fleet.kill(KILLS)
    servers = [asyncio.create_task(slot.live()) for slot in fleet.slots]
    clients = [asyncio.create_task(follower.run()) for follower in followers]
    tasks = [*servers, *clients]

    def enough() -> bool:
        for task in tasks:
            if task.done():
                task.result()
        return fleet.cuts >= CUTS and fleet.kills.total() >= KILLS

    try:
        await fleet.eventually("enough was cut and killed", enough)
        await until_quiet(fleet, followers, tasks)
        for slug in ROOMS:
            check_log(await fleet.events(slug), [each for each in followers if each.slug == slug])
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    report = {
        "processes": len(fleet.slots), "cuts": fleet.cuts, "kills": dict(fleet.kills),
        "acked": sum(len(each.acked) for each in followers), "connections": sum(each.connections for each in followers),
        "resets": sum(each.resets for each in followers), "lost": 0, "doubled": 0,
    }  # fmt: skip
    with capsys.disabled():
        print(f"\n{json.dumps(report)}")
    assert set(fleet.kills) == {"insert", "commit", "publish", "ack"}
    assert report["acked"] > CUTS / 4
