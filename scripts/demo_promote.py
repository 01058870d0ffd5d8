"""`make demo-promote`: what test proved reaches a local prod, once it is merged, confirmed and signed; and not before.

The signer is made up for the demo: her key lies under .demo/keys, and only the demo's own origin names her.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SIGNER = "ann"
KEY_DEADLINE_S = 20  # one key, on a busy machine
# The first time the checklist is open; later what is there was signed for an earlier plan.
UNSIGNED = {"ChecklistOpen", "ApprovalMissing", "PlanAltered", "ApprovalUsed", "ApprovalExpired"}
LEFT_OUT = """Left out here: the proof that `make check` and `make test` passed (`checks` of the policy is empty
in the demo's origin), and a user or a server of its own for prod."""


class Unexpected(Exception):
    """A step of the demo ended otherwise than it must; the sentence says which."""


def key_of(folder: Path) -> Path:
    """The demo's private key, made once. Raises Unexpected without OpenSSH."""
    key = folder / "keys" / SIGNER
    if not key.with_suffix(".pub").exists():
        if shutil.which("ssh-keygen") is None:
            raise Unexpected("approvals are signed with ssh-keygen, and there is none; install OpenSSH and try again")
        key.parent.mkdir(mode=0o700, exist_ok=True)
        key.unlink(missing_ok=True)  # half of a pair: it was killed in between
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"{SIGNER}@demo", "-f", str(key)]
        subprocess.run(make, check=True, timeout=KEY_DEADLINE_S, stdin=subprocess.DEVNULL)
    return key


def signers(folder: Path) -> str:
    """The section of sluice.toml that names her."""
    public = key_of(folder).with_suffix(".pub").read_text().strip()
    return f'\n[signers.{SIGNER}]\nkeys = ["{public}"]\nmay = ["checklist", "approve"]\nauthors = ["Ann"]\n'


@dataclass(frozen=True)
class Story:
    """The promotion, step by step; each shows its command, and must end as it is told here."""

    folder: Path
    service: str
    show: Callable[..., int]  # runs sluice in this terminal, from the checkout; its exit code
    ask: Callable[..., str]  # runs sluice unseen; what it printed
    git: Callable[..., str]  # runs git in the origin; what it printed

    @property
    def where(self) -> tuple[str, ...]:
        """The options that name prod."""
        return ("--env", "prod", "--service", self.service)

    def tell(self, serves: Callable[[], str]) -> None:
        """All of it. `serves` is the commit that prod's users get. Raises Unexpected."""
        begun = time.monotonic()
        _title("A feature branch never reaches prod")
        self._refused({"FeatureBranch"}, "--branch", "feature/demo")
        _title("It is merged: main is now the very tree that test proved")
        print(f"\n$ git -C {self.folder}/origin.git fetch . feature/demo:main", flush=True)
        self.git("fetch", "--quiet", ".", "feature/demo:main")
        main = self.git("rev-parse", "--short=12", "main")
        print(f"\nmain is at {main}.")
        if serves().startswith(main):
            print(f"\nprod serves {main} already, so there is nothing to promote.")
        else:
            self._promote()
        _title("The record of prod: signed, chained, and kept on the origin too")
        self._must(0, "log", "verify", *self.where)
        now = serves()
        if not now.startswith(main):
            raise Unexpected(f"prod serves {now[:12] or 'nothing'}, and main is {main}")
        print(f"\nThat took {time.monotonic() - begun:.0f} s. {LEFT_OUT}")

    def _promote(self) -> None:
        self._must(0, "plan", *self.where)
        plan = json.loads(self.ask("plan", *self.where, "--json"))["plan"]
        if plan["hash"] not in self._approved():  # it is, when an earlier try was stopped half-way
            _title("Nobody has confirmed that plan")
            self._refused(UNSIGNED)
        _title(f"{SIGNER} signs off the checklist of deploy/sluice.toml, and approves the plan")
        key = ("--yes", "--key", str(key_of(self.folder)))
        for item in plan["promotion"]["rules"]["checklist"]:
            if not item["command"]:
                self._signed_off(item["id"], key)
        self._must(0, "approve", *self.where, *key)
        _title("Now it may")
        self._must(0, "promote", *self.where)

    def _records(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.ask("log", *self.where, "--json").splitlines()]

    def _approved(self) -> set[str]:
        """The plans that were approved once."""
        return {record["plan"] for record in self._records() if record["type"] == "approval"}

    def _signed_off(self, item: str, key: tuple[str, ...]) -> None:
        """The text above the last line is the one that the approval shows in full, and the item."""
        command = ("sign-off", *self.where, "--item", item, *key)
        print(f"\n$ sluice {shlex.join(command)}\n", flush=True)
        print(self.ask(*command).splitlines()[-1])

    def _refused(self, codes: set[str], *more: str) -> None:
        self._must(1, "promote", *self.where, *more)
        found = self._records()[-1]["refusal"]
        if found not in codes:
            raise Unexpected(f"this was to be refused with {' or '.join(sorted(codes))}, and it was with {found}")
        print(f"\nRefused and recorded: {found}.")

    def _must(self, code: int, *arguments: str) -> None:
        ended = self.show(*arguments)
        if ended != code:
            raise Unexpected(f"`sluice {arguments[0]}` ended with {ended} where {code} was right; it says why above")


def _title(text: str) -> None:
    bold, plain = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")
    print(f"\n{bold}== {text}{plain}", flush=True)
