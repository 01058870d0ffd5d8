"""`checks-passed`: the local checks passed for this commit, by a signed note or by the forge's commit statuses."""

from __future__ import annotations

import dataclasses

from sluice.gates.attestation import MAX_RECORDS, Signed, attestation_of, named, objection, signed_of
from sluice.gates.context import GateContext, forge_code
from sluice.hosts.forge import CommitStatus
from sluice.hosts.forge_dialects import StatusState
from sluice.hosts.git_clone import NOTES
from sluice.hosts.signing import BadSignature, lets_sign, verify
from sluice.model.errors import ProbeBroken, Refused
from sluice.model.policy import GatesSpec, Proof, Role
from sluice.model.text import one_line
from sluice.model.verdict import Finding, Verdict, coded

NAME = "checks-passed"
SHOWN = 4  # reasons, or contexts, in one sentence
RECORD = "sluice check --record --push"


@dataclasses.dataclass(frozen=True)
class Answer:
    """What one kind of proof says."""

    verdict: Verdict
    detail: str
    fix: str = ""
    codes: tuple[str, ...] = ()


async def checks_passed(context: GateContext) -> Finding:
    """Raises ProbeBroken when the forge cannot be asked and nothing else proves it."""
    policy = context.policy
    if not policy.checks and not policy.checks_status and policy.checks_proof is not Proof.STATUS:
        return Finding(NAME, Verdict.SKIPPED, detail="The policy names no checks ([gates] checks, checks_status).")
    answers: list[Answer] = []
    if policy.checks_proof is not Proof.STATUS and policy.checks:
        answers.append(await _by_note(context))
    # Without names every success would do, also that of a robot which ran no check.
    wanted = policy.checks_proof is Proof.STATUS or bool(policy.checks_status)
    if policy.checks_proof is not Proof.NOTE and wanted and not _proven(answers):
        answers.append(await _by_status(context))
    if not answers:
        return Finding(
            NAME,
            Verdict.FAIL,
            detail="The policy wants a signed note, and names no commands ([gates] checks) it could be about.",
            fix="name them on the policy branch, or take another checks_proof",
            metrics=coded("ChecksUnnamed"),
        )
    return _finding(answers)


def _proven(answers: list[Answer]) -> bool:
    return any(one.verdict is Verdict.PASS for one in answers)


def _finding(answers: list[Answer]) -> Finding:
    good = [one for one in answers if one.verdict is Verdict.PASS]
    told = good or answers
    # What is still under way may yet prove it; then it is too early for a no.
    verdict = Verdict.PASS if good else max((one.verdict for one in answers), key=_WEIGHT.__getitem__)
    codes = [code for one in told for code in one.codes]
    return Finding(
        NAME,
        verdict,
        detail=" ".join(one.detail for one in told),
        fix="" if good else "; or ".join(dict.fromkeys(one.fix for one in told if one.fix)),
        metrics=coded(*codes) if codes else {},
    )


_WEIGHT = {Verdict.FAIL: 0, Verdict.INCONCLUSIVE: 1, Verdict.ERROR: 2}


# ---------------------------------------------------------------- the signed note


async def _by_note(context: GateContext) -> Answer:
    sha, tree = context.commit.sha, context.commit.tree
    raw = await context.repo.note(NOTES, sha)
    if raw is None:
        return Answer(
            Verdict.FAIL,
            f"Nobody recorded {named(context.policy.checks)} for {sha[:12]}.",
            f"in a clone at that commit, after a `git fetch`: {RECORD}",
            ("ChecksNoNote",),
        )
    refused: list[tuple[str, str]] = []
    lines = [line for line in raw.decode(errors="replace").splitlines() if line.strip()]
    records = [one for one in map(signed_of, lines) if one is not None]
    if len(records) < len(lines):
        refused.append(("ChecksUnreadable", "a line of it is no record of `sluice check --record`"))
    for record in reversed(records[-MAX_RECORDS:]):
        code, sentence = await _judge(context, record, tree)
        if not code:
            return Answer(Verdict.PASS, sentence)
        refused.append((code, sentence))
    told = list(dict.fromkeys(sentence.rstrip(".") for _, sentence in refused)) or ["it is empty"]
    return Answer(
        Verdict.FAIL,
        f"The note of {sha[:12]} proves nothing: {'; '.join(told[:SHOWN])}.",
        f"`git fetch`, run the checks for this commit and sign: {RECORD}",
        tuple(dict.fromkeys(code for code, _ in refused)),
    )


async def _judge(context: GateContext, signed: Signed, tree: str) -> tuple[str, str]:
    """Code and sentence against a record of the note; no code, and the evidence, when it proves."""
    try:
        who = await verify(context.runner, signed.document.encode(), signed.signature, context.signers, Role.CHECKS)
    except BadSignature as bad:
        words = {"SignatureAltered": "a record was altered after it was signed, or its signature is another's"}
        return bad.code, words.get(bad.code, bad.what)
    for former in context.asked.before:
        if not lets_sign(former.signers, who.fingerprint, Role.CHECKS):
            return "PolicyChanged", (
                f"{who.principal} signed, whose key may sign checks only by what this very candidate changes in the "
                f"policy: that of release {former.release} does not name it for that"
            )
    record = attestation_of(signed.document)
    if record is None:
        return "ChecksUnreadable", f"what {who.principal} signed is no record of checks"
    code, sentence = objection(record, tree, context.policy.checks)
    if code:
        return code, f"{who.principal}'s record: {sentence}"
    took = sum(one.ms for one in record.results) / 1000
    return "", (
        f"{who.principal} ({who.fingerprint}) signed that {named(context.policy.checks)} ended well over tree "
        f"{tree[:12]} at {record.ended}, in {took:.0f} s."
    )


# ---------------------------------------------------------------- the forge's statuses


async def _by_status(context: GateContext) -> Answer:
    if context.forge is None:
        return Answer(
            Verdict.ERROR,
            "The policy asks for the commit status, and host.toml names no forge.",
            "add [service.NAME.forge] to host.toml",
            ("ForgeUnknown",),
        )
    try:
        found = await context.forge.statuses(context.commit.sha)
    except (ProbeBroken, Refused) as broken:
        detail = f"The forge cannot be asked: {broken.what.rstrip('.')}."
        return Answer(Verdict.ERROR, detail, broken.next, (forge_code(broken),))
    return judge_statuses(found, context.policy, context.commit.sha)


def judge_statuses(found: list[CommitStatus], policy: GatesSpec, sha: str) -> Answer:
    """Pure. Every named context must have succeeded; where none is named, every one there is, and at least one."""
    named_ones = policy.checks_status
    asked = [one for one in found if not named_ones or one.context in named_ones]
    contexts = {state: sorted({one.context for one in asked if one.state is state}) for state in StatusState}
    failed, pending = contexts[StatusState.FAILURE], contexts[StatusState.PENDING]
    if failed:
        return Answer(
            Verdict.FAIL, f"Failed for {sha[:12]}: {_some(failed)}.", "mend the branch, and push", ("ChecksFailed",)
        )
    if pending:
        return Answer(
            Verdict.INCONCLUSIVE, f"Not finished for {sha[:12]}: {_some(pending)}.", "wait for it", ("ChecksPending",)
        )
    done = set(contexts[StatusState.SUCCESS])
    lacking = [one for one in named_ones if one not in done]
    if lacking or not done:
        what = f"Without success for {sha[:12]}: {_some(lacking)}." if lacking else f"No check told of {sha[:12]}."
        fix = "let the forge run its checks for this commit (push it), or correct checks_status"
        return Answer(Verdict.FAIL, what, fix, ("ChecksNoStatus",))
    return Answer(Verdict.PASS, f"The forge has success for {sha[:12]}: {_some(sorted(done))}.")


def _some(names: list[str]) -> str:
    # They come from outside: one line each, and not too long.
    shown = [one_line(name)[:80] for name in names[:SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
