"""What the engine says of an environment, judged: every way a container can be wrong, and every way it is not."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest

from sluice.checks.containers import ask_containers, compose_complete, containers_up, served_by_containers
from sluice.checks.served import served_in_slot
from sluice.model.containers import Container, Containers, Expected
from sluice.model.release import Slot
from sluice.model.verdict import Verdict

AT = "2026-01-01T12:00:00.123456789Z"
NOW = dt.datetime.fromisoformat(AT).timestamp()
IMAGE = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


def ago(seconds: float) -> str:
    """That long before AT, as the engine writes it."""
    return dt.datetime.fromtimestamp(NOW - seconds, dt.UTC).isoformat().replace("+00:00", "Z")


def container(service: str = "api", **changes) -> Container:
    """A container that is well."""
    fields = {
        "id": f"id-{service}",
        "name": f"slot-{service}-1",
        "service": service,
        "project": "slot",
        "image": IMAGE,
        "image_id": IMAGE,
        "state": "running",
        "started_at": ago(3600),
    }
    return Container(**(fields | changes))


def containers(*found: Container, expected: tuple[Expected, ...] | None = None) -> Containers:
    """Exactly these, and by default exactly these expected."""
    wanted = {(c.project, c.service) for c in found}
    one_each = tuple(Expected(service, project) for project, service in sorted(wanted))
    return Containers(one_each if expected is None else expected, found, AT)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"state": "exited", "exit_code": 1}, "is exited: exit code 1, restart 0"),
        ({"state": "exited", "exit_code": 0}, "is exited: exit code 0"),
        ({"state": "exited", "exit_code": 137}, "exit code 137, killed"),
        ({"state": "exited", "exit_code": 127}, "its command does not exist"),
        ({"state": "exited", "exit_code": 137, "oom_killed": True}, "ran out of memory (exit code 137"),
        ({"oom_killed": True}, "ran out of memory"),
        (
            {"state": "restarting", "exit_code": 139, "restarts": 7},
            "restarting: exit code 139, segmentation fault, res",
        ),
        ({"state": "paused"}, "is paused"),
        ({"state": "created"}, "is created"),
        ({"state": "dead", "exit_code": 1}, "is dead"),
        ({"health": "unhealthy"}, "is unhealthy by its own healthcheck"),
    ],
)
def test_a_container_that_is_not_up_fails_and_is_named(changes, says):
    """State, exit code, memory and health each have their sentence."""
    finding = containers_up(containers(container("db"), container(**changes)))
    assert finding.verdict is Verdict.FAIL
    assert finding.detail.startswith("slot-api-1 ")
    assert says in finding.detail


def test_restarts_that_grow_fail_and_those_long_ago_do_not():
    """The second look decides."""
    before, after = containers(container(restarts=3)), containers(container(restarts=4))
    assert containers_up(after, before).verdict is Verdict.FAIL
    stable = containers_up(before, before)
    assert stable.verdict is Verdict.PASS
    assert "restarted 3 times before and is stable" in stable.detail


def test_a_healthcheck_that_has_not_judged_yet_is_inconclusive():
    """Neither healthy nor unhealthy: not a pass, and not the release's fault."""
    assert containers_up(containers(container(health="starting"))).verdict is Verdict.INCONCLUSIVE


def test_a_job_that_ended_well_and_a_container_held_back_are_passed_over():
    """Only where nobody expects them to run; a job that ended badly is named."""
    expected = (Expected("api", "slot"),)
    job, held = container("migrate", state="exited"), container("worker", state="created")
    assert containers_up(containers(container(), job, held, expected=expected)).verdict is Verdict.PASS
    assert compose_complete(containers(container(), job, held, expected=expected), NOW).verdict is Verdict.PASS
    bad = container("migrate", state="exited", exit_code=1)
    assert "slot-migrate-1" in containers_up(containers(container(), bad, expected=expected)).detail


@pytest.mark.parametrize("judge", [containers_up, lambda now: compose_complete(now, NOW)])
def test_knowing_nothing_is_no_pass(judge):
    """No expectation is inconclusive; an expectation with nothing there fails."""
    assert judge(Containers()).verdict is Verdict.INCONCLUSIVE
    assert judge(containers(expected=(Expected("api", "slot"),))).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("found", "expected", "says"),
    [
        ((container(),), (Expected("api", "slot"), Expected("db", "shared")), "db of shared is missing: 0 of 1 run"),
        ((container(),), (Expected("api", "slot", 2),), "api of slot is missing: 1 of 2 run"),
        ((container(), container(id="2")), (Expected("api", "slot"),), "surplus: 2 run, expected 1"),
        ((container(), container("extra")), (Expected("api", "slot"),), "extra of slot is surplus: 1 run, expected 0"),
        ((container(project="old"), container()), (Expected("api", "slot"),), "api of old is surplus"),
        ((container(state="exited"),), (Expected("api", "slot"),), "api of slot is missing"),
        ((container(drift=("its image was replaced",)),), None, "not as Sluice started it: its image was replaced"),
        ((container(started_at=ago(59), restarts=1),), None, "was restarted 59 s ago"),
        ((container(started_at=ago(59)),), None, "was restarted 59 s ago"),
    ],
)
def test_what_is_missing_surplus_changed_or_restarted_fails(found, expected, says):
    """Sluice last acted an hour ago here, so whatever began since then was begun by somebody else."""
    finding = compose_complete(containers(*found, expected=expected), NOW - 3000)
    assert finding.verdict is Verdict.FAIL
    assert says in finding.detail


def test_what_is_left_of_another_release_is_named_and_no_fault():
    """A shared service that this release dropped runs on for the other: nobody calls it surplus, or forgets it."""
    left = container("db", name="shop-test-shared-db-1", project="shared", state="exited", exit_code=1)
    now = msgspec.structs.replace(containers(container()), left=(left,))
    finding = compose_complete(now, NOW - 3000)
    assert finding.verdict is Verdict.PASS
    assert "shop-test-shared-db-1 is left of another release: `docker rm -f shop-test-shared-db-1`" in finding.detail
    assert containers_up(now).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("changes", "touched"),
    [
        ({"started_at": ago(61), "restarts": 5}, NOW - 3000),
        ({"started_at": ago(5)}, NOW - 4),
        ({"started_at": ago(5)}, float("inf")),
        ({"started_at": ago(3600)}, 0.0),
    ],
)
def test_what_sluice_began_itself_or_began_long_ago_is_complete(changes, touched):
    """A slot younger than a minute is no restart; a restart the engine counted is one, whoever acts meanwhile."""
    assert compose_complete(containers(container(**changes)), touched).verdict is Verdict.PASS
    again = container(**(changes | {"restarts": 1, "started_at": ago(5)}))
    assert compose_complete(containers(again), touched).verdict is Verdict.FAIL


def test_many_problems_are_counted_and_a_few_named():
    """Evidence stays one line."""
    finding = containers_up(containers(*(container(f"s{n}", state="paused") for n in range(9))))
    assert "and 5 more" in finding.detail


@pytest.mark.parametrize(
    ("changes", "pinned", "verdict"),
    [
        ({}, IMAGE, Verdict.PASS),
        ({"image": f"registry/api@{OTHER}", "image_id": IMAGE}, f"registry/api@{OTHER}", Verdict.PASS),
        ({"image": f"registry/api@{OTHER}", "image_id": IMAGE}, OTHER, Verdict.PASS),
        ({"image_id": OTHER, "image": "api:latest"}, IMAGE, Verdict.FAIL),
        ({"drift": ("its command was changed",)}, IMAGE, Verdict.FAIL),
        ({"service": "unknown"}, IMAGE, Verdict.FAIL),
        ({"project": "another"}, IMAGE, Verdict.FAIL),
        ({"state": "exited"}, IMAGE, Verdict.FAIL),
    ],
)
def test_images_prove_what_a_service_does_not_say(release, changes, pinned, verdict):
    """Every container of the slot must run the release's own image, unchanged."""
    digests = {"api": pinned, "compose.test": "f" * 64}
    made = msgspec.structs.replace(release, artifact=msgspec.structs.replace(release.artifact, digests=digests))
    slot = Slot("r1", "slot", 1, "http://127.0.0.1:1")
    assert served_by_containers(containers(container(**changes)), made, slot).verdict is verdict


@pytest.mark.parametrize(("alive", "verdict"), [(True, Verdict.PASS), (False, Verdict.FAIL)])
def test_without_containers_the_supervisor_is_the_witness(release, alive, verdict):
    """A slot that the supervisor does not run serves nothing."""
    finding = served_in_slot(release, Slot("r1", "slot", 1, "u"), None, alive=alive)
    assert finding.verdict is verdict


async def test_starting_is_waited_for_and_no_longer_than_allowed(clock):
    """A healthcheck gets its time in a rollout, and none in a quick check."""
    answers = [containers(container(health=health)) for health in ("starting", "starting", "healthy")]

    async def ask() -> Containers:
        return answers.pop(0) if len(answers) > 1 else answers[0]

    findings, now = await ask_containers(ask, clock, NOW, 30)
    assert [f.verdict for f in findings] == [Verdict.PASS, Verdict.PASS]
    assert now is answers[-1]

    async def never() -> Containers:
        return containers(container(health="starting"))

    began = clock.time
    findings, _ = await ask_containers(never, clock, NOW, 3)
    assert findings[0].verdict is Verdict.INCONCLUSIVE
    assert clock.time - began == pytest.approx(3, abs=0.6)
    findings, _ = await ask_containers(never, clock, NOW, 0)
    assert findings[0].verdict is Verdict.INCONCLUSIVE


async def test_a_container_that_restarted_is_looked_at_twice(clock):
    """One that is dying again and again shows between the two looks."""
    counts = iter((3, 4))

    async def ask() -> Containers:
        return containers(container(restarts=next(counts)))

    findings, _ = await ask_containers(ask, clock, NOW, 0)
    assert "again and again" in findings[0].detail


async def test_the_runtime_process_has_no_containers_and_says_so(clock):
    """Both checks are skipped with the reason; nothing is taken for a pass."""

    async def none() -> None:
        return None

    findings, now = await ask_containers(none, clock, NOW, 0)
    assert {f.verdict for f in findings} == {Verdict.SKIPPED}
    assert all("the runtime `process` has no containers" in f.detail for f in findings)
    assert now is None
