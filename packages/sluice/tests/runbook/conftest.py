"""Policies, hosts and facts for the runbook: this project's own, the example of every key, and an empty one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import sluice.cli.main  # noqa: F401 - every command is there then
from sluice.cli.runbook import surface
from sluice.config import EXAMPLE_SERVICE, load_service
from sluice.model.policy import ChecklistItem, DocsRule, GatesSpec, PromotionSpec, Role, Signer, SummarySource
from sluice.model.spec import EnvironmentName, HostEnvironment, RuntimeName, ServiceSpec
from sluice.runbook import Around, Facts, lint

HERE = Path(__file__).parent
ROOT = HERE.parents[3]
SEED = (HERE / "RUNBOOK_TEST_DEPLOY.ru.md").read_text()
TEST, PROD = EnvironmentName.TEST, EnvironmentName.PROD


def environment(url: str, sso: str) -> HostEnvironment:
    """One of host.toml."""
    ports, containers = (18100, 18119), RuntimeName.COMPOSE
    return HostEnvironment(url, "/etc/x.env", ports, expect_sso_host=sso, runtime=containers)


HOST = {
    TEST: environment("https://test.boltorezka.gismalink.art", "test.auth.gismalink.art"),
    PROD: environment("https://boltorezka.gismalink.art", "auth.gismalink.art"),
}
PLAIN = {
    name: msgspec.structs.replace(one, public_url=f"http://127.0.0.1:{port}", expect_sso_host="127.0.0.1:18200")
    for (name, one), port in zip(HOST.items(), (18100, 18120), strict=True)
}
PROCESSES = {name: msgspec.structs.replace(one, runtime=RuntimeName.PROCESS) for name, one in HOST.items()}


def own_policy() -> ServiceSpec:
    """deploy/sluice.toml, with nothing asked for that a project adds as it grows: checks, summary, docs, promotion."""
    whole = load_service((ROOT / "deploy" / "sluice.toml").read_bytes(), "deploy/sluice.toml")
    gates = GatesSpec(branch=whole.gates.branch)
    return msgspec.structs.replace(whole, gates=gates, promotion=PromotionSpec(), signers={})


def full_policy() -> ServiceSpec:
    """The same, with everything asked for that the seed runbook demands."""
    bare = own_policy()
    gates = msgspec.structs.replace(
        bare.gates,
        checks=(("make", "check"),),
        summary=(SummarySource.PULL_REQUEST,),
        docs=(DocsRule(("packages/**",), ("docs/**",)),),
    )
    items = (
        ChecklistItem("backup", "The database was backed up.", "Сделана резервная копия базы."),
        ChecklistItem("disk", "The data disk can be written.", "На диск данных можно писать.", ("test", "-w", "/data")),
    )
    ann = Signer(("ssh-ed25519 AAAA ann",), (Role.APPROVE, Role.CHECKLIST))
    watch = msgspec.structs.replace(bare.watch, required_checks=(*bare.watch.required_checks, "rooms", "sso-session"))
    return msgspec.structs.replace(
        bare, gates=gates, watch=watch, promotion=PromotionSpec(checklist=items), signers={"ann": ann}
    )


POLICIES = {
    "own": own_policy(),
    "full": full_policy(),
    "example": load_service(EXAMPLE_SERVICE.encode(), "example"),
    "bare": ServiceSpec("bare"),
}


def facts_of(policy: ServiceSpec, hosts=HOST, environment: EnvironmentName = TEST) -> Facts:
    """With everything that can really be typed."""
    return Facts(policy, surface(), "main", environment, hosts)


def found(text: str, policy: ServiceSpec, *, hosts=HOST, exists=lambda _path: True, npm=frozenset({"smoke:sso"})):
    """(line, code) of everything the lint says, without what nobody understands."""
    said = lint(text, facts_of(policy, hosts), Around(exists, npm))
    return [(one.line, one.code.value) for one in said if one.level == "disagrees"]


@pytest.fixture
def own() -> ServiceSpec:
    """This project's policy."""
    return own_policy()


@pytest.fixture
def full() -> ServiceSpec:
    """A policy that asks for everything the seed demands."""
    return full_policy()
