"""Test on one host and prod on another, by the real command line: what host.toml pins, and what comes of it."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.drill


@pytest.fixture
def far(shop, tmp_path):
    """Another host of the same service: prod alone, a state folder of its own, nothing of test but the origin."""
    folder = tmp_path / "far"
    folder.mkdir()
    secrets = folder / "prod.env"
    secrets.write_text("SHOP_KEY=another-value-for-prod-alone\n")
    secrets.chmod(0o600)
    made = type(shop)(folder, shop.port + 1)

    def pin(line):
        pinned = f'test_ledger_key = "{line}"\n' if line else ""
        (folder / "host.toml").write_text(
            f'[service.shop]\nrepo = "{tmp_path / "origin"}"\n{pinned}[service.shop.env.prod]\n'
            f'public_url = "{made.url}"\nenv_file = "{secrets}"\nports = [29900, 29919]\n'
        )

    made.pin = pin
    return made


def refused(far, code, *words):
    """Plan and promotion say no in these words, and prod's own ledger has the code."""
    for verb in ("plan", "promote"):
        exit_code, out = far.sluice(verb, "--env", "prod")
        assert (exit_code, [word for word in words if word not in out]) == (1, []), out
    records = [json.loads(line) for line in far.sluice("log", "--env", "prod", "--json")[1].splitlines()]
    assert (records[-1]["type"], records[-1]["refusal"]) == ("promotion", code)


def test_what_another_host_proved_counts_by_the_key_that_is_pinned(shop, far, tmp_path):
    """No key, a wrong one, the right one; then the origin's copy is taken away, and then the origin."""
    assert shop.rollout("main")[0] == 0
    key = shop.paths.ledger.with_name("ledger.key.pub").read_text().strip()
    far.pin("")
    refused(far, "NotProven", "pins no key", "test_ledger_key")
    far.pin(far.paths.ledger.parent.parent.joinpath("prod", "ledger.key.pub").read_text().strip())
    refused(far, "RecordDoubtful", "signed by another key", "test_ledger_key")
    far.pin(key)
    # The right key: what it proves are processes, and those are where they were built.
    refused(far, "ArtifactGone", "plain processes", "on test's host: promote there")
    assert far.sluice("log", "verify", "--env", "prod")[0] == 0
    ref = "refs/sluice/ledger/shop/test"
    head = shop.git("rev-parse", ref)
    shop.git("update-ref", "-d", ref)
    refused(far, "RecordDoubtful", "was cut on the origin")
    shop.git("update-ref", ref, head)
    refused(far, "ArtifactGone")
    (tmp_path / "origin").rename(tmp_path / "away")
    refused(far, "OriginUnreachable", "cannot be fetched", "git ls-remote")


def test_a_branch_of_prods_host_alone_is_never_proven(shop, far):
    """Main moved on after its success in test: the way on is a rollout on test's host."""
    assert shop.rollout("main")[0] == 0
    far.pin(shop.paths.ledger.with_name("ledger.key.pub").read_text().strip())
    shop.branch("feature/more")
    shop.git("merge", "-q", "--ff-only", "feature/more")
    refused(far, "NotProven", "was never proven in test", "on test's host: sluice rollout --env test --branch main")
