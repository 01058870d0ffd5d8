"""What the policy does about an item: whether it holds a release back, is only looked at, or not at all. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum

from sluice.checks.domain import DNS, REDIRECT, TLS, domain_of
from sluice.criteria import CRITERIA
from sluice.gates.run import GATES
from sluice.gates.standing import BESIDE_RULES, switched_on
from sluice.model.policy import Role
from sluice.model.spec import ServiceSpec
from sluice.runbook import phrases
from sluice.runbook.check_items import CHECK_ITEMS, HOST_ITEMS, PLUGIN_ITEMS
from sluice.runbook.facts import Facts
from sluice.runbook.field_items import FIELD_ITEMS
from sluice.runbook.gate_items import GATE_ITEMS
from sluice.runbook.items import Item, Kind, Part, plugin
from sluice.runbook.rule_items import CRITERION_ITEMS, PROMOTION_ITEMS, ROLLBACK_ITEMS, SECURITY_ITEMS
from sluice.runbook.words import Words


class Standing(StrEnum):
    """How much an item weighs."""

    ENFORCED = "enforced"
    OPTIONAL = "optional"  # judged where the service gives it a source; its absence stops nothing
    DRY = "dry"  # judged and recorded, without a veto
    OFF = "off"


_SOURCES: Mapping[str, Callable[[ServiceSpec], bool]] = {
    "ws-disconnects": lambda one: bool(one.smoke.canary),
    "messages": lambda one: bool(one.smoke.canary),
    "call-setup": lambda one: bool(one.smoke.calls),
    "auth": lambda one: bool(one.smoke.refusals or one.watch.metrics_path),
}


def may_approve(policy: ServiceSpec) -> bool:
    """Whether there are as many people as the policy wants approvals of."""
    people = [one for one in policy.signers.values() if Role.APPROVE in one.may]
    return len(people) >= policy.promotion.approvals


_RULES: Mapping[str, Callable[[ServiceSpec], bool]] = {
    "checklist": lambda one: bool(one.promotion.checklist),
    "approval": lambda one: one.promotion.approvals > 0,
    "approver-not-author": lambda one: bool(one.promotion.approver_not_author),
}


CONTAINERS = ("containers-up", "compose-complete")  # `skipped` where releases are plain processes


def standing(item: Item, facts: Facts) -> Standing:
    """By the policy, and by what kind of environment it is."""
    policy = facts.policy
    if item.kind is Kind.PLUGIN:
        return Standing.ENFORCED if item.id in policy.watch.required_checks else Standing.OFF
    if item.kind is Kind.CRITERION:
        return _criterion(item.id, policy)
    if item.kind is Kind.CHECK:
        return Standing.ENFORCED if blind(item.id, facts) is None else Standing.OFF
    if item.kind is Kind.GATE:
        return Standing.ENFORCED if switched_on(item.id, policy.gates) else Standing.OFF
    holds = _RULES.get(item.id) if item.kind is Kind.RULE else None
    return Standing.ENFORCED if holds is None or holds(policy) else Standing.OFF


def blind(check: str, facts: Facts) -> Words | None:
    """Why a built-in check has nothing to look at in this environment; None where it looks."""
    if check == "websocket" and not facts.policy.checks.websocket_path:
        return phrases.NO_WEBSOCKET
    if check in CONTAINERS and not facts.containers:
        return phrases.NO_CONTAINERS
    domain = domain_of(facts.url(facts.environment))
    if check == DNS and domain.literal:
        return phrases.NO_NAME
    if check in (TLS, REDIRECT) and domain.scheme != "https":
        return phrases.NO_TLS
    if check == REDIRECT and not domain.standard and not facts.redirected:
        return phrases.NO_PLAIN_PORT
    return None


def unknown(item: Item, facts: Facts) -> bool:
    """Whether a host is to say if this check has anything to look at, and none is known: a clone is asked."""
    return item.kind is Kind.CHECK and item.id in (*CONTAINERS, DNS, TLS, REDIRECT) and not facts.environments


def why_off(item: Item, facts: Facts) -> Words:
    """What is said of an item nobody looks at."""
    if item.kind is Kind.CRITERION:
        return phrases.NO_SOURCE[item.id]
    if item.kind is Kind.CHECK:
        return blind(item.id, facts) or phrases.NOT_REQUIRED
    if item.id in BESIDE_RULES:
        return phrases.NO_WINDOWS
    return phrases.NO_RULE if item.rules else phrases.NOT_REQUIRED


def _criterion(name: str, policy: ServiceSpec) -> Standing:
    if name in policy.watch.dry_run:
        return Standing.DRY
    if name in policy.watch.required_criteria or name not in _SOURCES:
        return Standing.ENFORCED
    return Standing.OPTIONAL if _SOURCES[name](policy) else Standing.OFF


def plugins_of(policy: ServiceSpec) -> list[Item]:
    """The required checks of the service's own program, in the order of the policy."""
    names = dict.fromkeys(policy.watch.required_checks)
    return [PLUGIN_ITEMS.get(name) or plugin(name) for name in names if name not in CHECK_ITEMS]


def all_items(policy: ServiceSpec) -> Iterator[Item]:
    """Everything a runbook of this policy can speak of. Raises KeyError for a gate or criterion without words."""
    yield from (GATE_ITEMS[name] for name in GATES)
    yield from CHECK_ITEMS.values()
    known = {one.id: one for one in (*PLUGIN_ITEMS.values(), *plugins_of(policy))}
    yield from known.values()
    yield from HOST_ITEMS.values()
    yield from (CRITERION_ITEMS[name] for name in CRITERIA)
    for table in (ROLLBACK_ITEMS, PROMOTION_ITEMS, SECURITY_ITEMS, FIELD_ITEMS):
        yield from table.values()
    yield from checklist_items(policy)


def checklist_items(policy: ServiceSpec) -> list[Item]:
    """The policy's own items; wanted only in a document that is the checklist."""
    return [
        Item(
            Kind.GATE,
            f"checklist-{one.id}",
            Words(_literal(one.text), _literal(one.text_ru or one.text)),
            parts=(Part.PROMOTION, Part.OTHER),
            wanted=False,
        )
        for one in policy.promotion.checklist
    ]


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
