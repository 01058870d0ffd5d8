"""A service is replaced while people use it: by Sluice, by Compose alone, by a script that follows the runbook.

    .venv/bin/python bench/rollout.py [--quick] [--rounds 3] [--only ours,compose,by-hand]

The service is bench/chat, the same image recipe for everybody, one branch a release. Its users are a process of their
own: 200 requests a second and 200 sockets that say and count messages. Each round every way rolls a good release out
and then goes back to the one before. Ours is also given a release that dies and one that cuts its sockets, both only
once many people are there, and beside it Docker's own commands for the same slots are typed by hand.

Our overhead is the time of the command, without the smokes, the drain and the watch, whose length is policy, and
without Docker's own commands by hand in the same round. Memory is RSS, every tenth of a second: of the command and the
programs it starts, without Docker's and the service's own smoke. Needs a container engine and starts none.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from harness import Bar, Bench, BenchError, Options, Record, main, median, progress, table, turns
from rollout_peers import FIRST_S, MIB, PORTS, Ran, World
from servers import Client, client

LABELS = {
    "ours": "Sluice",
    "compose": "docker compose up --force-recreate",
    "by-hand": "a script after the runbook",
}
RATE = 200
CALM_S = 2.0  # of steady use before each command, and after it, so that who was cut comes back in its phase

# Steps whose length is chosen: by the service's own checks and by policy.
CHOSEN = ("smoking_private", "smoking_public", "draining", "watching")
FAULTS = {"dies": "died", "cuts": "cut its sockets"}
OURS = {"rollout": "a good rollout", "rollback": "a typed rollback", "dies": "it dies", "cuts": "it cuts sockets"}

BARS = {"overhead": 3.0, "memory": 120.0, "cold": 20.0, "warm": 5.0, "dies": 5.0, "cuts": 10.0}


def run(options: Options, directory: Path) -> Record:
    """Every way in every round. Raises BenchError when there is no engine, or a command does not do what it must."""
    sockets = options.sockets[0]
    cells: list[Record] = []
    releases = iter(range(1, 1000))
    with closing(World(directory)) as world:
        for name in options.only:
            progress(f"the first release of {LABELS[name]}")
            _roll_out(world, name, next(releases), FIRST_S).must()
        if "ours" in options.only:
            world.docker_alone(f"origin/{world.branch(next(releases))}")
        for number, name in turns(options.only, options.rounds):
            progress(f"round {number + 1} of {options.rounds}: {LABELS[name]}")
            with client("rollout_load.py") as load:
                load.ask(port=PORTS[name], sockets=sockets, rate=RATE)
                cells.append({"server": name, "sockets": sockets, **_turn(world, name, load, releases)})
        return {"versions": {"docker": world.engine}, "cells": cells}


def _roll_out(world: World, name: str, number: int, deadline_s: float = 0, fault: str = "") -> Ran:
    branch = world.branch(number, fault)
    more = {"deadline_s": deadline_s} if deadline_s else {}
    if name == "ours":
        return world.sluice("rollout", "--branch", branch, **more)
    if name == "by-hand":
        return world.by_hand("rollout", branch, **more)
    return world.compose(f"origin/{branch}", **more)


def _turn(world: World, name: str, load: Client, releases: Iterator[int]) -> Record:
    """One way in one round: what each command took, and what users saw of it."""
    took: Record = {}

    def phase(what: str, do: Callable[[], Record]) -> None:
        time.sleep(CALM_S)
        load.ask(phase=what)
        took[what] = do()
        time.sleep(CALM_S)
        load.ask(phase="between")

    number = next(releases)
    phase("rollout", lambda: _spent(world, name, _roll_out(world, name, number).must()))
    if name == "ours":
        phase("docker", lambda: world.docker_alone(f"origin/{world.branch(next(releases))}"))
    phase("rollback", lambda: _spent(world, name, _roll_back(world, name).must()))
    if name == "ours":
        world.unlock()
        for fault in FAULTS:
            phase(fault, lambda fault=fault: _faulty(world, next(releases), fault))  # type: ignore[misc]
        took["ingress_mib"] = world.ingress_bytes() / MIB
    seen = load.ask(end=True)
    for fault in FAULTS:
        if name == "ours":
            took[fault] |= told_of_fault(took[fault], seen[fault])
    return {"took": took, "seen": {what: each for what, each in seen.items() if what in took}}


def _roll_back(world: World, name: str) -> Ran:
    if name == "ours":
        return world.sluice("rollback")
    if name == "by-hand":
        return world.by_hand("rollback")
    return world.compose("HEAD@{1}")  # where the checkout was before


def _spent(world: World, name: str, ran: Ran) -> Record:
    """Of a command that ended well."""
    memory = {what: round(size / MIB, 1) for what, size in vars(ran.memory).items()}
    told: Record = {"seconds": ran.seconds, "began": ran.began, "memory_mib": memory}
    return {**told, **steps(world.journal())} if name == "ours" else told


def _faulty(world: World, number: int, fault: str) -> Record:
    ran = _roll_out(world, "ours", number, fault=fault).must(3)
    world.unlock()
    return _spent(world, "ours", ran)


# ---------------------------------------------------------------- what a journal says


def steps(entries: Sequence[Record]) -> Record:
    """Of a run's journal: seconds of each step, and when it began and ended."""
    begun: dict[str, float] = {}
    ended: dict[str, float] = {}
    for entry in entries:
        state = entry.get("state", "")
        if entry["entry"] == "intent":
            begun[state] = entry["at"]
        elif entry["entry"] == "observed" and state in begun:
            ended[state] = entry["at"]
    return {"steps": {name: ended[name] - begun[name] for name in ended}, "begun": begun, "ended": ended}


def told_of_fault(took: Record, seen: Record) -> Record:
    """How long after the fault it was noticed, and how long until the old release served and was verified."""
    if not seen["marks"] or "restoring" not in took["ended"]:
        raise BenchError(f"the fault never showed, or nothing was restored: {took['steps']}")
    noticed = took["begun"]["restoring"]
    return {"noticed_s": noticed - min(seen["marks"]), "restored_s": took["ended"]["restoring"] - noticed}


def verified_s(took: Record) -> float:
    """From the typed command until the release before served and had passed its smoke."""
    return float(took["ended"]["smoking_public"] - took["began"])


def chosen_s(took: Record) -> float:
    """What smokes, drain and watch took of it."""
    return float(sum(took["steps"].get(name, 0.0) for name in CHOSEN))


def overhead_s(took: Record) -> float:
    """Of one round of ours: beside what is chosen, and beside Docker's own commands by hand."""
    return float(took["rollout"]["seconds"] - chosen_s(took["rollout"]) - sum(took["docker"].values()))


def beside_s(took: Record) -> dict[str, float]:
    """What is in no step: starting and looking round, pruning and ending, and what is written in between."""
    before = min(took["begun"].values()) - took["began"]
    after = took["began"] + took["seconds"] - max(took["ended"].values())
    rest = took["seconds"] - before - after - sum(took["steps"].values())
    return {"before the first": before, "after the last": after, "between them": rest}


# ---------------------------------------------------------------- tables and bars


def lines(record: Record) -> Iterator[str]:
    """The tables."""
    cells = record["cells"]
    names = list(dict.fromkeys(cell["server"] for cell in cells))
    sockets = cells[0]["sockets"]
    for what, title in (("rollout", "a good release is rolled out"), ("rollback", "somebody types a rollback")):
        yield from ("", f"== {title}, {RATE} requests a second, {sockets} sockets")
        head = [
            "",
            "failed",
            "of",
            "slowest ms",
            "cut",
            "back p50 s",
            "max s",
            "lost",
            "doubled",
            "wall s",
            "MiB",
            "all MiB",
        ]
        yield from table(head, ([LABELS[name], *_seen(_of(cells, name), what)] for name in names))
    mine = _of(cells, "ours")
    if mine:
        yield from _ours(mine)
    for name in names:
        why = sum((Counter(each["why"]) for cell in _of(cells, name) for each in cell["seen"].values()), Counter[str]())
        if why:
            yield f"  failed, {LABELS[name]}: {', '.join(f'{what} {count:,} x' for what, count in why.most_common(4))}"
    total = [each for cell in cells for each in cell["seen"].values()]
    yield (
        f"  {sum(each['messages'] for each in total):,} messages in all: {sum(each['lost'] for each in total)} lost, "
        f"{sum(each['doubled'] for each in total)} deliveries doubled"
    )


def _of(cells: Sequence[Record], name: str) -> list[Record]:
    return [cell for cell in cells if cell["server"] == name]


def _seen(cells: Sequence[Record], what: str) -> list[str]:
    seen, took = [cell["seen"][what] for cell in cells], [cell["took"][what] for cell in cells]
    away = [seconds for each in seen for seconds in each["away_s"]]
    return [
        # Of all rounds: one in a million is a finding, and its median is none.
        f"{sum(each['failed'] for each in seen):,}",
        f"{sum(each['requests'] for each in seen):,}",
        f"{median(each['slowest_ms'] for each in seen):,.0f}",
        f"{median(each['cut'] for each in seen):,.0f}",
        f"{median(away):.2f}" if away else "-",
        f"{max(away):.2f}" if away else "-",
        f"{sum(each['lost'] for each in seen)}",
        f"{sum(each['doubled'] for each in seen)}",
        f"{median(each['seconds'] for each in took):.1f}",
        f"{median(each['memory_mib']['tool'] for each in took):.0f}",
        f"{median(each['memory_mib']['everything'] for each in took):.0f}",
    ]


def _ours(cells: Sequence[Record]) -> Iterator[str]:
    """Where our seconds go, what a rollback takes, and how soon a bad release is noticed."""
    took = [cell["took"] for cell in cells]
    order = list(dict.fromkeys(name for each in took for what in OURS for name in each[what]["steps"]))
    yield from ("", "== Sluice, seconds of each step")
    rows = [[name, *(_median_or_dash([e[what]["steps"].get(name) for e in took]) for what in OURS)] for name in order]
    rows.append(["the command", *(f"{median(each[what]['seconds'] for each in took):.2f}" for what in OURS)])
    rows += [
        [f"... {part}", *(f"{median(beside_s(each[what])[part] for each in took):.2f}" for what in OURS)]
        for part in ("before the first", "after the last", "between them")
    ]
    yield from table(["", *OURS.values()], rows)
    yield from ("", "== Docker's own commands by hand, seconds", *table(["", *took[0]["docker"]], [_hand(took)]))
    yield ""
    yield (
        f"  our overhead: {median(overhead_s(each) for each in took):.2f} s in the middle round; medians: "
        f"{median(each['rollout']['seconds'] for each in took):.2f} s the command - "
        f"{median(chosen_s(each['rollout']) for each in took):.2f} s smokes, drain and watch - "
        f"{median(sum(each['docker'].values()) for each in took):.2f} s Docker's"
    )
    yield (
        f"  memory: the command alone {median(e['rollout']['memory_mib']['alone'] for e in took):.0f} MiB; "
        f"the ingress, which stays, {median(each['ingress_mib'] for each in took):.0f} MiB"
    )
    yield from ("", "== a bad release that many people use, with Sluice; nobody watches with the others")
    head = ["", "noticed s", "max s", "restored s", "failed", "cut", "back p50 s", "max s", "lost", "doubled"]
    yield from table(head, ([f"it {did}", *_fault(cells, fault)] for fault, did in FAULTS.items()))


def _median_or_dash(values: Sequence[float | None]) -> str:
    found = [value for value in values if value is not None]
    return f"{median(found):.2f}" if found else "-"


def _hand(took: Sequence[Record]) -> list[str]:
    return [
        "in the same rounds",
        *(f"{median(each['docker'][what] for each in took):.2f}" for what in took[0]["docker"]),
    ]


def _fault(cells: Sequence[Record], fault: str) -> list[str]:
    took, shown = [cell["took"][fault] for cell in cells], _seen(cells, fault)
    return [
        f"{median(each['noticed_s'] for each in took):.2f}",
        f"{max(each['noticed_s'] for each in took):.2f}",
        f"{median(each['restored_s'] for each in took):.2f}",
        shown[0],
        *shown[3:8],
    ]


def bars(record: Record) -> list[Bar]:
    """The promises of DESIGN.md and of the issue."""
    cells = _of(record["cells"], "ours")
    if not cells:
        return []
    took = [cell["took"] for cell in cells]
    good = [cell["seen"][what] for cell in cells for what in ("rollout", "rollback")]
    every = [each for cell in cells for each in cell["seen"].values()]
    bad = [each[fault] for each in took for fault in FAULTS]
    wrong = sum(each["lost"] + each["doubled"] for each in every)

    def at_most(what: str, bar: float, value: float, unit: str) -> Bar:
        return Bar(what, bar, value, unit, at_least=False)

    return [
        at_most("rollout and typed rollback: failed requests", 0, sum(each["failed"] for each in good), ""),
        at_most("... deliveries lost or doubled, in bad releases too", 0, wrong, ""),
        at_most("... longest time until a socket is back", 2, max(s for e in good for s in [0, *e["away_s"]]), "s"),
        at_most("rollout, overhead over Docker's own commands", BARS["overhead"], median(map(overhead_s, took)), "s"),
        at_most("rollout, memory of Sluice with its helpers", BARS["memory"],
                max(each[what]["memory_mib"]["tool"] for each in took for what in OURS), "MiB"),
        at_most("typed rollback, cold: old release serves, verified", BARS["cold"],
                median(verified_s(each["rollback"]) for each in took), "s"),
        at_most("criterion broken -> old release serves, verified, warm", BARS["warm"],
                median(each["restored_s"] for each in bad), "s"),
        at_most("a release that dies after the switch is noticed", BARS["dies"],
                median(each["dies"]["noticed_s"] for each in took), "s"),
        at_most("a release that cuts its sockets is noticed", BARS["cuts"],
                median(each["cuts"]["noticed_s"] for each in took), "s"),
    ]  # fmt: skip


BENCH = Bench(
    "rollout", "A service replaced under use, beside Compose alone and a script.", run, lines, bars,
    servers=tuple(LABELS), sockets=(200,), quick_sockets=(80,),
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(BENCH))
