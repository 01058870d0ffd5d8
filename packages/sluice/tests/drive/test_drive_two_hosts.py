"""Test on one host, prod on another: real git between them, real ledger keys; what anybody may push proves nothing."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from sluice.drive import Drive, Request
from sluice.drive.promotion import carried_images, plan_promotion
from sluice.drive.proof import unpinned, vouched_records
from sluice.drive.world import Elsewhere, PromotionMeans
from sluice.hosts.anchor import GitAnchor
from sluice.hosts.anchor_git import PREFIX
from sluice.hosts.approvals import FileApprovals
from sluice.ledger import Ledger
from sluice.ledger.signing import LedgerKey
from sluice.model.policy import PromotionSpec
from sluice.model.promotion import Denied
from sluice.model.release import CONTENT, INPUT, Artifact
from sluice.model.secret import Redactor
from sluice.model.spec import EnvironmentName
from sluice.model.verdict import Verdict
from sluice.runner import LocalRunner
from sluice.testing import SPEC, MemoryWorld, commit_of

REF = f"{PREFIX}shop/test"
RUNNER = LocalRunner(Redactor([]))
ANN = Request("ann@host", "test", "main")
IMAGES = {"web": f"r.example/shop-web@sha256:{'1' * 64}", "db": f"r.example/postgres@sha256:{'2' * 64}"}
SAID = {f"{INPUT}{name}": f"what is said of {name}" for name in IMAGES}


def git(where: Path, *arguments: str) -> str:
    """Run git with nobody's configuration."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(["git", *arguments], cwd=where, check=True, capture_output=True, text=True, env=environment)
    return done.stdout.strip()


class Containers(MemoryWorld):
    """A world whose artifacts are images. What it is given it takes, as the Compose runtime does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.makes = {**IMAGES, **SAID, f"compose.{self.environment.value}": "0" * 64, f"{CONTENT}own": "3" * 64}
        self.given: list[dict[str, str]] = []

    async def build(self, commit, spec, progress, images=None):
        """Never the same key twice: each host has an interpreter of its own."""
        self.given.append(dict(images or {}))
        made = await super().build(commit, spec, progress)
        digests = {name: (images or {}).get(name, one) for name, one in self.makes.items()}
        return msgspec.structs.replace(made, key=f"{made.key} of {self.folder.name}", digests=digests)


async def nothing() -> str:
    """No doubt about the ledgers of this host."""
    return ""


class Hosts:
    """Two state folders that have nothing in common but an origin."""

    def __init__(self, folder: Path) -> None:
        self.origin = folder / "origin.git"
        git(folder, "init", "-q", "--bare", str(self.origin))
        for name in ("a", "b"):
            (folder / name).mkdir()
        self.test = Containers(folder / "a")
        self.prod = Containers(folder / "b", environment=EnvironmentName.PROD)
        self.prod.clock = self.test.clock
        self.prod.specs["main"] = msgspec.structs.replace(SPEC, promotion=PromotionSpec(approvals=0))
        self.url = str(self.origin)

    def anchor(self, world: MemoryWorld, url: str = "") -> GitAnchor:
        """The anchor of test, as one of the hosts sees it."""
        ledger = world.paths.ledger if world is self.test else world.folder / "nothing.jsonl"
        return GitAnchor(world.paths.repo, url or self.url, RUNNER, ledger, "shop/test")

    async def rollout(self, branch="main", **more):
        """A run on test's host, anchored as far as the origin lets it."""
        world = dataclasses.replace(self.test.world(), anchor=self.anchor(self.test).push)
        asked = dataclasses.replace(ANN, branch=branch, **more)
        return await Drive(world, self.test.reports.append).rollout(asked)

    def world(self, key=None):
        """Prod, as a command there sees it. `key`: what host.toml pins."""
        pinned = key or Ledger(self.test.paths.ledger).key()

        async def records():
            return vouched_records(await self.anchor(self.prod).origin(pinned), "shop")

        approvals = FileApprovals(self.prod.paths.env_dir / "approvals")
        means = PromotionMeans(Elsewhere(records), approvals, self.nobody, RUNNER, nothing)
        return dataclasses.replace(self.prod.world(), promotion=means)

    async def nobody(self, *_asked):
        """No signature is asked for here."""
        raise AssertionError("nothing was signed")

    async def promote(self, key=None):
        """A promotion on prod's host."""
        return await Drive(self.world(key), self.prod.reports.append).promote(dataclasses.replace(ANN, branch=""))

    async def denied(self, code, *words, key=None):
        """Plan and promotion are refused with this code and these words, and nothing of prod was touched."""
        with pytest.raises(Denied) as planned:
            await plan_promotion(self.world(key), "", lambda _text: None)
        said = f"{planned.value.what} {planned.value.next}"
        assert (planned.value.code, [word for word in words if word not in said]) == (code, []), said
        result = await self.promote(key)
        assert (result.exit_code, result.record["refusal"]) == (1, code), result.what
        assert (self.prod.pointed, self.prod.given) == (None, [])
        return planned.value


@pytest.fixture
def hosts(tmp_path) -> Hosts:
    """Nothing proven yet."""
    return Hosts(tmp_path)


async def test_what_another_hosts_test_proved_reaches_prod_by_its_digests(hosts):
    """Plan and record name that host's run and artifact; the images are given to the runtime, not made again."""
    tested = await hosts.rollout()
    assert tested.exit_code == 0
    plan = await plan_promotion(hosts.world(), "", lambda _text: None)
    about = plan.promotion
    assert (about.proof_run, about.proof_branch, about.proof_commit) == (tested.run, "main", commit_of("main").sha)
    assert (about.artifact_key, about.head_to) == (tested.record["artifact_key"], "head-1")
    assert carried_images(plan) == IMAGES
    # What this host would make by itself is something else: a tag moved, a build is never the same twice.
    hosts.prod.makes |= {"web": "sha256:built-here", "db": "sha256:pulled-here", "turn": "sha256:of-prod-alone"}
    result = await hosts.promote()
    assert (result.exit_code, hosts.prod.given) == (0, [IMAGES])
    assert result.record["proof_run"] == tested.run
    assert {name: result.record["artifact_digests"][name] for name in IMAGES} == IMAGES
    assert result.record["artifact_digests"]["turn"] == "sha256:of-prod-alone"
    assert Ledger(hosts.prod.paths.ledger).verify().ok


async def test_where_no_key_is_pinned_nothing_proves(hosts):
    """The origin's own copy of the key is nobody's word: the line for host.toml is asked for."""
    await hosts.rollout()
    means = hosts.world().promotion

    async def records():
        raise unpinned("shop")

    world = dataclasses.replace(hosts.world(), promotion=dataclasses.replace(means, test=Elsewhere(records)))
    with pytest.raises(Denied, match="pins no key") as denied:
        await plan_promotion(world, "", lambda _text: None)
    assert (denied.value.code, "test_ledger_key" in denied.value.next) == ("NotProven", True)


async def test_a_ledger_signed_by_another_key_proves_nothing(hosts, tmp_path):
    """Whoever may push brings a whole ledger of his own, properly signed, with his key beside it."""
    await hosts.rollout()
    own = Ledger(hosts.test.paths.ledger).key()
    (tmp_path / "mallory").mkdir()
    mallory = Hosts(tmp_path / "mallory")
    mallory.url = hosts.url
    git(hosts.origin, "update-ref", "-d", REF)
    assert (await mallory.rollout()).exit_code == 0
    await hosts.denied("RecordDoubtful", "signed by another key", "test_ledger_key", key=own)
    await hosts.denied("RecordDoubtful", "signed by another key", key=LedgerKey(tmp_path / "wrong").make())


async def test_the_key_of_another_environment_proves_nothing(hosts):
    """A ledger that holds, and is not the one of this service's test."""
    await hosts.rollout()
    copy = await hosts.anchor(hosts.prod).origin(Ledger(hosts.test.paths.ledger).key())
    assert len(vouched_records(copy, "shop")) == 1
    with pytest.raises(Denied, match="shop/test") as denied:
        vouched_records(copy, "rooms")
    assert denied.value.code == "RecordDoubtful"


@pytest.mark.parametrize("left", [0, 1])
async def test_an_anchor_that_was_cut_since_it_was_read_is_refused(hosts, left):
    """The newest attempt failed; whoever takes that record off the origin does not bring the success back."""
    await hosts.rollout()
    hosts.test.verdicts["watch", "main"] = Verdict.FAIL
    assert (await hosts.rollout(override="try")).exit_code == 3
    await hosts.denied("NewestAttemptFailed", "on test's host: sluice rollout --env test")
    git(hosts.origin, "update-ref", *((REF, f"{REF}~1") if left else ("-d", REF)))
    await hosts.denied("RecordDoubtful", "was cut on the origin", "sluice log verify --clone")


async def test_an_anchor_that_was_rewritten_by_the_right_key_is_refused(hosts):
    """Whoever has test's host can sign another story; this host remembers the one it read."""
    await hosts.rollout()
    assert (await plan_promotion(hosts.world(), "", lambda _text: None)).promotion is not None
    shutil.rmtree(hosts.test.paths.repo)
    ledger = hosts.test.paths.ledger
    for file in [ledger, ledger.with_name("ledger.head"), *hosts.test.paths.journal_dir.iterdir()]:
        file.unlink()
    git(hosts.origin, "update-ref", "-d", REF)
    await hosts.rollout("feature/good")
    await hosts.rollout()
    await hosts.denied("RecordDoubtful", "record 1 was rewritten on the origin")


async def test_the_newest_attempt_is_the_newest_that_was_anchored(hosts):
    """The limit: a failure that never got to the origin is not known here, and it is from the next record on."""
    await hosts.rollout()
    hook = hosts.origin / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    hosts.test.verdicts["watch", "main"] = Verdict.FAIL
    assert (await hosts.rollout(override="try")).exit_code == 3
    assert any("tail is not anchored" in report.text for report in hosts.test.reports)
    assert (await plan_promotion(hosts.world(), "", lambda _text: None)).promotion.proof_run == "run-0001"
    hook.unlink()
    anchored = dataclasses.replace(hosts.test.world(), anchor=hosts.anchor(hosts.test).push)
    await Drive(anchored, hosts.test.reports.append).unlock(ANN, "seen")
    await hosts.denied("NewestAttemptFailed", "An older success does not count")


async def test_what_another_hosts_test_never_saw_is_refused(hosts):
    """No ledger at all, or one that holds something else: never proven, not merged."""
    key = LedgerKey(hosts.test.paths.ledger.with_name("ledger.key")).make()
    await hosts.denied("NotProven", "not one record", "on test's host: sluice rollout", "may push", key=key)
    await hosts.rollout("feature/good")
    await hosts.denied("NotProven", "tree", "was never proven in test", "on test's host: sluice rollout")
    hosts.prod.unmerged.add(commit_of("feature/good").sha)
    await hosts.denied("NotMerged", "'feature/good'", "merge feature/good into main")


async def test_an_old_proof_of_another_host_is_stale(hosts):
    """The policy's time counts for it as well."""
    await hosts.rollout()
    hosts.prod.specs["main"] = msgspec.structs.replace(SPEC, promotion=PromotionSpec(approvals=0, proof_ttl_s=60))
    hosts.prod.clock.elapsed += 61
    await hosts.denied("ProofStale", "on test's host: ")


async def test_an_origin_out_of_reach_is_never_a_pass(hosts):
    """Not even where the mirror remembers a success: what came after it is not known."""
    await hosts.rollout()
    assert (await plan_promotion(hosts.world(), "", lambda _text: None)).promotion is not None
    hosts.url = str(hosts.origin.with_name("away.git"))
    await hosts.denied("ProofUnreachable", "cannot be read", "git ls-remote")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({f"{CONTENT}own": "3" * 64}, ("plain processes", "promote there")),
        ({}, ("plain processes", "[compose] registry")),
        ({**IMAGES, **SAID, "compose.test": "0", "web": f"sha256:{'4' * 64}"}, ("web is known by an id", "registry")),
        ({**SAID, "compose.test": "0"}, ("db, web are known by an id",)),
        ({**IMAGES, "compose.test": "0"}, ("Sluice of test's host is older",)),
    ],
)
async def test_an_artifact_that_is_on_tests_host_alone_is_refused(hosts, made, words):
    """Processes, images without a registry's digest, records of before: it says why, and what to do."""
    hosts.test.makes = made
    assert (await hosts.rollout()).exit_code == 0
    await hosts.denied("ArtifactGone", "on test's host: ", *words)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({f"{INPUT}web": "built with prod's arguments"}, "Here web would be made from something else"),
        ({f"{INPUT}db": "postgres:16"}, "Here db would be"),
        (None, "None of the images"),
    ],
)
async def test_prods_own_settings_may_not_ask_for_other_images(hosts, made, words):
    """Other build arguments, another tag, another runtime: refused before anything was started."""
    await hosts.rollout()
    hosts.prod.makes = {**hosts.prod.makes, **made} if made else {f"{CONTENT}own": "5" * 64}
    result = await hosts.promote()
    assert (result.exit_code, result.record["refusal"]) == (1, "ArtifactDiffers"), result.what
    assert words in result.what
    assert (hosts.prod.pointed, hosts.prod.migrated) == (None, [])


async def test_a_runtime_that_does_not_take_what_it_is_given_is_found_out(hosts):
    """The digests of what was built are compared, whatever the runtime did with those it was told."""
    await hosts.rollout()

    async def build(*_asked):
        return Artifact("key", str(hosts.prod.artifact), "t", digests={**IMAGES, **SAID, "web": "sha256:other"})

    hosts.prod.build = build
    result = await hosts.promote()
    assert (result.exit_code, result.record["refusal"]) == (1, "ArtifactDiffers")
