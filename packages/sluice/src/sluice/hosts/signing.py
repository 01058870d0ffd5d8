"""Signatures of people and machines, by ssh-keygen(1) -Y: whoever has an SSH key can sign, and nothing is installed.

A signature is over the exact bytes of a document, for one namespace. Whether the key is somebody's is looked up in
[signers] of the policy, by the whole key.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import re
import shlex
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sluice.model.errors import CodedRefusal, Refused, StepFailed
from sluice.model.policy import Role, Signer
from sluice.ports import Runner
from sluice.runner import minimal_environment

NAMESPACES: Mapping[Role, str] = {
    Role.CHECKS: "sluice-checks",
    Role.CHECKLIST: "sluice-checklist",
    Role.APPROVE: "sluice-approval",
}
KEYGEN_S = 30.0  # signing with a key on a token waits for a finger
MAX_SIGNATURE = 64 * 1024  # an RSA-16384 signature with a certificate is far below
GOOD = re.compile(r'^Good "[^"]*" signature with \S+ key (SHA256:\S+)', re.MULTILINE)


class BadSignature(CodedRefusal):
    """`code` says how: SignatureAltered, SignatureForeign or SignatureRole."""


@dataclass(frozen=True, slots=True)
class Signed:
    """Who signed, and with which key."""

    principal: str
    fingerprint: str


async def sign(runner: Runner, document: bytes, key: Path, role: Role) -> str:
    """The armoured signature of the document by this private key (or the public one of a key in the agent).

    Raises Refused when the key cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="sluice-sign-") as folder:
        path = Path(folder, "document")
        path.write_bytes(document)
        argv = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", NAMESPACES[role], str(path)]
        agent = {name: os.environ[name] for name in ("SSH_AUTH_SOCK",) if name in os.environ}
        done = await runner.run(argv, timeout_s=KEYGEN_S, environment=minimal_environment() | agent)
        signature = path.with_name("document.sig")
        if done.exit_code or not signature.exists():
            raise _unusable(key, (done.stderr or done.stdout).strip().splitlines())
        return signature.read_text()


def _unusable(key: Path, said: list[str]) -> Refused:
    """Why a key does not sign. Of one that others may read ssh-keygen says so only in the middle of its lines."""
    with contextlib.suppress(OSError):
        found = key.stat()
        if found.st_uid == os.getuid() and found.st_mode & 0o077 and key.suffix != ".pub":
            mode = stat.S_IMODE(found.st_mode)
            return Refused(
                f"{key} does not sign: its mode is {mode:04o}, and ssh takes no private key that others may read.",
                next=f"chmod 600 {shlex.quote(str(key))}",
            )
    reason = said[-1].rstrip(".") if said else "it did not end within its deadline"
    return Refused(
        f"{key} does not sign: {reason}.",
        next="name the private key, or the public half of one that ssh-agent holds, with --key",
    )


def known_fingerprint(key: Path) -> str:
    """Of a key's public half, where that lies beside it; else "": then only a signature tells whose it is."""
    try:
        return fingerprint((key if key.suffix == ".pub" else key.with_name(f"{key.name}.pub")).read_text())
    except (OSError, UnicodeDecodeError):
        return ""


async def verify(runner: Runner, document: bytes, signature: str, signers: Mapping[str, Signer], role: Role) -> Signed:
    """Who signed exactly this document for this role. Raises BadSignature, and StepFailed without ssh-keygen."""
    if len(signature) > MAX_SIGNATURE:
        raise BadSignature("SignatureAltered", "The signature is too long to be one.")
    with tempfile.TemporaryDirectory(prefix="sluice-verify-") as folder:
        path = Path(folder, "signature")
        path.write_text(signature)
        argv = ["ssh-keygen", "-Y", "check-novalidate", "-n", NAMESPACES[role], "-s", str(path)]
        done = await runner.run(argv, timeout_s=KEYGEN_S, stdin=document)
    if done.timed_out:
        raise StepFailed(f"ssh-keygen did not end within {KEYGEN_S:g} s.")
    good = GOOD.search(done.stdout)
    if done.exit_code or good is None:
        raise BadSignature("SignatureAltered", "The signature does not belong to this text.", "sign it again")
    return whose(good[1], signers, role)


def whose(found: str, signers: Mapping[str, Signer], role: Role) -> Signed:
    """Who has the key of this fingerprint, and may sign with it for this role. Raises BadSignature."""
    holders = [name for name, signer in signers.items() if found in {fingerprint(key) for key in signer.keys}]
    # A key under two names is refused where a policy is read; here the role decides, not the order of the names.
    for principal in holders:
        if role in signers[principal].may:
            return Signed(principal, found)
    if holders:
        raise BadSignature(
            "SignatureRole",
            f"{' and '.join(holders)} signed, whom the policy does not let sign for {role.value!r}.",
            f'add "{role.value}" to `may` of [signers.{holders[0]}] on the policy branch, or ask somebody else',
        )
    raise BadSignature(
        "SignatureForeign",
        f"The key {found} is nobody's: no entry of [signers] on the policy branch has it.",
        "sign with a key of [signers], or merge the key into the policy first",
    )


def lets_sign(signers: Mapping[str, Signer], key: str, role: Role) -> bool:
    """Whether a policy lets the key of this fingerprint sign for the role."""
    return any(role in one.may and key in {fingerprint(public) for public in one.keys} for one in signers.values())


def fingerprint(public: str) -> str:
    """SHA256:… of a public key line, or "" when it is none."""
    words = public.split()
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (IndexError, binascii.Error, ValueError):
        return ""
    length = int.from_bytes(blob[:4], "big")
    if blob[4 : 4 + length] != words[0].encode():
        return ""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
