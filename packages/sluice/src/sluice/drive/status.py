"""What an environment looks like now, read without holding it."""

from __future__ import annotations

import datetime as dt

import msgspec

from sluice.drive.audit import standing_waivers
from sluice.drive.world import World, command, forward
from sluice.engine import State
from sluice.journal import read_all
from sluice.ledger import Ledger, closed_by, frozen_by
from sluice.lock import is_held, read_holder
from sluice.model.errors import StateCorrupted
from sluice.model.verdict import Finding, Verdict

INGRESS = "ingress"


class Status(msgspec.Struct, frozen=True):
    """One environment, for people and programs. Sentences where something is damaged."""

    service: str
    environment: str
    public_url: str
    serving: str = ""
    commit: str = ""
    tree: str = ""
    branch: str = ""
    release: str = ""
    slot: str = ""
    alive: bool = False
    ingress: str | None = None
    lock: str = ""
    waivers: list[str] = []  # gates that were passed over for what serves: who, why
    locked: str = ""  # why no rollout is taken until `sluice unlock`
    frozen: list[str] = []  # until when, why and by whom nothing new is let in; rollbacks are
    unfinished: list[str] = []
    last_record: str = ""
    damaged: list[str] = []


async def ingress_of(world: World) -> Finding:
    """Whether the ingress's file is as Sluice wrote it, and what the next rollout does with the ingress itself."""
    try:
        await world.ingress.current()
    except StateCorrupted as error:
        return Finding(INGRESS, Verdict.FAIL, detail=error.what, fix=error.next)
    if edited := await world.ingress.edited():
        fix = f"{command(world, 'rollback')}, or: {forward(world)}"
        return Finding(INGRESS, Verdict.INCONCLUSIVE, detail=f"{edited}.", fix=fix)
    replaced = await world.ingress.replacement()
    detail = f"The next rollout will be felt: {replaced}." if replaced else "It stays as it is in the next rollout."
    return Finding(INGRESS, Verdict.PASS, detail=detail)


async def status_of(world: World) -> Status:
    """Read everything that can be read; what is damaged is named instead of raised."""
    status = Status(world.service, world.environment.value, world.public_url)
    damaged: list[str] = []
    changes: dict[str, object] = {}
    try:
        changes["ingress"] = await world.ingress.current()
        serving = world.releases.serving()
        if serving is not None:
            release, slot = serving
            commit = release.commit
            changes |= {"serving": commit.describe, "commit": commit.sha, "tree": commit.tree, "branch": commit.branch}
            changes |= {"release": release.id, "slot": slot.url, "alive": await world.runtime.alive(slot)}
    except StateCorrupted as error:
        damaged.append(error.what)
    if is_held(world.paths.lock):
        holder = read_holder(world.paths.lock_info)
        changes["lock"] = f"{holder.who}: {holder.what}, since {holder.since}" if holder else "held by somebody unknown"
    try:
        runs = [record for record in read_all(world.paths.journal_dir, repair=False) if not record.ended]
        changes["unfinished"] = [f"{record.run}: {record.kind} in {State(record.state).value}" for record in runs]
        records = Ledger(world.paths.ledger).records()
        changes["waivers"] = standing_waivers(world)
        closed = closed_by(records)
        if closed is not None:
            changes["locked"] = f"{closed.reason} (run {closed.run}, {closed.owner}, since {closed.since})"
        now = dt.datetime.fromisoformat(world.clock.now())
        changes["frozen"] = [
            f"until {one.until}: {one.reason} ({one.owner}, since {one.since})" for one in frozen_by(records, now)
        ]
        if records:
            last = records[-1]
            changes["last_record"] = f"{last['n']}: {last['type']} {last['outcome']}, {last['ended']}, {last['owner']}"
    except StateCorrupted as error:
        damaged.append(error.what)
    return msgspec.structs.replace(status, damaged=damaged, **changes)
