"""[gates], [promotion] and [signers] of sluice.toml: the policy, effective only from policy_ref.

A candidate must not judge itself: what it would change here is shown in the plan, and holds once it is merged.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

import msgspec

BY_KEY: Final = "by-key"  # the stricter value of approver_not_author


class Role(StrEnum):
    """What a signature of somebody is good for."""

    CHECKS = "checks"  # that the checks passed for a commit (`sluice check --record`)
    CHECKLIST = "checklist"  # that an item of the pre-prod checklist was done
    APPROVE = "approve"  # that this plan may reach prod


class Signer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[signers.NAME]: a person, or a machine that runs checks. NAME is the principal."""

    keys: tuple[str, ...]  # public keys, as the lines of ~/.ssh/id_ed25519.pub
    may: tuple[Role, ...]
    authors: tuple[str, ...] = ()  # names and e-mail addresses this person commits under


class Proof(StrEnum):
    """What proves that the local checks passed."""

    NOTE = "note"  # a signed git note of `sluice check --record`
    STATUS = "status"  # the commit status of the forge
    EITHER = "either"


class SummarySource(StrEnum):
    """Where the summary of a change is looked for."""

    PULL_REQUEST = "pull-request"  # an open one on the forge, with a description
    FRAGMENT = "fragment"  # a file added under `fragments`
    TRAILER = "trailer"  # `Summary: …` in the message of a commit of the branch


class AllowedSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[[gates.allowed_secrets]]: one find that was looked at and is no secret."""

    path: str  # a glob; the find's file must match
    digest: str  # the first 16 hex digits of SHA-256 over the value, as the gate prints them
    reason: str
    reviewed_by: str


class DocsRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[[gates.docs]]: where `code` changed, something of `docs` must have changed too."""

    code: tuple[str, ...]  # globs of paths
    docs: tuple[str, ...]
    but: tuple[str, ...] = ()  # globs taken out of `code`: tests, say


class FreezeKind(StrEnum):
    """Whether a window forbids, or is the only time that is allowed."""

    DENY = "deny"
    ALLOW = "allow"


class FreezeWindow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[[gates.freeze]]: by week day and time of day, or from one local time to another. Deny wins over allow."""

    name: str
    kind: FreezeKind = FreezeKind.DENY
    zone: str = "UTC"  # an IANA time zone
    days: tuple[str, ...] = ()  # mon … sun; empty: every day
    start: str = "00:00"  # HH:MM; a window whose end is not after its start ends on the next day
    end: str = "24:00"
    since: str = ""  # YYYY-MM-DDTHH:MM, local to `zone`; empty: always
    until: str = ""
    environments: tuple[str, ...] = ("test", "prod")
    exempt: tuple[str, ...] = ()  # owners this window does not stop


class GatesSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[gates]. A gate whose rules are empty is `skipped` and says so."""

    branch: str = "feature/[a-z0-9][a-z0-9._-]{0,62}"  # a whole-match regular expression
    required_env: tuple[str, ...] = ()
    checks: tuple[tuple[str, ...], ...] = ()  # argv lists that `sluice check --record` runs in a clean export
    checks_proof: Proof = Proof.EITHER
    checks_status: tuple[str, ...] = ()  # contexts of the forge that must have succeeded
    summary: tuple[SummarySource, ...] = ()  # where the summary may be; the first that has one is taken
    summary_letters: int = 20  # fewer say nothing
    fragments: str = "changes/"
    docs: tuple[DocsRule, ...] = ()
    freeze: tuple[FreezeWindow, ...] = ()
    freeze_exempt: tuple[str, ...] = ()  # owners whom what an operator froze (`sluice freeze`) does not stop
    allowed_secrets: tuple[AllowedSecret, ...] = ()
    never_waive: tuple[str, ...] = ("no-secrets",)  # gates no waiver may pass over


class ChecklistItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[[promotion.checklist]]: what must be true before prod. With `command` a machine looks, else a person signs."""

    id: str
    text: str
    text_ru: str = ""
    command: tuple[str, ...] = ()  # argv, run on the server; exit code 0 is yes
    timeout_s: float = 60


class PromotionSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[promotion]: what an artifact needs to reach prod."""

    approvals: int = 1  # of different people
    approval_ttl_s: float = 3600
    # True: by key where a commit is signed, and by the names in [signers]. "by-key": every commit must be signed, and
    # with a key of somebody else.
    approver_not_author: bool | Literal["by-key"] = False
    proof_ttl_s: float = 7 * 24 * 3600  # an older success in test is stale
    checklist: tuple[ChecklistItem, ...] = ()
