"""What a promotion is made of: the proof in test, the text that people sign, and why one is denied.

Pure. The text is signed as it stands, so that whoever signs reads what it is for, and bound to the plan by its hash.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import shlex
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from sluice.model.errors import CodedRefusal
from sluice.model.policy import BY_KEY, ChecklistItem, GatesSpec, PromotionSpec, Role, Signer
from sluice.model.text import one_line, shortened, told_apart

EXPIRES = "%Y-%m-%dT%H:%M:%SZ"  # UTC, whole seconds
CLOCKS_S = 300  # by which the clocks of two hosts may differ: with a time service it is less than a second
UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))
DIFFERENCES = 3  # that a refusal names; who has more looks at the plan anyway
WORDS = 1000  # letters of an item of the checklist, and of its command
TITLES = {Role.APPROVE: "Sluice approval", Role.CHECKLIST: "Sluice checklist item"}  # the first line of what is signed
SHOWN = 80  # letters of each: an address or a path, whole


class Denial(StrEnum):
    """Why nothing reaches prod. Each is recorded in the ledger under this code."""

    FEATURE_BRANCH = "FeatureBranch"  # only the policy's own branch is promoted
    NOT_MERGED = "NotMerged"  # what was proven in test is not in the policy's branch
    NOT_PROVEN = "NotProven"  # this tree never ran in test
    NEWEST_FAILED = "NewestAttemptFailed"  # an older success does not count
    NEWEST_OPEN = "NewestAttemptOpen"  # it did not end: it still runs, or was killed
    PROOF_STALE = "ProofStale"
    PROOF_UNREACHABLE = "ProofUnreachable"  # test is on another host, and its ledger on the origin cannot be asked for
    ARTIFACT_GONE = "ArtifactGone"
    ARTIFACT_CHANGED = "ArtifactChanged"  # what lies on disk is not what passed test
    ARTIFACT_DIFFERS = "ArtifactDiffers"
    ALREADY_SERVES = "AlreadyServes"
    PLAN_ALTERED = "PlanAltered"  # what was signed is not what would be done now
    APPROVAL_MISSING = "ApprovalMissing"
    APPROVAL_EXPIRED = "ApprovalExpired"
    APPROVAL_TOO_LONG = "ApprovalTooLong"  # it would hold for longer than the policy lets it
    APPROVAL_USED = "ApprovalUsed"  # replayed: a run has acted on it
    APPROVAL_BY_AUTHOR = "ApprovalByAuthor"
    AUTHOR_UNKNOWN = "AuthorUnknown"  # a commit is not signed by a known key, and the policy asks for that
    POLICY_CHANGED = "PolicyChanged"  # only the candidate's own policy would accept the signature
    CHECKLIST_OPEN = "ChecklistOpen"
    REFS_MOVED = "RefsMoved"
    HISTORY_GONE = "HistoryGone"  # the commit that serves is not in the repository any more
    RECORD_DOUBTFUL = "RecordDoubtful"  # a ledger that proves or remembers does not hold
    BAD_RELEASE = "BadRelease"  # what would be started failed in this environment before
    ENV_CHANGED = "EnvChanged"  # the env file is another than the plan's


class GateStanding(StrEnum):
    """How a gate stands in a promotion, before anything is asked."""

    REQUIRED = "required"  # it judges
    OFF = "off"  # the policy has no rules for it
    MERGED = "merged"  # asked of branches, and was when this one came in
    WAIVED = "waived"  # it judges, and is passed over


class Denied(CodedRefusal):
    """A promotion that will not be. `code` is a Denial, or how a signature is bad (sluice.hosts.signing)."""


class Authored(msgspec.Struct, frozen=True):
    """One commit between what serves in prod and what would."""

    sha: str
    subject: str
    author: str
    email: str
    key: str = ""  # fingerprint of the SSH key it was signed with, where it was
    committer: str = ""
    committer_email: str = ""
    others: tuple[str, ...] = ()  # names and addresses of its `Co-authored-by` lines

    @property
    def people(self) -> tuple[str, ...]:
        """By which names and addresses it says who made it."""
        return (self.author, self.email, self.committer, self.committer_email, *self.others)


class Former(msgspec.Struct, frozen=True):
    """A policy that was promoted before, of which the candidate's own must make nothing easier."""

    release: str
    gates: GatesSpec
    promotion: PromotionSpec
    signers: dict[str, Signer]


class Promotion(msgspec.Struct, frozen=True):
    """The part of a plan that only a promotion has: what was proven, and what will be different."""

    proof_run: str
    proof_branch: str
    proof_commit: str
    artifact_key: str
    digests: dict[str, str]
    from_version: str  # "" when nothing serves
    to_version: str  # shown and signed, and no part of the plan: a tag that comes later names the same commit
    commit: str
    tree: str
    commits: tuple[Authored, ...]  # the first time: the newest alone
    head_from: str  # the schema's head
    head_to: str
    policy_changed: dict[str, str]  # against each of `before`: which key, and what it was and would be
    exceptions: dict[str, str] = {}  # gate -> why it is passed over: whoever signs, signs them too
    rules: PromotionSpec = PromotionSpec()  # the stricter of the policy's and of all of `before`
    before: tuple[Former, ...] = ()  # of what was promoted last, and of what serves if that is another
    carried: dict[str, str] = {}  # of a test on another host, by its images: what its Compose files say of each
    gates: dict[str, str] = {}  # how each stands (GateStanding), in their order
    approvers: tuple[str, ...] = ()  # who may approve, by the policy and by all of `before`
    # Where it is asked who wrote it, beside `commits`: the first time a commit of each who ever did; and those of the
    # branch that test proved and the policy's branch has as another commit (a squash, say).
    authors: tuple[Authored, ...] = ()
    taken_back: tuple[Authored, ...] = ()  # commits that serve and would not any more: the branch was forced back
    waived_in_test: tuple[dict[str, str], ...] = ()  # gate, by, reason and verdict of what test passed over
    settings: dict[str, str] = {}  # what host.toml says of this environment: where and as whom it will run


def proof_in(records: Iterable[Mapping[str, Any]], tree: str, now: str, ttl_s: float) -> Mapping[str, Any] | None:
    """The record that proves this tree in test: its newest attempt, or None when there was none. Raises Denied.

    `records` are those of test's ledger, oldest first. The newest counts even where an older one was good.
    """
    newest: Mapping[str, Any] | None = None
    left: dict[str, str] = {}
    for record in records:
        if record["type"] == "rollout" and record.get("tree") == tree and record.get("release"):
            newest = record
        # However the way back ended: whoever took it had seen something. What died and was started again was not left.
        elif (record["type"], record.get("decision")) == ("rollback", "rollback") and (
            record.get("from_release") != record.get("release")
        ):
            left[str(record.get("from_release"))] = str(record["run"])
    if newest is None:
        return None
    run, again = newest["run"], f"sluice rollout --env test --branch {newest.get('branch') or 'main'}"
    if (newest.get("outcome"), newest.get("decision"), newest.get("smoke_result")) != ("done", "go", "pass"):
        raise Denied(
            Denial.NEWEST_FAILED,
            f"The newest attempt of this tree in test, run {run}, ended as {newest.get('outcome')}: "
            f"{newest.get('reason') or 'without a word'}. An older success does not count.",
            # What a run blamed is refused as bad when it is rolled out again.
            next=f"{again} --override 'WHY', where it was not to blame; else mend it"
            if newest.get("bad_release")
            else again,
        )
    if str(newest["release"]) in left:
        raise Denied(
            Denial.NEWEST_FAILED,
            f"In test this release was rolled back from, in run {left[str(newest['release'])]}.",
            next=again,
        )
    _must_be_fresh(newest, now, ttl_s, again)
    return newest


def _must_be_fresh(proof: Mapping[str, Any], now: str, ttl_s: float, again: str) -> None:
    """Raises Denied for a proof that is too old, or of which nobody can say how old it is."""
    run, ended = proof["run"], str(proof.get("ended"))
    try:
        age = (_time(now) - _time(ended)).total_seconds()
    except (ValueError, TypeError):  # no time, or one without its zone
        raise Denied(
            Denial.RECORD_DOUBTFUL,
            f"The record of run {run} in test does not say when it ended ({shortened(ended, SHOWN)!r}).",
            next="sluice log verify --env test",
        ) from None
    if age < -CLOCKS_S:
        # It would be fresh for so much longer than the policy takes it to be.
        raise Denied(
            Denial.PROOF_STALE,
            f"Test proved this tree {_lasting(-age)} from now, in run {run}: its clock is ahead.",
            next=f"set both clocks right (timedatectl); then {again}",
        )
    if age > ttl_s:
        raise Denied(
            Denial.PROOF_STALE,
            f"Test proved this tree {_lasting(age)} ago, in run {run}; the policy takes {_lasting(ttl_s)}.",
            next=again,
        )


class Approval(msgspec.Struct, frozen=True):
    """A signed text as it was handed in: an approval of a plan, or a signed-off item of its checklist."""

    role: Role
    document: str
    signature: str
    principal: str
    fingerprint: str
    at: str
    run: str  # of its ledger record

    @property
    def digest(self) -> str:
        """Names what was signed, for what and with which key, however the signature is written down."""
        return hashlib.sha256(f"{self.role.value}\0{self.fingerprint}\0{self.document}".encode()).hexdigest()

    @property
    def says(self) -> dict[str, str]:
        """The `key: value` lines of the text."""
        pairs = (line.partition(": ") for line in self.document.splitlines()[1:])
        return {key: value for key, _, value in pairs}

    @property
    def anew(self) -> str:
        """What somebody types to sign the same anew."""
        return signing(self.role, self.says.get("item", ""))


def asked_by(item: ChecklistItem) -> str:
    """What an item of the checklist asks for, in its own words, and of whom. Pure."""
    how = f"a command judges it: {shlex.join(item.command)}" if item.command else "a person signs it off"
    return f"{told_apart(item.text, WORDS)} ({told_apart(how, WORDS)})"


def judged_by(about: Promotion) -> dict[str, str]:
    """What a promotion is judged by beside its checklist, in words: the gates as they stand, and who approves. Pure."""
    rules = about.rules
    gates = {
        kind: ", ".join(name for name, standing in about.gates.items() if standing == kind) or "none"
        for kind in GateStanding
    }
    author = ", not by an author" if rules.approver_not_author else ""
    author += " (by key)" if rules.approver_not_author == BY_KEY else ""
    people = ", ".join(about.approvers) or "nobody in [signers]"
    return {
        "gates": gates[GateStanding.REQUIRED],
        "gates waived": gates[GateStanding.WAIVED],
        "gates judged before the merge": gates[GateStanding.MERGED],
        "gates switched off by the policy": gates[GateStanding.OFF],
        "approvals": f"{rules.approvals} of: {people}{author}",
    }


def schema_of(about: Promotion) -> str:
    """The schema's head, and what it was where it changes. Pure."""
    if about.head_from and about.head_from != about.head_to:
        return f"{about.head_from} -> {about.head_to}"
    return about.head_to or "none"


def signing(role: Role, item: str = "") -> str:
    """What somebody types to sign. Pure."""
    what = f"sign-off --env prod --item {item}" if role is Role.CHECKLIST else "approve --env prod"
    return f"sluice {what} --key ~/.ssh/id_ed25519"


def document(where: tuple[str, str], plan: str, about: Promotion, expires: str, item: str = "") -> str:
    """The text that is signed; with `item` that of one item of the checklist. `where`: service and environment."""
    asked = {one.id: asked_by(one) for one in about.rules.checklist}
    lines = [
        TITLES[Role.CHECKLIST if item else Role.APPROVE],
        f"service: {where[0]}",
        f"environment: {where[1]}",
        *([f"item: {item}", f"item says: {asked.get(item, 'not in the checklist')}"] if item else []),
        f"plan: {plan}",
        f"from: {about.from_version or 'nothing serves'}",
        f"to: {about.to_version}",
        f"commit: {about.commit}",
        f"tree: {about.tree}",
        f"commits: {len(about.commits) if about.from_version else 'all there are'}",
        *([f"commits taken back: {len(about.taken_back)}"] if about.taken_back else []),
        f"schema: {schema_of(about)}",
        f"policy changes: {', '.join(about.policy_changed) or 'none'}",
        *(f"policy {name}: {change}" for name, change in about.policy_changed.items()),
        *(f"{name}: {said}" for name, said in judged_by(about).items()),
        *([f"checklist {name}: {said}" for name, said in asked.items()] or ["checklist: none"]),
        f"exceptions: {'; '.join(f'{gate} ({why})' for gate, why in sorted(about.exceptions.items())) or 'none'}",
        *(f"server {name}: {value}" for name, value in sorted(about.settings.items())),
        f"proven in test: run {about.proof_run}",
        f"expires: {expires}",
    ]
    return "\n".join(one_line(line) for line in lines) + "\n"


def expiry(now: str, ttl_s: float) -> str:
    """When something signed now stops to hold."""
    return (_time(now) + dt.timedelta(seconds=ttl_s)).strftime(EXPIRES)


def must_be_of_plan(text: Approval, expected: str) -> None:
    """Whether a text is the one to be signed now; `expected` has the text's own expiry and version. Raises Denied.

    Nothing is known of who signed it: that is asked of the signature, after this.
    """
    if text.document == expected:
        return
    other, plan = differences(text.document, expected), text.says.get("plan", "")
    if not other and f"\nplan: {plan}\n" in expected:
        raise Denied(
            Denial.PLAN_ALTERED,
            "What was signed says the same as the text that is to be signed, and is another text: it has a line more "
            "or less, other line ends, or letters that are not seen (a byte order mark, say).",
            next="sign what `sluice approve --print` (or `sign-off --print`) shows, byte for byte",
        )
    raise Denied(
        Denial.PLAN_ALTERED,
        f"What was signed (plan {shortened(plan, 12)}) is not what would be done now: "
        f"{other or 'a commit, a rule of the policy or a value of the env file is another'}.",
        next=f"look at `sluice plan --env prod`, then: {text.anew}",
    )


def must_hold_now(text: Approval, who: str, now: str, ttl_s: float) -> None:
    """Whether it is neither over nor for longer than the policy lets it; `who` was proven to sign it. Raises Denied."""
    until, left = text.says.get("expires", ""), (_expires(text) - _time(now)).total_seconds()
    if left <= 0:
        raise Denied(Denial.APPROVAL_EXPIRED, f"The signature of {who} held until {until}.", next=text.anew)
    # A second of grace: the text holds whole seconds, and ours has thousandths.
    if left > ttl_s + 1:
        raise Denied(
            Denial.APPROVAL_TOO_LONG,
            f"The signature of {who} would hold until {until}; the policy's limit is {_lasting(ttl_s)}.",
            next="sign the text that `sluice approve --print` shows",
        )


def differences(signed: str, expected: str) -> str:
    """Which lines say something else, in words, but the plan's hash. "": none does."""
    was, now = (dict(line.partition(": ")[::2] for line in text.splitlines()[1:]) for text in (signed, expected))
    other = [name for name in (now | was) if was.get(name, "") != now.get(name, "") and name != "plan"]
    found = [f"{_said(name)}, {_apart(now.get(name, ''), was.get(name, ''))}" for name in other[:DIFFERENCES]]
    if len(other) > DIFFERENCES:
        found.append(f"and {len(other) - DIFFERENCES} more lines")
    return "; ".join(found)


def _apart(now: str, was: str) -> str:
    """Both from a little before the first letter that differs: a list may be long, and alike at its beginning."""
    shorter = min(len(now), len(was))  # where one goes on as the other ended, they differ there
    same = next((at for at, (one, other) in enumerate(zip(now, was, strict=False)) if one != other), shorter)
    begin = max(0, same - SHOWN // 2) if max(len(now), len(was)) > SHOWN else 0
    mark = "…" if begin else ""
    return f"now {mark}{_said(now[begin:])}, was {mark}{_said(was[begin:])}"


def _said(text: str | None) -> str:
    return shortened(text or "", SHOWN) or "not said"


def is_over(text: Approval, now: str) -> bool:
    """Whether its time has passed; one that does not say when is not."""
    try:
        return _expires(text) <= _time(now)
    except Denied:
        return False


def _expires(text: Approval) -> dt.datetime:
    """Only as it is written here: nobody chooses another way to say when. Raises Denied."""
    try:
        return dt.datetime.strptime(text.says["expires"], EXPIRES).replace(tzinfo=dt.UTC)
    except (KeyError, ValueError):
        raise Denied(
            Denial.PLAN_ALTERED,
            "What was signed says when it ends in another way than the text that is to be signed.",
            next="sign the text that `sluice approve --print` shows",
        ) from None


def _lasting(seconds: float) -> str:
    """In the unit that says most; of two of a unit, in the next smaller one."""
    unit, name = next((one for one in UNITS if seconds >= 2 * one[0]), UNITS[-1])
    return f"{seconds / unit:.3g} {name}"


def _time(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)
