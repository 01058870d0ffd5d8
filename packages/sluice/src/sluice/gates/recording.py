"""`sluice check --record`: run the policy's checks over a clean export of a commit, and sign what came of them.

Works in any clone, without host.toml. The work tree is not touched: what is not committed is not checked.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sluice.gates.attestation import Attestation, Ran, commands_hash, document_of, line_of
from sluice.hosts.git_clone import Clone
from sluice.hosts.signing import fingerprint, sign, verify
from sluice.model.errors import Refused, StepFailed
from sluice.model.policy import Role, Signer
from sluice.model.spec import ServiceSpec
from sluice.model.verdict import counted
from sluice.ports import Clock, Progress
from sluice.runner import LocalRunner, minimal_environment

CHECK_S = 3600.0  # one command: a whole test suite on a slow laptop
TOOL_S = 10.0  # a program that says its version
PREFIX = "sluice-check-"
LEADS_BACK = {"PYTHONPATH", "NODE_PATH", "VIRTUAL_ENV"}  # to what is not committed
TRIAL = b"Sluice asks whether this key signs, before the checks take their time."


@dataclass(frozen=True)
class Recording:
    """What is to be done, and with what."""

    clone: Clone
    runner: LocalRunner
    clock: Clock
    policy: ServiceSpec  # of policy_ref
    key: Path | None  # the private key, or the public half of one in the agent; None: one of the agent's
    progress: Progress
    version: str  # of Sluice


async def record(recording: Recording, ref: str) -> Attestation:
    """Check, sign, and add the record to the commit's note.

    Raises Refused when the key is nobody's, a check fails or the export is not the commit's tree: nothing was recorded.
    """
    made, checks = recording, recording.policy.gates.checks
    if not checks:
        raise Refused("The policy names no checks to record ([gates] checks).", next="name them on the policy branch")
    sha, tree = await made.clone.commit_of(ref)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        key, principal = await _key(made, Path(folder))
        export = Path(folder, "tree")
        made.progress(f"exporting {sha[:12]}, tree {tree[:12]}")
        await made.clone.export(sha, export)
        found = await made.clone.tree_of(export)
        if found != tree:
            raise Refused(
                f"A clean export of {sha[:12]} is not its tree ({found[:12]} instead of {tree[:12]}).",
                next="take export-ignore and export-subst out of .gitattributes, and where it says `text` or `eol`, "
                "commit after `git add --renormalize .`; submodules cannot be recorded",
            )
        await made.clone.make_clone(export, sha)
        started = made.clock.now()
        results = []
        for argv in checks:
            results.append(await _run(made, argv, export))
            await _must_be_unchanged(made, argv, export, sha, tree)
        attestation = Attestation(
            commit=sha,
            tree=tree,
            commands=commands_hash(checks),
            results=tuple(results),
            tools=await _tools(made),
            started=started,
            ended=made.clock.now(),
            principal=principal,
        )
        document = document_of(attestation)
        signature = await sign(made.runner, document.encode(), key, Role.CHECKS)
        await verify(made.runner, document.encode(), signature, made.policy.signers, Role.CHECKS)
        await made.clone.add_note(sha, line_of(document, signature), principal)
        await asyncio.to_thread(shutil.rmtree, export)  # tens of thousands of files, perhaps; the folder goes with it
    made.progress(f"recorded for {sha[:12]}: {principal} signed that {counted(len(results), 'check')} ended well")
    return attestation


async def _run(made: Recording, argv: tuple[str, ...], export: Path) -> Ran:
    made.progress(f"{shlex.join(argv)} …")
    done = await made.runner.run(argv, timeout_s=CHECK_S, cwd=export, environment=_environment(os.environ, export))
    if done.exit_code or done.timed_out:
        for line in (done.stdout + done.stderr).splitlines()[-40:]:
            made.progress(f"  {line}")
        how = f"did not end within {CHECK_S:g} s" if done.timed_out else f"ended with exit code {done.exit_code}"
        raise Refused(f"{shlex.join(argv)} {how}.", world="Nothing was recorded.", next="mend it, commit, and repeat")
    made.progress(f"{shlex.join(argv)}: good, {done.ms / 1000:.1f} s")
    return Ran(argv, done.exit_code, done.ms)


async def _must_be_unchanged(made: Recording, argv: tuple[str, ...], export: Path, sha: str, tree: str) -> None:
    """What a check mended by itself, the next one would pass without anybody having committed it. Raises Refused."""
    now = await made.clone.tree_of(export, tracked_by=sha)
    if now == tree:
        return
    paths = await made.clone.paths_between(tree, now)
    others = f" and {len(paths) - 1} more" if paths[1:] else ""
    raise Refused(
        f"{shlex.join(argv)} changed {paths[0]}{others}: what passes after that is not {sha[:12]}.",
        world="Nothing was recorded.",
        next="let it look without writing (a formatter's --check, `npm ci`), or commit what it writes, and repeat",
    )


def _environment(mine: Mapping[str, str], export: Path) -> dict[str, str]:
    # The person's own, as they would type the commands; but nothing that leads git or an import back into the clone.
    kept = {name: value for name, value in mine.items() if not name.startswith("GIT_") and name not in LEADS_BACK}
    return (kept or minimal_environment()) | {"GIT_CEILING_DIRECTORIES": str(export.parent)}


async def _tools(made: Recording) -> dict[str, str]:
    told = {"sluice": made.version, "python": platform.python_version(), "system": platform.platform()}
    for name, argv in (("git", ("git", "--version")), ("ssh", ("ssh", "-V"))):
        done = await made.runner.run(argv, timeout_s=TOOL_S)
        told[name] = next(iter((done.stdout or done.stderr).strip().splitlines()), "unknown")[:100]
    return told


# ---------------------------------------------------------------- the key


async def _key(made: Recording, folder: Path) -> tuple[Path, str]:
    """A key that signs, and whose it is by the policy: known before the checks take their time. Raises Refused."""
    if made.key is None:
        key, principal = await _of_agent(made, folder)
    else:
        key, found = made.key, fingerprint(await _public(made, made.key))
        principal = _principal(made.policy.signers, found)
        if not principal:
            raise _nobody(f"{key} ({found or 'no key'})", made.policy.signers)
    await sign(made.runner, TRIAL, key, Role.CHECKS)
    return key, principal


async def _public(made: Recording, key: Path) -> str:
    beside = key if key.suffix == ".pub" else key.with_name(f"{key.name}.pub")
    try:
        return beside.read_text()
    except OSError:
        done = await made.runner.run(["ssh-keygen", "-y", "-P", "", "-f", str(key)], timeout_s=TOOL_S)
        if done.exit_code:
            raise Refused(
                f"the key {key} cannot be read, and there is no {beside}.",
                next="name the private key with --key, or add it to ssh-agent and name its public half",
            ) from None
        return done.stdout


async def _of_agent(made: Recording, folder: Path) -> tuple[Path, str]:
    agent = {name: os.environ[name] for name in ("SSH_AUTH_SOCK",) if name in os.environ}
    done = await made.runner.run(["ssh-add", "-L"], timeout_s=TOOL_S, environment=minimal_environment() | agent)
    lines = done.stdout.splitlines() if agent and done.exit_code == 0 else []
    for line in lines:
        principal = _principal(made.policy.signers, fingerprint(line))
        if principal:
            path = folder / "key.pub"
            path.write_text(f"{line}\n")
            return path, principal
    held = f"of the {len(lines)} keys in ssh-agent" if lines else "in ssh-agent, which holds no key or does not run,"
    raise _nobody(f"None {held}", made.policy.signers)


def _principal(signers: Mapping[str, Signer], wanted: str) -> str:
    for name, signer in signers.items():
        if Role.CHECKS in signer.may and wanted in {fingerprint(key) for key in signer.keys} - {""}:
            return name
    return ""


def _nobody(which: str, signers: Mapping[str, Signer]) -> Refused:
    known = [name for name, signer in signers.items() if Role.CHECKS in signer.may]
    verb = "belongs to" if which.startswith("None") else "does not belong to"
    who = f"anybody who may sign checks ({', '.join(known) or 'the policy names nobody'})"
    return Refused(
        f"{which} {verb} {who}.",
        world="Nothing was run.",
        next='--key PATH of such a key; or merge it into [signers] of the policy, with may = ["checks"]',
    )


async def policy_spec(clone: Clone, ref: str, paths: tuple[str, ...]) -> tuple[bytes, str]:
    """The service's specification at the policy's branch, and what it is called. Raises StepFailed without one."""
    for path in paths:
        raw = await clone.read(ref, path)
        if raw is not None:
            return raw, f"{ref}:{path}"
    raise StepFailed(f"{ref} has no {' and no '.join(paths)}.", next="name the policy's branch with --policy")
