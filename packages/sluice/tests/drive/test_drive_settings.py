"""What somebody signs is bound to where it goes: host.toml changed after the signature is another plan."""

from __future__ import annotations

import msgspec
import pytest

from sluice.cli.session import world_of
from sluice.config import load_host, open_environment
from sluice.drive.promotion import plan_promotion
from sluice.drive.settings import settings_of
from sluice.model.promotion import document
from sluice.model.spec import ForgeName, ForgeSettings, HostEnvironment, HostService, RuntimeName

HERE = {"public_url": "https://rooms.example.org", "run_as": "rooms-prod", "ports": "18120-18139"}
TOML = """
[host]
notify_file = "{folder}/notify"
[service.rooms]
repo = "{folder}/origin"
[service.rooms.env.prod]
public_url = "http://127.0.0.1:2"
env_file = "{folder}/prod.env"
ports = [18120, 18139]
"""
# Another value for everything that may be said of an environment or a service.
OTHER = {
    "public_url": "https://evil.example.org",
    "env_file": "/etc/other.env",
    "ports": (18140, 18159),
    "expect_sso_host": "sso.example.org",
    "runtime": RuntimeName.COMPOSE,
    "run_as": "rooms-prod",
    "listen": "127.0.0.1:8081",
    "certificate": "/etc/chain.pem",
    "certificate_key": "/etc/key.pem",
    "redirect_http": "0.0.0.0:80",
    "ca_file": "/etc/ca.pem",
    "keep_releases": 2,
    "sops_file": "/etc/secrets.yaml",
    "age_file": "/etc/secrets.age",
    "age_identity": "/etc/age.key",
    "secret_command": ("/usr/bin/vault", "s3ntinel-in-an-argument"),
    "secret_files": "/run/secrets",
    "repo": "git@elsewhere:rooms.git",
    "policy_ref": "trunk",
    "forge": ForgeSettings(ForgeName.GITLAB, "https://git.example.org/api/v4", "team/rooms"),
    "test_ledger_key": "ssh-ed25519 AAAA",
    "anchor": False,
    "demo": True,
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"public_url": "https://evil.example.org"}, "public_url, now https://evil.example.org, was https://rooms.ex"),
        ({"run_as": ""}, "server run_as, now not said, was rooms-prod"),
        ({"docker": "/run/other.sock"}, "server docker, now /run/other.sock, was not said"),
        ({"ports": "1-2", "run_as": "x", "listen": "y", "demo": "true"}, "and 1 more lines"),
    ],
)
async def test_a_host_file_changed_after_the_signature_is_another_plan(town, change, said):
    """The refusal says which setting is another, what it was when somebody signed, and what it is now."""
    town.prod.settings = dict(HERE)
    await town.proven()
    await town.signed()
    town.prod.settings = {name: value for name, value in (HERE | change).items() if value}
    await town.refused("PlanAltered")
    assert said in next(record for record in reversed(town.prod.reports) if record.finding).finding.detail
    town.prod.settings = dict(HERE)
    assert (await town.promote()).exit_code == 0


async def test_what_the_text_does_not_name_is_said_to_be_elsewhere(town):
    """The env file's values are in the plan by their fingerprint alone: the refusal says where to look."""
    await town.proven()
    await town.signed()
    town.prod.env_file = "another"
    await town.refused("PlanAltered")
    told = next(record for record in reversed(town.prod.reports) if record.finding).finding.detail
    assert "a commit, a rule of the policy or a value of the env file is another" in told


async def test_a_text_of_many_letters_is_told_in_few(town):
    """What was handed in may hold anything; the refusal shows its beginning, in one line."""
    await town.proven()
    await town.signed()
    (path,) = (town.prod.paths.env_dir / "approvals").glob("*.json")
    path.write_text(path.read_text().replace("service: shop", f"service: {'x' * 5000}"))
    await town.refused("PlanAltered")
    told = next(record for record in reversed(town.prod.reports) if record.finding).finding.detail
    assert "service, now shop, was xxx" in told
    assert len(told) < 500


async def test_what_died_after_the_signature_needs_no_other_one(town):
    """The old slot is gone between approval and promotion: the plan is the same, and what was signed still goes."""
    await town.proven()
    await town.signed()
    assert (await town.promote()).exit_code == 0
    town.commit("more", "more")
    await town.proven()
    await town.signed()
    before = await plan_promotion(town.world(town.prod), "", lambda _text: None)
    town.prod.running.clear()
    told = []
    after = await plan_promotion(town.world(town.prod), "", told.append)
    assert (before.old_alive, after.old_alive) == (True, False)
    assert before.hash == after.hash
    assert any("is remembered as serving, but does not run" in line for line in told)
    assert (await town.promote()).exit_code == 0


@pytest.fixture
def prod(tmp_path):
    """An environment of a host.toml that says no more than it must."""
    path = tmp_path / "host.toml"
    path.write_text(TOML.format(folder=tmp_path))
    return open_environment(load_host(path), tmp_path / "state", "rooms", "prod")


def test_every_setting_is_one_that_somebody_signs(prod):
    """A new key of host.toml is in the plan, or this test says that nobody thought of it."""
    known = {one.name for kind in (HostEnvironment, HostService) for one in msgspec.structs.fields(kind)} - {"env"}
    assert known == OTHER.keys()
    plain = settings_of(prod)
    assert plain.keys() == {"public_url", "env_file", "ports", "repo"}
    assert plain["ports"] == "18120-18139"
    for name, value in OTHER.items():
        part = "host" if name in HostEnvironment.__struct_fields__ else "host_service"
        changed = msgspec.structs.replace(getattr(prod, part), **{name: value})
        other = settings_of(type(prod)(**{**{k: getattr(prod, k) for k in prod.__dataclass_fields__}, part: changed}))
        assert other != plain, name
        assert "s3ntinel" not in str(other)


async def test_the_signed_text_names_them(prod, town):
    """The command's world carries what its host.toml says, and each is a line of the text."""
    town.prod.settings = world_of(prod).settings
    await town.proven()
    plan = await plan_promotion(town.world(town.prod), "", lambda _text: None)
    text = document(("shop", "prod"), plan.hash, plan.promotion, "2026-01-01T00:00:00Z")
    assert "\nserver ports: 18120-18139\nserver public_url: http://127.0.0.1:2\n" in text
