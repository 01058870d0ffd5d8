"""Whether somebody who approves wrote any of what they approve, as far as commits can tell. Pure.

An author's name and address are what whoever commits chose to write; only a signature says more. So there are two
rules: by all that is known of a commit, and, stricter, by keys: what nobody else's known key signed may be theirs.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sluice.hosts.signing import Signed, fingerprint
from sluice.model.policy import BY_KEY, Signer
from sluice.model.promotion import Authored, Denial, Denied, Promotion
from sluice.model.text import one_line


@dataclass(frozen=True, slots=True)
class Person:
    """All that the policies know of somebody who signed: who shares a name or a key with them is the same person."""

    names: frozenset[str]  # of entries in [signers]
    keys: frozenset[str]
    authors: frozenset[str]  # names and addresses they commit under, as they are written

    def is_also(self, other: Person) -> bool:
        """Whether any name or key of theirs is the other's."""
        return bool(self.names & other.names or self.keys & other.keys)


def person_of(signed: Signed, policies: Iterable[Mapping[str, Signer]]) -> Person:
    """Under whatever names the policies have them: an entry that was renamed or split is still one person's."""
    entries = [(name, one, _keys(one)) for policy in policies for name, one in policy.items()]
    names, keys, authors = {signed.principal}, {signed.fingerprint}, {signed.principal}
    while found := [entry for entry in entries if entry[0] in names or entry[2] & keys]:
        entries = [entry for entry in entries if entry not in found]
        for name, one, own in found:
            names.add(name)
            keys |= own
            authors |= {name, *one.authors}
    return Person(frozenset(names), frozenset(keys), frozenset(authors))


def policies_of(signers: Mapping[str, Signer], about: Promotion) -> list[Mapping[str, Signer]]:
    """The candidate's signers, and those of every policy before it."""
    return [signers, *(one.signers for one in about.before)]


def must_be_no_author(signed: Signed, signers: Mapping[str, Signer], about: Promotion) -> None:
    """Of every commit that is new to users; the first time, of all there are. Raises Denied."""
    rule = about.rules.approver_not_author
    if not rule:
        return
    changes = (*about.commits, *about.authors)
    policies = policies_of(signers, about)
    person = person_of(signed, policies)
    names = _folded(person.authors)
    for change in changes:
        if names & _folded(change.people) or (change.key and change.key in person.keys):
            raise Denied(
                Denial.APPROVAL_BY_AUTHOR,
                f"{signed.principal} approved, and is an author of {change.sha[:12]} ({change.subject}).",
                next="let somebody approve who wrote none of it",
            )
    if rule == BY_KEY:
        for change in changes:
            _must_be_anothers(signed, change, policies)


def _must_be_anothers(signed: Signed, change: Authored, policies: Iterable[Mapping[str, Signer]]) -> None:
    if not change.key:
        why = "bears no SSH signature that holds"
    elif all(_owner(policy, change.key) for policy in policies):
        return  # of somebody else: the approver's own were looked for before
    else:
        why = f"is signed with {change.key}, which is nobody's in [signers], or was not at the last promotion"
    raise Denied(
        Denial.AUTHOR_UNKNOWN,
        f"{change.sha[:12]} ({change.subject}) {why}: that {signed.principal} did not write it cannot be shown.",
        next="let its author sign it (`git commit --amend -S`, `git rebase --exec`) with a key of [signers]; or take "
        'approver_not_author = true instead of "by-key"',
    )


def _owner(policy: Mapping[str, Signer], key: str) -> str:
    return next((name for name, one in policy.items() if key in _keys(one)), "")


def _keys(signer: Signer) -> set[str]:
    return {fingerprint(public) for public in signer.keys} - {""}


def _folded(names: Iterable[str]) -> set[str]:
    # Hosts of mail and people write names in capitals or not, and letters with their accent as one sign or two; nobody
    # is two people by that.
    folded = (unicodedata.normalize("NFKC", name).casefold() for name in names)
    return {one_line(unicodedata.normalize("NFKC", name)) for name in folded} - {""}
