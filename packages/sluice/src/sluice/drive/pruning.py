"""After a good run: which releases may still be needed, what of the rest is removed, and which slots were left over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sluice.drive.facts import Facts, facts_of
from sluice.drive.unchanged import arrivals
from sluice.drive.world import Sibling, World
from sluice.engine import Event, State
from sluice.journal import Record, read_all
from sluice.ledger import Ledger
from sluice.model.release import Release, Slot

# A journal is for recovery and for finding out what happened; the ledger keeps every decision for ever. Every command
# reads them all, at one to two milliseconds each, so there must be a bound that nobody notices.
KEPT_JOURNALS = 50


def needed(
    releases: Sequence[Release], serving: str, left: Iterable[str], touched: Iterable[str], keep: int
) -> list[Release]:
    """Of one environment: what serves, what a run that is not long over touched, and the last `keep` to go back to.

    `releases` oldest first; `left` were rolled back from, so nobody goes back to them. Pure.
    """
    gone = set(left)
    back = [release.id for release in releases if release.verified and release.id not in gone and release.id != serving]
    # What serves counts as one of them.
    wanted = {serving, *touched, *back[len(back) - max(0, keep - 1) :]}
    return [release for release in releases if release.id in wanted]


def needed_by(sibling: Sibling, records: Sequence[Record]) -> list[Release]:
    """Everything one environment may still need. Raises StateCorrupted: what cannot be read is no reason to remove."""
    ledger, serving = Ledger(sibling.paths.ledger), sibling.releases.serving()
    touched = {release.id: release for facts in _recent(records) for release in _named_by(facts)}
    known = {release.id: release for release in sibling.releases.all()}
    came = arrivals(ledger.records())
    everything = sorted((touched | known).values(), key=lambda release: (came.get(release.id, 0), release.id))
    return needed(everything, serving[0].id if serving else "", ledger.rolled_back_from(), touched, sibling.keep)


def _recent(records: Sequence[Record]) -> list[Facts]:
    """The runs from the last one that came through on, and every one that did not end."""
    last = max((n for n, record in enumerate(records) if _outcome(record) == State.DONE.value), default=0)
    return [facts_of(record) for n, record in enumerate(records) if n >= last or not record.ended]


def _outcome(record: Record) -> str:
    return str(record.entries[-1].facts.get("outcome", "")) if record.ended else ""


def _named_by(facts: Facts) -> list[Release]:
    old = facts.plan.old_release if facts.plan else None
    return [release for release in (facts.release, old) if release is not None]


async def stop_left_over(world: World, records: Sequence[Record], say: Callable[[str], None]) -> None:
    """Stop what earlier runs left running because they could not stop it, or did not dare.

    Also what is not alive: of a slot with one crashed container the others run on.
    """
    serving = world.releases.serving()
    done = {serving[1].unit} if serving else set()
    good = [n for n, record in enumerate(records) if _outcome(record) == State.DONE.value]
    before = good[-2] if len(good) > 1 else -1  # the good run before this one has seen to everything older
    for n, record in reversed(list(enumerate(records))):
        for release, slot in _left_over(record):
            if slot.unit in done:
                continue
            done.add(slot.unit)
            whole = await world.runtime.alive(slot)
            await world.runtime.stop(release, slot)
            if whole:
                say(f"stopped {slot.unit}, which run {record.run} left running")
            elif n > before:
                say(f"nothing of {slot.unit}, which run {record.run} left, runs any more")


def _left_over(record: Record) -> list[tuple[Release, Slot]]:
    odd = _outcome(record) in {State.DEGRADED.value, State.ROLLBACK_FAILED.value}
    if not odd and (State.RETIRING, Event.GIVE_UP) not in record.observed:
        return []
    facts = facts_of(record)
    new = [(facts.release, facts.slot)] if facts.release and facts.slot else []
    plan = facts.plan
    old = [(plan.old_release, plan.old_slot)] if plan and plan.old_release and plan.old_slot else []
    return [*new, *old]


async def prune(world: World, say: Callable[[str], None]) -> None:
    """Remove artifacts that no environment of the service needs, and journals beyond the bound.

    Raises what its parts raise; the caller says it and goes on.
    """
    records = read_all(world.paths.journal_dir, repair=False)
    await stop_left_over(world, records, say)
    keep: list[Release] = []
    for sibling in world.siblings():
        own = sibling.paths.journal_dir == world.paths.journal_dir
        keep += needed_by(sibling, records if own else read_all(sibling.paths.journal_dir, repair=False))
    await world.runtime.prune(keep, say)
    for path in beyond_the_bound(records):
        path.unlink(missing_ok=True)


def beyond_the_bound(records: Sequence[Record]) -> list[Path]:
    """The oldest journals, all but so many. One that did not end stays however old it is. Pure."""
    ended = [record.path for record in records if record.ended]
    return ended[: max(0, len(ended) - KEPT_JOURNALS)]
