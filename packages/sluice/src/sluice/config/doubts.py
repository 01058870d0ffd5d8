"""What a sluice.toml says rightly and cannot mean: nobody is stopped by it, and `config check` says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sluice.config.rules import is_inside
from sluice.config.service_rules import commands_of
from sluice.model.policy import Proof, Role
from sluice.model.spec import ServiceSpec

NOTHING_PROMOTED = "nothing can be promoted to prod until [signers] on the policy branch names more"


def doubts(spec: ServiceSpec, root: Path) -> list[str]:
    """One sentence for each, with the key's path. `root`: the checkout that the file was found in."""
    return [*_of_signers(spec), *_of_globs(spec, root), *_of_relative_files(spec, root)]


def _of_signers(spec: ServiceSpec) -> Iterator[str]:
    def who(role: Role) -> list[str]:
        return sorted(name for name, signer in spec.signers.items() if role in signer.may)

    promotion, approvers = spec.promotion, who(Role.APPROVE)
    if len(approvers) < promotion.approvals:
        named = f"{len(approvers)} ({', '.join(approvers)})" if approvers else "nobody"
        yield f"$.promotion.approvals is {promotion.approvals}, and {named} may approve: {NOTHING_PROMOTED}"
    by_hand = [item.id for item in promotion.checklist if not item.command]
    if by_hand and not who(Role.CHECKLIST):
        yield f"$.promotion.checklist: nobody may sign off {', '.join(by_hand)}: {NOTHING_PROMOTED}"
    if spec.gates.checks_proof is Proof.NOTE and not who(Role.CHECKS):
        yield '$.gates.checks_proof is "note", and nobody may sign "checks": no branch can pass checks-passed'


def _of_globs(spec: ServiceSpec, root: Path) -> Iterator[str]:
    for glob in (glob for rule in spec.gates.docs for glob in (*rule.code, *rule.docs, *rule.but)):
        parts = Path(glob).parts
        meant = [at for at, part in enumerate(parts, 1) if set(part) & set("{}[]")]
        # Folders are called so where a router takes their names for parameters.
        if not all(_is_there(root, parts[:at]) for at in meant):
            yield f"$.gates.docs: {glob!r} has braces or brackets, which are letters here: write a glob for each, or ?"


def _is_there(root: Path, parts: Sequence[str]) -> bool:
    # A whole tree is not gone through for a doubt. To pathlib's globs a bracket is no letter, unless it is said so.
    near = not any("**" in part for part in parts)
    return near and any(root.glob("/".join(part.replace("[", "[[]") for part in parts)))


def _of_relative_files(spec: ServiceSpec, root: Path) -> Iterator[str]:
    for path, argv in commands_of(spec).items():
        for word in argv:
            if is_inside(word) and (root / word).is_file():
                yield (
                    f"{path} has {word!r}, and programs start in a data folder, not in the checkout: "
                    f"write {{artifact}}/tree/{Path(word)}"
                )
