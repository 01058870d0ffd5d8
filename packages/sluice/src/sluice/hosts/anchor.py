"""The anchor on the origin, by git: fast-forward-only pushes of `refs/sluice/ledger/SERVICE/ENV` through the mirror.

Nothing is ever forced: an origin that is ahead of this ledger or holds another one is said and left as it is. What the
mirror has seen there stays in a ref of its own, so that an origin which was forced back is noticed too.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from sluice.hosts.anchor_git import ANCHOR_S, PREFIX, Git, Unreachable, words
from sluice.hosts.git import without_password
from sluice.ledger import Anchoring, Copy, Ledger, Problem, PublicKey, Tampering, verify_records
from sluice.ledger.anchor import import_stream, judge_anchor, judge_origin
from sluice.ledger.chain import parsed
from sluice.model.errors import SluiceError
from sluice.model.promotion import Denial, Denied
from sluice.runner import LocalRunner

SEEN, NEXT = "refs/sluice/anchored/", "refs/sluice/next/"  # in the mirror alone


class GitAnchor:
    """Brings one environment's ledger to the origin, and holds the two against each other."""

    def __init__(self, git_dir: Path, url: str, runner: LocalRunner, ledger: Path, name: str) -> None:
        """`name`: SERVICE/ENV. Touches nothing."""
        self._git = Git(git_dir, url, runner)
        self._ledger = Ledger(ledger)
        self._ref, self._seen, self._next = PREFIX + name, SEEN + name, NEXT + name

    async def push(self) -> str:
        """Bring every record the origin does not have there. What hindered it, in a sentence, or "". Never raises.

        The environment's lock must be held: nobody else appends meanwhile.
        """
        try:
            lines = self._ledger.lines()
            async with asyncio.timeout(ANCHOR_S):
                key = self._ledger.key()
                problem = await self._push(lines, key) if lines and key else None
        except TimeoutError:
            return f"The ledger's tail is not anchored: {self._where} did not answer within {ANCHOR_S} s."
        except Exception as failure:  # noqa: BLE001 - whatever it is, the run's record is on the disk and stands
            known = isinstance(failure, Unreachable | SluiceError | OSError)
            why = str(failure) if known else f"{type(failure).__name__}: {failure}"
            return f"The ledger's tail is not anchored at {self._where}: {why.rstrip('.')}."
        if problem is not None:
            return f"The ledger was not anchored at {self._where}, which was left as it is: {problem.sentence}."
        return ""

    @property
    def _where(self) -> str:
        return without_password(self._git.url)

    async def _push(self, lines: list[bytes], key: PublicKey) -> Problem | None:
        git = self._git
        origin, remembered = await self._look()
        seen, found = remembered.head, judge_anchor(lines, origin, remembered, key)
        if found.problems:
            return found.problems[0]
        head = origin.head
        if missing := lines[len(origin.lines) :]:
            stream = import_stream(missing, head, self._next, key)
            made = await git.need("fast-import", "--quiet", "--done", "--force", stdin=stream)
            head = made.decode().split()[-1]
            # Without a plus sign: what is no fast-forward is refused there.
            await git.need("push", "--quiet", "--no-verify", "--", git.url, f"{head}:{self._ref}", network=True)
        if head != seen:
            await git.remember(self._seen, head, seen)
        return None

    async def _look(self) -> tuple[Copy, Copy]:
        """The origin's copy, and the one last seen there. Raises Unreachable."""
        git = self._git
        await git.need("init", "--quiet", "--bare", "--template=", str(git.git_dir))
        seen = await git.ref(self._seen)
        remembered = await git.copy(seen)
        head = (await git.heads(self._ref)).get(self._ref, "")
        if head == seen:
            origin = remembered
        else:
            if head:
                await git.bring(self._ref, head)
            origin = await git.copy(head)
        return origin, remembered

    async def remembered(self) -> Problem | None:
        """What of that which was seen on the origin last is missing or other here. The chain must hold.

        Nobody is asked, but where neither a record is here nor a memory: then a wrong state folder looks like a first
        run. Raises StateCorrupted when the key is damaged.
        """
        # Where the last record of then stands in its place, the chain vouches for all before it: one question to git.
        last = await self._git.last(self._seen)
        number = record["n"] if (record := parsed(last)) else 0
        if isinstance(number, int) and number > 0 and self._ledger.lines()[number - 1 : number] == [last]:
            return None
        if not last and not self._ledger.lines():
            return await self._elsewhere()
        return next(iter((await self.compare(offline=True)).problems), None)

    async def _elsewhere(self) -> Problem | None:
        """That the origin has records where there are none here. An origin that cannot be asked is no problem."""
        try:
            async with asyncio.timeout(ANCHOR_S):
                known = (await self._git.heads(self._ref)).get(self._ref)
        except (TimeoutError, Unreachable):
            return None  # the fetch that follows says so
        if not known:
            return None
        sentence = "the origin has records of this environment, and this state folder has none: is it the right one "
        return Problem(Tampering.CUT, 1, sentence + "($SLUICE_STATE, `state` in host.toml)?")

    async def compare(self, *, offline: bool = False) -> Anchoring:
        """Hold the ledger against the origin, or (`offline`) against what was seen there last. Moves nothing.

        An origin that cannot be asked is a note, not a problem. Raises StateCorrupted when the key is damaged.
        """
        note = "the origin was not asked (--offline)"
        if not offline:
            try:
                async with asyncio.timeout(ANCHOR_S):
                    origin, remembered = await self._look()
            except TimeoutError:
                note = f"{self._where} did not answer within {ANCHOR_S} s"
            except Unreachable as failure:
                note = f"{self._where}: {failure}"
            else:
                return replace(self._judged(origin, remembered), memory=await self._forgotten())
        return replace(await self._by_memory(note), memory=await self._forgotten())

    async def _forgotten(self) -> str:
        if not await self._git.broken(self._seen):
            return ""
        return f"the mirror's memory of the origin ({self._seen}) is damaged: what was cut there does not show here"

    def _judged(self, origin: Copy, remembered: Copy) -> Anchoring:
        # Read after the origin was: a run that records meanwhile writes here first, so what is there is here too.
        return judge_anchor(self._ledger.lines(), origin, remembered, self._ledger.key())

    async def _by_memory(self, note: str) -> Anchoring:
        try:
            origin = await self._git.copy(await self._git.ref(self._seen))
        except Unreachable as failure:
            return Anchoring(0, note=f"{note}; the mirror has no memory of it: {failure}")
        found = self._judged(origin, origin)
        return Anchoring(found.anchored, found.problems, note)

    async def origin(self, key: PublicKey) -> Copy:
        """The origin's copy, judged by itself: what promotion reads of an environment on another server.

        `key` is the one an operator vouches for; the key that lies beside the records is anybody's who may push. What
        holds is remembered in the mirror, so that an origin which is cut or forced back later is noticed here.
        Raises Denied: ProofUnreachable when it cannot be asked; RecordDoubtful when it holds fewer or other records
        than were seen there, or one that the key has not signed.
        """
        try:
            async with asyncio.timeout(ANCHOR_S):
                return await self._vouched(key)
        except (TimeoutError, Unreachable) as failure:
            raise Denied(
                Denial.PROOF_UNREACHABLE,
                f"The ledger at {self._where} ({self._ref}) cannot be read: {words(failure)}.",
                next="check the way to the origin (git ls-remote), then repeat the command",
            ) from failure

    async def _vouched(self, key: PublicKey) -> Copy:
        git = self._git
        await git.need("init", "--quiet", "--bare", "--template=", str(git.git_dir))
        seen = await git.ref(self._seen)
        remembered = replace(await git.copy(seen), key=None)
        head = (await git.heads(self._ref)).get(self._ref, "")
        if head and head != seen:
            await git.bring(self._ref, head)
        copy = replace(remembered if head == seen else await git.copy(head), key=key)
        problem = judge_origin(copy, remembered, None) or next(iter(verify_records(copy.lines, key).problems), None)
        if problem is not None:
            foreign = "compare test_ledger_key in host.toml with envs/test/ledger.key.pub on that host"
            service, _, environment = self._ref.removeprefix(PREFIX).partition("/")
            looked = (
                f"in a clone of the repository: sluice log verify --clone . --service {service} --env {environment}"
            )
            raise Denied(
                Denial.RECORD_DOUBTFUL,
                f"The ledger at {self._where} ({self._ref}) does not hold: {problem.sentence}.",
                next=foreign if problem.code is Tampering.FOREIGN_KEY else looked,
            )
        if head != seen:
            await self._note(head, seen)
        return copy

    async def _note(self, head: str, seen: str) -> None:
        """Remember what holds, unless another command remembered what it saw meanwhile."""
        try:
            await self._git.remember(self._seen, head, seen)
        except Unreachable:
            if await self._git.ref(self._seen) == seen:
                raise
