"""Where a signature is handed in: the plan it is for, whether it counts, and the record of it either way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluice.drive.audit import signature_record
from sluice.drive.desk import desk_for
from sluice.drive.facts import Plan
from sluice.drive.keeping import Keeper
from sluice.drive.promotion import means_of, plan_promotion
from sluice.drive.world import World
from sluice.model.policy import Role
from sluice.model.promotion import Approval, Denied


class Reception:
    """Takes in one signature. Whoever calls it holds the environment's lock."""

    def __init__(self, world: World, keeper: Keeper, role: Role, run: str, by: tuple[str, str]) -> None:
        """`run`: of the record. `by`: who hands it in, and how that is known."""
        self._world, self._keeper, self._role, self._run, self._by = world, keeper, role, run, by

    async def plan(self, exceptions: Mapping[str, str]) -> Plan:
        """What would be promoted now. Raises Denied, recorded, and Refused while a run is unfinished."""
        await self._keeper.must_hold()
        self._keeper.must_have_ended("whatever is signed for its plan before it is recovered, its record uses up.")
        try:
            return await plan_promotion(self._world, "", lambda _text: None, exceptions)
        except Denied as denied:
            await self.refuse(None, denied)
            raise

    async def take_in(self, plan: Plan, given: tuple[str, str]) -> dict[str, Any]:
        """The record of a text and its signature that count for this plan. Raises Denied, recorded."""
        try:
            desk = await desk_for(self._world, plan)
            text = await desk.take_in(self._role, *given, at=self._world.clock.now(), run=self._run)
        except Denied as denied:
            await self.refuse(plan, denied, given)
            raise
        means_of(self._world).approvals.add(text)
        return await self._record(plan, text)

    async def refuse(self, plan: Plan | None, denied: Denied, given: tuple[str, str] = ("", "")) -> None:
        """Record that it was not taken in; where its key was known not to count, nothing was `given`."""
        text, signature = given if given[0] else (denied.data.get("text", ""), "")
        at = self._world.clock.now()
        await self._record(plan, Approval(self._role, text, signature, "", "", at, self._run), denied)

    async def _record(self, plan: Plan | None, text: Approval, denied: Denied | None = None) -> dict[str, Any]:
        record = self._keeper.append(signature_record(self._world, plan, text, self._by, denied))
        await self._keeper.anchor(self._run)
        return record
