"""What follows a run: whether the environment is locked, who is told, and what somebody can do by hand."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from sluice.drive.audit import named, went_forward
from sluice.drive.facts import Facts
from sluice.drive.world import World, command, forward
from sluice.engine import Event, Kind, State, advance
from sluice.model.errors import ExitCode, Locked, SluiceError
from sluice.model.release import Release, Slot
from sluice.model.verdict import Verdict

LOOK_S = 15.0  # to ask supervisor or engine, ingress file and public URL what is true; each has a deadline of its own

# What makes a run turn back; the first of them says why.
TURNS = frozenset({Event.FAIL, Event.GIVE_UP, Event.INTERRUPT, Event.RECOVER})
# After these somebody must know, whether or not somebody watched the terminal.
TOLD = frozenset({State.ROLLED_BACK, State.DEGRADED, State.ROLLBACK_FAILED, State.NONE_SERVING})


class Seen(msgspec.Struct, frozen=True):
    """What the world said of itself when a run had ended badly."""

    ingress: str = ""  # where the ingress points
    answers: str = ""  # the release that answers at the public URL, "" when neither does
    detail: str = ""  # what was found there instead
    running: tuple[str, ...] = ()  # units that run now


async def look(world: World, facts: Facts) -> Seen:
    """Ask the world, not the journal. What cannot be asked is said and never raised."""
    try:
        async with asyncio.timeout(LOOK_S):
            return await _look(world, facts)
    except (SluiceError, OSError, TimeoutError) as failure:
        return Seen(detail=f"the world could not be asked: {str(failure) or type(failure).__name__}")


async def _look(world: World, facts: Facts) -> Seen:
    both = _both(facts)
    running = [slot.unit for _, slot in both if await world.runtime.alive(slot)]
    answers, details = "", []
    for release, slot in both:
        found = await world.judge.read_back(world.public_url, release, slot)
        if found.verdict is Verdict.PASS:
            answers = release.id
            break
        details.append(found.detail)
    detail = "" if answers else "; ".join(details)
    return Seen(await world.ingress.current() or "nowhere", answers, world.redactor(detail), tuple(running))


def _both(facts: Facts) -> list[tuple[Release, Slot]]:
    old = [facts.plan.old] if facts.plan and facts.plan.old else []
    new = [(facts.release, facts.slot)] if facts.release and facts.slot else []
    return [*old, *new]


def true_state(world: World, facts: Facts, seen: Seen) -> str:
    """One sentence about what answers, one about what runs and where the ingress points."""
    both = _both(facts)
    answering = next((release for release, _ in both if release.id == seen.answers), None)
    which = {facts.release.id: " (the new one)"} if facts.release else {}
    if answering is not None:
        first = f"{named(answering)}{which.get(answering.id, '')} answers at {world.public_url}."
    else:
        first = f"It is not known what {world.public_url} serves: {seen.detail.rstrip('.') or 'nothing was asked'}."
    units = [
        f"{release.commit.describe} {'runs' if slot.unit in seen.running else 'does not run'} at {slot.url}"
        for release, slot in both
    ]
    return f"{first} {'; '.join(units)}; the ingress points at {seen.ingress or 'nobody knows where'}."


def advice(world: World, facts: Facts, outcome: State) -> str:
    """What to type, and what to do by hand where that does not help."""
    if outcome is State.DEGRADED:
        return f"{command(world, 'status')}, then: {command(world, 'rollback')} if users are not served well"
    text = command(world, "rollback")
    old = facts.plan.old if facts.plan else None
    if old is None:
        return text
    release, slot = old
    says = f'"url" say {slot.target or slot.url} and "Sluice-Release" say {release.id}'
    return f"{text}; or by hand: in {world.ingress.route_file} make {says} (the ingress follows at once)"


def onward(world: World, facts: Facts) -> str:
    """What to type after a run that came to nothing and whose errors name no command. Every failed run has one."""
    undone = facts.kind is Kind.ROLLBACK
    again = command(world, "rollback") if undone else forward(world, facts.branch)
    turn = next((event for _, event in facts.observed if event in TURNS), None)
    if turn in {Event.INTERRUPT, Event.RECOVER} or facts.exit_code == ExitCode.USAGE:
        return again
    if turn is Event.FAIL and not undone:
        mend = "mend it on a branch, prove it in test, merge it" if world.promotion else "mend the branch, push"
        return f"{mend}, then: {again}"
    return f"look into it ({command(world, 'log')} --run {facts.run}), then: {again}"


def locks(facts: Facts, outcome: State) -> str:
    """Why the environment takes no rollout after this run until somebody has looked; "" when it does.

    A person's Ctrl-C and the tool's own death say nothing about a release: what was undone cleanly after them is as it
    was. Where nothing serves, the next attempt is what everybody waits for.
    """
    about = named(facts.release)
    if outcome is State.DONE and facts.kind is Kind.ROLLBACK:
        left = facts.plan.old_release if facts.plan else None
        return f"{facts.owner} rolled back to {about}" + (f" from {named(left)}" if left else "")
    if outcome is State.ROLLED_BACK and _sent_back(facts) in {Event.FAIL, Event.GIVE_UP}:
        return f"{about} was rolled back: {facts.reason}"
    if outcome is State.DEGRADED:
        then = "serves, but that could not be recorded" if went_forward(facts) else "was undone, but not cleanly"
        return f"{about} {then}: {facts.reason}"
    if outcome is State.ROLLBACK_FAILED:
        return f"rolling back from {about} failed: {facts.reason}"
    return ""


def _sent_back(facts: Facts) -> Event | None:
    """What made the run turn back to the old release."""
    for state, event in facts.observed:
        if state is not State.RESTORING and advance(facts.kind, state, event).state is State.RESTORING:
            return event
    return None


def locked(world: World, reason: str, since: str, owner: str, run: str) -> Locked:
    """The answer to a rollout into a locked environment."""
    return Locked(
        f"{world.environment.value} is locked since {since} (run {run}, {owner}): {reason}",
        world="What serves goes on serving.",
        next=f"look into it ({command(world, 'log')} --run {run}), then: {command(world, 'unlock')} --reason 'WHY'",
        who=owner,
        since=since,
        reason=reason,
        run=run,
    )


def message(world: World, facts: Facts, outcome: State, state: str, next_: str) -> tuple[str, str]:
    """Title and body for whoever is told."""
    commit = facts.plan.commit if facts.plan else None
    title = f"{world.service} in {world.environment.value}: {facts.kind.value} {outcome.value.replace('_', ' ')}"
    lines = {
        "commit": f"{commit.sha[:12]} ({facts.branch or commit.branch}, {commit.describe})" if commit else facts.branch,
        "reason": facts.reason,
        "now": state,
        "next": next_,
        "by": facts.owner,
        "run": facts.run,
    }
    body = "\n".join(f"{name}: {text}" for name, text in lines.items() if text)
    return world.redactor(title), world.redactor(body)


def as_notes(seen: Seen | None, untold: list[str] | None) -> dict[str, Any]:
    """For the journal's last entry."""
    notes: dict[str, Any] = {}
    if seen is not None:
        notes["seen"] = msgspec.to_builtins(seen)
    if untold is not None:
        notes["notified"] = untold or "everybody"
    return notes
