"""The rules of [gates], [promotion] and [signers]: a policy nobody could follow is refused before anybody waits."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sluice.config.rules import NAME, Rules, is_inside
from sluice.gates.run import GATES
from sluice.gates.windows import DAYS
from sluice.hosts.signing import fingerprint
from sluice.model.policy import FreezeWindow, GatesSpec, PromotionSpec, Proof, Signer
from sluice.model.spec import EnvironmentName

PRINCIPAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,79}")
TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d|24:00")
DIGEST = re.compile(r"[0-9a-f]{16}")
LONGEST_S = 366 * 24 * 3600  # a year: an approval or a proof that holds longer is none


class PolicyRules(Rules):
    """What the policy's tables must say."""

    def judge(self, gates: GatesSpec, promotion: PromotionSpec, signers: Mapping[str, Signer]) -> None:
        """Raises ConfigError."""
        self._gates(gates)
        for rule in gates.docs:
            for key in ("code", "docs"):
                self._must(bool(getattr(rule, key)), "$.gates.docs", f"has a rule with an empty `{key}`")
            for glob in (*rule.code, *rule.docs, *rule.but):
                self._glob(glob, "$.gates.docs")
                self._matching(glob, "$.gates.docs")
        names = [window.name for window in gates.freeze]
        for window in gates.freeze:
            self._must(names.count(window.name) == 1, "$.gates.freeze", f"has two windows named {window.name!r}")
            self._window(window)
        for allowed in gates.allowed_secrets:
            path = "$.gates.allowed_secrets"
            self._glob(allowed.path, path)
            digest = bool(DIGEST.fullmatch(allowed.digest))
            self._must(digest, path, f"{allowed.digest!r} is not a digest: 16 hex digits, as the gate prints them")
            reviewed = bool(allowed.reason.strip()) and bool(allowed.reviewed_by.strip())
            self._must(reviewed, path, f"{allowed.digest} needs a reason, and who reviewed it")
        self._promotion(promotion)
        self._signers(signers)

    def _gates(self, gates: GatesSpec) -> None:
        for argv in gates.checks:
            self._must(bool(argv) and all(argv), "$.gates.checks", "has an empty command, or an empty word in one")
        unproven = gates.checks_proof is Proof.NOTE and not gates.checks
        self._must(not unproven, "$.gates.checks", 'is empty, and checks_proof = "note" needs commands to record')
        ignored = gates.checks_proof is Proof.NOTE and gates.checks_status
        self._must(not ignored, "$.gates.checks_status", 'is never asked with checks_proof = "note"')
        unnamed = gates.checks_proof is Proof.STATUS and gates.checks and not gates.checks_status
        told = 'is empty: name the contexts that run `checks`, or take checks_proof = "note"'
        self._must(not unnamed, "$.gates.checks_status", told)
        for key in ("checks_status", "summary", "never_waive"):
            values = getattr(gates, key)
            self._must(len(set(values)) == len(values) and all(values), f"$.gates.{key}", "repeats itself, or is empty")
        self._must(gates.summary_letters >= 1, "$.gates.summary_letters", "must be at least 1")
        self._glob(gates.fragments.rstrip("/"), "$.gates.fragments")
        for gate in gates.never_waive:
            known = ", ".join(sorted(GATES))
            self._must(gate in GATES, "$.gates.never_waive", f"{gate!r} is no gate; use of: {known}")

    def _glob(self, text: str, path: str) -> None:
        self._must(is_inside(text), path, f"{text!r} must be a path inside the repository")

    def _matching(self, glob: str, path: str) -> None:
        """A glob that no path of a repository can match is a rule that never asks for anything. See also `doubts`."""
        self._must(not glob.endswith("/"), path, f"{glob!r} is a folder, and files are matched: write {glob + '**'!r}")
        plain = glob.removeprefix("./")
        self._must(plain == glob, path, f"{glob!r} begins with ./, and no path does: write {plain!r}")

    def _window(self, window: FreezeWindow) -> None:
        path = "$.gates.freeze"
        self._must(bool(window.name.strip()), path, "has a window without a name")
        where = f"{path}[{window.name}]"
        try:
            ZoneInfo(window.zone)
            known = bool(window.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            known = False
        self._must(known, f"{where}.zone", f"{window.zone!r} is not an IANA time zone, e.g. Europe/Moscow")
        self._must(set(window.days) <= set(DAYS), f"{where}.days", f"must be of: {', '.join(DAYS)}")
        for key in ("start", "end"):
            text = getattr(window, key)
            self._must(bool(TIME.fullmatch(text)), f"{where}.{key}", f"{text!r} is not HH:MM")
        self._must(window.start != "24:00", f"{where}.start", "is the end of a day; use 00:00")
        since, until = (self._moment(getattr(window, key), f"{where}.{key}") for key in ("since", "until"))
        self._must(since is None or until is None or since < until, f"{where}.until", "must be after since")
        environments = {one.value for one in EnvironmentName}
        sane = bool(window.environments) and set(window.environments) <= environments
        self._must(sane, f"{where}.environments", f"must be of: {', '.join(sorted(environments))}")

    def _moment(self, text: str, path: str) -> dt.datetime | None:
        if not text:
            return None
        try:
            found = dt.datetime.strptime(text, "%Y-%m-%dT%H:%M")  # noqa: DTZ007 - local to the window's zone
        except ValueError:
            found = None
        self._must(found is not None, path, f"{text!r} is not YYYY-MM-DDTHH:MM (no zone: it is local to `zone`)")
        return found

    def _promotion(self, promotion: PromotionSpec) -> None:
        self._must(promotion.approvals >= 1, "$.promotion.approvals", "must be at least 1: somebody answers for prod")
        for key in ("approval_ttl_s", "proof_ttl_s"):
            value = getattr(promotion, key)
            sane = math.isfinite(value) and 0 < value <= LONGEST_S
            self._must(sane, f"$.promotion.{key}", f"must be above 0 and at most {LONGEST_S}")
        ids = [item.id for item in promotion.checklist]
        for item in promotion.checklist:
            path = "$.promotion.checklist"
            self._must(bool(NAME.fullmatch(item.id)), path, f"{item.id!r} is not an id of the form [a-z0-9-]")
            self._must(ids.count(item.id) == 1, path, f"has two items {item.id!r}")
            self._must(bool(item.text.strip()), path, f"{item.id} has no text")
            self._must(all(item.command), path, f"{item.id} has an empty word in its command")
            self._must(
                math.isfinite(item.timeout_s) and item.timeout_s > 0, path, f"{item.id}: timeout_s must be positive"
            )

    def _signers(self, signers: Mapping[str, Signer]) -> None:
        owners: dict[str, str] = {}
        for name, signer in signers.items():
            path = f"$.signers.{name}"
            self._must(bool(PRINCIPAL.fullmatch(name)), path, "is not a name of letters, digits and . _ @ + -")
            self._must(bool(signer.keys), f"{path}.keys", "is empty")
            self._must(bool(signer.may), f"{path}.may", "is empty: this signature would be good for nothing")
            for key in signer.keys:
                found = fingerprint(key)
                self._must(
                    bool(found), f"{path}.keys", "has something that is no public key; use the line of a .pub file"
                )
                other = owners.setdefault(found, name)
                # One key for two people would let one of them be approver and author at once.
                self._must(other == name, f"{path}.keys", f"has a key that is {other}'s too")
