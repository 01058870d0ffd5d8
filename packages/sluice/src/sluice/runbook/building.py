"""From facts to the document. Every gate, check and criterion there is comes from its table; none is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from sluice.criteria import CRITERIA
from sluice.engine import FORWARD, PASSED_OVER, TERMINAL, State
from sluice.engine import Kind as RunKind
from sluice.gates.run import GATES
from sluice.model.policy import ChecklistItem, Role
from sluice.model.spec import EnvironmentName
from sluice.runbook import phrases as say
from sluice.runbook.check_items import CHECK_ITEMS, HOST_ITEMS
from sluice.runbook.document import Document, Section, Step
from sluice.runbook.facts import SCRIPTS, SERVER, Facts, digest_of, values_of
from sluice.runbook.field_items import FIELD_ITEMS
from sluice.runbook.gate_items import GATE_ITEMS
from sluice.runbook.items import COMMANDS, Item, Kind, Part
from sluice.runbook.rule_items import (
    CRITERION_ITEMS,
    EXIT_WORDS,
    PROMOTION_ITEMS,
    ROLLBACK_ITEMS,
    SECURITY_ITEMS,
    STEP_WORDS,
)
from sluice.runbook.standing import Standing, plugins_of, standing, why_off
from sluice.runbook.words import NOTHING, Lang, Words, lasting

MARK = "sluice runbook"
NEVER = "never-from-a-branch"  # a prohibition, so no entry of the list of conditions
DOMAIN = ("domain-dns", "domain-tls", "domain-redirect")


class Builder:
    """One document in one language."""

    def __init__(self, facts: Facts, lang: Lang, run: str = "") -> None:
        """Nothing is read but `facts`. With `run` a tick will stand beside what is good."""
        self.facts, self.lang, self.filled = facts, lang, bool(run)
        self.values = values_of(facts)
        if not facts.who_may(Role.APPROVE):
            self.values["approvers"] = say.NOBODY.say(lang)
        if run:
            self.values["log"] = self.values["log"].replace("RUN", run)
        promotion = facts.policy.promotion
        for key, seconds in (("proof_ttl_s", promotion.proof_ttl_s), ("approval_ttl_s", promotion.approval_ttl_s)):
            told = lasting(seconds, lang)
            self.values[f"promotion_{key}"] += f" ({told})" if told else ""

    def runbook(self) -> Document:
        """The whole of it."""
        parts: tuple[Callable[[], list[Section]], ...] = (
            self._preconditions,
            self._git,
            self._deploy,
            self._smoke,
            self._rollback,
            self._promotion,
            self._audit,
            self._security,
        )
        sections = [
            Section(self.say(say.MADE), 0),
            *(one for number, part in enumerate(parts, 1) for one in _numbered(part(), number)),
            self._exit_codes(),
        ]
        return Document(self.say(say.TITLE), self._mark(""), tuple(sections))

    def checklist(self) -> Document:
        """The pre-prod checklist alone."""
        items = self.facts.policy.promotion.checklist
        machine = self.checklist_steps(one for one in items if one.command)
        human = self.checklist_steps(one for one in items if not one.command)
        (approval,) = _listed([self.step(PROMOTION_ITEMS["approval"])])
        approval = replace(approval, text=approval.text[:1].upper() + approval.text[1:])
        none = (self.say(say.NO_ITEMS),)
        sections = (
            Section(self.say(say.MADE), 0, lead=(self.say(say.CHECKLIST_LEAD),)),
            Section(self.say(say.MACHINE), lead=() if machine else none, steps=machine),
            Section(self.say(say.HUMAN), lead=(self._signers(),) if human else none, steps=human),
            Section(self.say(say.CONFIRM), steps=(approval,)),
        )
        return Document(self.say(say.CHECKLIST_TITLE), self._mark(" --checklist"), sections)

    def say(self, words: Words, **more: str) -> str:
        """A text in this document's language."""
        return words.say(self.lang, {**self.values, **more})

    def step(self, item: Item) -> Step:
        """One item as the policy has it."""
        how = standing(item, self.facts)
        off = ""
        if how is Standing.OFF:
            words = why_off(item, self.facts)
            off = self.say(words, rules=f"`{item.rules}`")
        text = self.say(item.good if self.filled and item.good is not NOTHING else item.text)
        by = self.say(say.WHO[item.kind], id=item.id) if item.kind is not Kind.FIELD else ""
        note = {Standing.OPTIONAL: say.NOT_REQUIRED, Standing.DRY: say.DRY}.get(how, NOTHING)
        return Step(
            kind=item.kind,
            id=item.id,
            text=text.rstrip(",.") if off else _noted(text, self.say(note)),
            name=item.id if off or item.kind is Kind.FIELD else "",
            command=(item.command or COMMANDS[item.kind]).format_map(self.values),
            criterion=self.say(item.criterion),
            checked_by=by,
            off=off,
        )

    def checklist_steps(self, items: Iterable[ChecklistItem]) -> tuple[Step, ...]:
        """The policy's own items, a machine's or a person's."""
        return tuple(
            Step(
                kind=Kind.GATE,
                id=f"checklist-{one.id}",
                text=" ".join((one.text_ru if self.lang is Lang.RU and one.text_ru else one.text).split()),
                command=" ".join(one.command)
                or f"sluice sign-off --env prod --service {self.facts.policy.name} --item {one.id} --key KEY",
                criterion=self.say(say.MACHINE_DONE if one.command else say.HUMAN_DONE, names=self._may_sign()),
                checked_by=self.say(say.BY_MACHINE if one.command else say.BY_PERSON, id=f"checklist-{one.id}"),
            )
            for one in items
        )

    def _mark(self, options: str) -> str:
        return f"{MARK}{options} --lang {self.lang.value}: policy {digest_of(self.facts.policy)}"

    def _signers(self) -> str:
        return self.say(say.SIGNERS, names=self._may_sign())

    def _may_sign(self) -> str:
        return ", ".join(self.facts.who_may(Role.CHECKLIST)) or self.say(say.NOBODY)

    # ---------------------------------------------------------------- sections 1 to 4

    def _where(self, environment: str = "") -> str:
        return f"--env {environment or self.values['env']} --service {self.facts.policy.name}"

    @property
    def _branch(self) -> str:
        return self.values["ref"] if self.facts.environment is EnvironmentName.PROD else self.values["typed_branch"]

    def _gates(self, *, git: bool) -> tuple[Step, ...]:
        items = [GATE_ITEMS[name] for name in GATES]
        return tuple(self.step(one) for one in items if (one.parts[0] is Part.GIT) == git)

    def _preconditions(self) -> list[Section]:
        check = self.values["check"]
        lead = (self.say(say.GATES_LEAD),)
        steps, closing = self._gates(git=False), (self.say(say.WAIVE),)
        return [Section(self.say(say.PRECONDITIONS), lead=lead, commands=(check,), steps=steps, closing=closing)]

    def _git(self) -> list[Section]:
        return [Section(self.say(say.GIT), lead=(self.say(say.GIT_LEAD),), steps=self._gates(git=True))]

    def _deploy(self) -> list[Section]:
        prod = self.facts.environment is EnvironmentName.PROD
        title = self.say(say.DEPLOY)
        kind = RunKind.PROMOTION if prod else RunKind.ROLLOUT
        states = [one for one in FORWARD if one not in TERMINAL and one not in PASSED_OVER[kind]]
        steps = tuple(Step(Kind.RULE, f"step-{one.value}", self.say(STEP_WORDS[State(one)])) for one in states)
        if prod:
            commands: tuple[str, ...] = (f"sluice promote {self._where()}",)
            lead = self.say(say.DEPLOY_PROD)
        else:
            words = f"{self._where()} --branch {self._branch}"
            script = f"{SCRIPTS}/scripts/gitops-deploy.sh {words}"
            release = f"./scripts/release-command.sh rollout {words}"
            commands = (
                script,
                f"ssh {SERVER} 'cd {SCRIPTS} && {release}'",
                f"sluice rollout {words}",
                f"sluice --host ssh://{SERVER} rollout {words}",
            )
            lead = self.say(say.DEPLOY_LEAD)
        done = Section(self.say(say.DEPLOY_STEPS), 0, steps=steps, numbered=True)
        return [Section(title, lead=(lead,), commands=commands), done]

    def _smoke(self) -> list[Section]:
        test = self.facts.environment is EnvironmentName.TEST
        script = (f"{SCRIPTS}/scripts/test-smoke.sh --service {self.facts.policy.name}",) if test else ()
        commands = (*script, f"sluice smoke {self._where()}")
        builtin = tuple(self.step(self._own(one)) for name, one in CHECK_ITEMS.items() if name not in DOMAIN)
        plugins = plugins_of(self.facts.policy)
        whole = _listed(self.step(one) for one in plugins if not one.id.startswith("sso-"))
        sso = tuple(self.step(one) for one in plugins if one.id.startswith("sso-"))
        sections = [Section(self.say(say.SMOKE), lead=(self.say(say.SMOKE_LEAD),), commands=commands)]
        sections += [Section(self.say(say.SERVER), 3, steps=builtin, numbered=True)]
        sections += [Section(self.say(say.END_TO_END), 3, steps=whole)] if whole else []
        sections += [Section(self.say(say.SSO), 3, steps=sso, numbered=True)] if sso else []
        quick = f"{SCRIPTS}/scripts/server-quick-check.sh {self._where()}"
        return [
            *sections,
            *self._domain(),
            Section(
                self.say(say.QUICK),
                3,
                lead=(self.say(say.QUICK_LEAD),),
                commands=(quick, f"sluice quick-check {self._where()}"),
                steps=tuple(self.step(one) for one in HOST_ITEMS.values()),
            ),
        ]

    def _domain(self) -> list[Section]:
        """As people ask by hand; of prod also in the runbook of test, for whoever was told to look there."""
        steps = tuple(self.step(CHECK_ITEMS[name]) for name in DOMAIN)
        here, prod = self.facts.environment, EnvironmentName.PROD
        sections = [Section(self.say(say.DOMAIN), 3, (self.say(say.FOR_ENV),), self._curls(here), steps)]
        if here is not prod and (prod in self.facts.environments or not self.facts.environments):
            sections += [Section(self.say(say.FOR_PROD), 0, commands=self._curls(prod))]
        return sections

    def _curls(self, environment: EnvironmentName) -> tuple[str, ...]:
        health = f"{self.facts.url(environment)}{self.facts.policy.run.health_path}"
        return (f"curl -I {health}", f"curl {health}")

    def _own(self, item: Item) -> Item:
        """Where nothing is a container, the logs are Sluice's own."""
        bare = item.id == "logs" and not self.facts.containers
        return replace(item, text=say.LOGS_OF_PROCESSES, command="") if bare else item

    # ---------------------------------------------------------------- sections 5 to 8

    def _rollback(self) -> list[Section]:
        steps = _listed(self.step(CRITERION_ITEMS[name]) for name in CRITERIA)
        commands = (
            f"{SCRIPTS}/scripts/release-command.sh rollback {self._where()}",
            f"sluice rollback {self._where()}",
            f"sluice status {self._where()}",
            f"sluice unlock {self._where()} --reason {self.say(say.REASON)}",
        )
        rule = tuple(self.step(one) for one in ROLLBACK_ITEMS.values())
        return [
            Section(
                self.say(say.ROLLBACK),
                lead=(self.say(say.ROLLBACK_FILLED if self.filled else say.ROLLBACK_LEAD),),
                steps=steps,
            ),
            Section(self.say(say.ROLLBACK_HOW), 0, commands=commands),
            Section(self.say(say.ALWAYS), 0, steps=rule),
        ]

    def _promotion(self) -> list[Section]:
        policy, where = self.facts.policy, self._where("prod")
        items = policy.promotion.checklist
        commands = (
            f"sluice plan {where}",
            *(f"sluice sign-off {where} --item {one.id} --key KEY" for one in items if not one.command),
            f"sluice approve {where} --key KEY",
            f"sluice promote {where}",
        )
        rules = _listed(self.step(one) for name, one in PROMOTION_ITEMS.items() if name != NEVER)
        never = (self.step(PROMOTION_ITEMS[NEVER]),)
        lead = (self.say(say.PROMOTION_ITEMS_LEAD, count=str(len(items))), self._signers())
        listed = Section(self.say(say.ITEMS), 3, lead=lead, steps=self.checklist_steps(items))
        return [
            Section(self.say(say.PROMOTION), lead=(self.say(say.PROMOTION_LEAD),), steps=rules),
            Section(self.say(say.ALWAYS), 0, steps=never),
            Section(self.say(say.PROMOTION_HOW), 0, commands=commands),
            *([listed] if items else []),
        ]

    def _audit(self) -> list[Section]:
        steps = tuple(self.step(one) for one in FIELD_ITEMS.values())
        commands = (f"sluice log {self._where()}", f"sluice log verify {self._where()}")
        return [
            Section(self.say(say.AUDIT), lead=(self.say(say.AUDIT_LEAD),), steps=steps),
            Section(self.say(say.AUDIT_HOW), 0, commands=commands),
        ]

    def _security(self) -> list[Section]:
        return [Section(self.say(say.SECURITY), steps=tuple(self.step(one) for one in SECURITY_ITEMS.values()))]

    def _exit_codes(self) -> Section:
        lines = (self.say(say.CODE, code=str(int(code)), meaning=self.say(words)) for code, words in EXIT_WORDS.items())
        return Section(self.say(say.EXIT_CODES), bullets=tuple(lines))


def _numbered(sections: list[Section], number: int) -> list[Section]:
    first, *rest = sections
    return [replace(first, title=f"{number}) {first.title}"), *rest]


def _listed(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Entries of one sentence: a comma after each, a full stop after the last; none where it is said why not."""
    told = [one if one.off else replace(one, text=f"{one.text.rstrip(',.')},") for one in steps]
    if told and not told[-1].off:
        told[-1] = replace(told[-1], text=f"{told[-1].text.rstrip(',')}.")
    return tuple(told)


def _noted(text: str, note: str) -> str:
    """The text with a remark before its last comma or full stop."""
    bare = text.rstrip(",.")
    return f"{bare} ({note}){text[len(bare) :]}" if note else text
