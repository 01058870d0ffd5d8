"""The policy's tables and the forge of host.toml: what nobody could follow is refused with its path."""

from __future__ import annotations

import pytest

from sluice.config import load_host, load_service
from sluice.model.errors import ConfigError

SERVICE = 'name = "s"\n[run]\ncommand = ["s"]\n'
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJNTE5ExampleExampleExampleExampleExampleExa a"
HOST = (
    '[service.s]\nrepo = "/srv/s.git"\n[service.s.env.test]\npublic_url = "http://127.0.0.1:8080"\n'
    'env_file = "/etc/s.env"\nports = [18100, 18119]\n'
)
FORGE = '[service.s.forge]\nkind = "gitea"\napi = "https://git.example.org/api/v1"\nrepository = "team/s"\n'


def window(text: str) -> str:
    """A freeze window with these keys."""
    return f'[[gates.freeze]]\nname = "w"\n{text}\n'


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("[gates]\nchecks = [[]]", "$.gates.checks", "empty command"),
        ('[gates]\nchecks = [["make", ""]]', "$.gates.checks", "empty word"),
        ('[gates]\nchecks_proof = "note"', "$.gates.checks", "needs commands"),
        (
            '[gates]\nchecks = [["a"]]\nchecks_proof = "note"\nchecks_status = ["ci"]',
            "$.gates.checks_status",
            "never asked",
        ),
        ('[gates]\nchecks = [["a"]]\nchecks_proof = "status"', "$.gates.checks_status", "name the contexts"),
        ('[gates]\nchecks_proof = "trust"', "$.gates.checks_proof", "note, status, either"),
        ('[gates]\nsummary = ["trailer", "trailer"]', "$.gates.summary", "repeats"),
        ('[gates]\nsummary = ["chat"]', "$.gates.summary[0]", ""),
        ("[gates]\nsummary_letters = 0", "$.gates.summary_letters", "at least 1"),
        ('[gates]\nfragments = "/changes"', "$.gates.fragments", "inside the repository"),
        ('[gates]\nnever_waive = ["secrets"]', "$.gates.never_waive", "is no gate"),
        ('[[gates.docs]]\ncode = ["src/**"]\ndocs = []', "$.gates.docs", "empty `docs`"),
        ('[[gates.docs]]\ncode = ["src/"]\ndocs = ["a"]', "$.gates.docs", "write 'src/**'"),
        ('[[gates.docs]]\ncode = ["./src/**"]\ndocs = ["a"]', "$.gates.docs", "write 'src/**'"),
        ('[[gates.docs]]\ncode = ["../x"]\ndocs = ["a"]', "$.gates.docs", "inside the repository"),
        (window('zone = "Mars/Base"'), "$.gates.freeze[w].zone", "IANA"),
        (window('zone = "../../etc/passwd"'), "$.gates.freeze[w].zone", "IANA"),
        (window('zone = ""'), "$.gates.freeze[w].zone", "IANA"),
        (window('days = ["sunday"]'), "$.gates.freeze[w].days", "mon"),
        (window('start = "9:00"'), "$.gates.freeze[w].start", "HH:MM"),
        (window('start = "24:00"'), "$.gates.freeze[w].start", "00:00"),
        (window('end = "24:30"'), "$.gates.freeze[w].end", "HH:MM"),
        (window('since = "2026-01-01"'), "$.gates.freeze[w].since", "YYYY-MM-DDTHH:MM"),
        (window('until = "2026-01-01T00:00Z"'), "$.gates.freeze[w].until", "no zone"),
        (
            window('since = "2026-01-02T00:00"\nuntil = "2026-01-01T00:00"'),
            "$.gates.freeze[w].until",
            "after since",
        ),
        (window('environments = ["stage"]'), "$.gates.freeze[w].environments", "prod, test"),
        (window("") + window(""), "$.gates.freeze", "two windows"),
        (window("").replace('"w"', '" "'), "$.gates.freeze", "without a name"),
        (
            '[[gates.allowed_secrets]]\npath = "t"\ndigest = "xyz"\nreason = "r"\nreviewed_by = "a"',
            "$.gates.allowed_secrets",
            "16 hex digits",
        ),
        (
            '[[gates.allowed_secrets]]\npath = "t"\ndigest = "0011223344556677"\nreason = " "\nreviewed_by = "a"',
            "$.gates.allowed_secrets",
            "needs a reason",
        ),
        ("[promotion]\napprovals = 0", "$.promotion.approvals", "at least 1"),
        ("[promotion]\napproval_ttl_s = 0", "$.promotion.approval_ttl_s", "above 0"),
        ("[promotion]\nproof_ttl_s = inf", "$.promotion.proof_ttl_s", "at most"),
        ('[[promotion.checklist]]\nid = "A b"\ntext = "t"', "$.promotion.checklist", "not an id"),
        ('[[promotion.checklist]]\nid = "a"\ntext = ""', "$.promotion.checklist", "no text"),
        ('[[promotion.checklist]]\nid = "a"\ntext = "t"\ntimeout_s = 0', "$.promotion.checklist", "positive"),
        ('[[promotion.checklist]]\nid = "a"\ntext = "t"\n' * 2, "$.promotion.checklist", "two items"),
        (f'[signers."a b"]\nkeys = ["{KEY}"]\nmay = ["checks"]', "$.signers.a b", "not a name"),
        ('[signers.ann]\nkeys = []\nmay = ["checks"]', "$.signers.ann.keys", "is empty"),
        (f'[signers.ann]\nkeys = ["{KEY}"]\nmay = []', "$.signers.ann.may", "is empty"),
        ('[signers.ann]\nkeys = ["ssh-ed25519 AAAA"]\nmay = ["checks"]', "$.signers.ann.keys", "no public key"),
        (f'[signers.ann]\nkeys = ["{KEY}"]\nmay = ["rule"]', "$.signers.ann.may[0]", ""),
        (
            f'[signers.ann]\nkeys = ["{KEY}"]\nmay = ["checks"]\n[signers.bob]\nkeys = ["{KEY} b"]\nmay = ["approve"]',
            "$.signers.bob.keys",
            "ann's too",
        ),
    ],
)
def test_a_policy_nobody_could_follow_is_refused(text, path, words):
    """The key's path and what it should be are in the error."""
    with pytest.raises(ConfigError) as caught:
        load_service(f"{SERVICE}{text}".encode(), "sluice.toml")
    assert caught.value.data["path"] == path
    assert words in caught.value.what


@pytest.mark.parametrize("zone", ["UTC", "Europe/Moscow", "Asia/Kolkata"])
def test_a_window_in_any_known_zone(zone):
    """The zones are there whatever the machine has installed."""
    text = SERVICE + window(f'zone = "{zone}"')
    spec = load_service(text.encode(), "sluice.toml")
    assert spec.gates.freeze[0].zone == zone


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        (FORGE.replace("https://git.example.org/api/v1", "git.example.org"), "api", "absolute URL"),
        (FORGE.replace("https://git", "https://user:pw@git"), "api", "absolute URL"),
        (FORGE.replace("/api/v1", "/api?token=1"), "api", "absolute URL"),
        (FORGE.replace("https", "http") + 'token_file = "/etc/t"\n', "api", "in the clear"),
        (FORGE.replace("team/s", "s"), "repository", "OWNER/NAME"),
        (FORGE.replace("team/s", "team/../s"), "repository", "OWNER/NAME"),
        (FORGE.replace("team/s", "a/b/c"), "repository", "OWNER/NAME"),
        (FORGE + 'token_file = "token"\n', "token_file", "absolute"),
        (FORGE.replace("gitea", "svn"), "kind", "github, gitlab, gitea"),
    ],
)
def test_a_forge_that_cannot_be_asked_safely_is_refused(tmp_path, text, path, words):
    """The token's way over the network is part of it."""
    file = tmp_path / "host.toml"
    file.write_text(HOST + text)
    with pytest.raises(ConfigError) as caught:
        load_host(file)
    assert caught.value.data["path"] == f"$.service.s.forge.{path}"
    assert words in caught.value.what


@pytest.mark.parametrize(
    "text",
    [
        FORGE,
        FORGE.replace("gitea", "gitlab").replace("team/s", "group/sub/s"),
        FORGE.replace("https://git.example.org", "http://127.0.0.1:3000") + 'token_file = "/etc/t"\n',
        FORGE.replace("https", "http"),
    ],
)
def test_a_forge_that_is_right(tmp_path, text):
    """Plain HTTP only where no token goes over a network."""
    file = tmp_path / "host.toml"
    file.write_text(HOST + text)
    assert load_host(file).service["s"].forge is not None
