"""The way to prod by the real command line: real git, real SSH keys, real processes behind two ingresses."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import urllib.request

import pytest

from sluice.runtimes.client import SupervisorClient

pytestmark = pytest.mark.drill

POLICY = """
[promotion]
approval_ttl_s = 600
approver_not_author = true
checklist = [
  {{id = "backup", text = "The database was backed up."}},
  {{id = "tools", text = "git is there.", command = ["git", "--version"]}},
]
[signers.bob]
keys = ["{bob}"]
may = ["approve", "checklist"]
[signers.ann]
keys = ["{ann}"]
may = ["approve"]
authors = ["Ann"]
"""


def key(folder, name):
    """A new SSH key; its public line."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)], check=True, timeout=30
    )
    return (folder / f"{name}.pub").read_text().strip()


@pytest.fixture
def prod(shop, tmp_path):
    """The shop with a prod beside test; both keys are in the policy on main, mallory's is not."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    host = tmp_path / "host.toml"
    text = host.read_text().replace("[service.shop]\n", "[service.shop]\ndemo = true\n")
    first = 29100 + port % 900
    secrets = tmp_path / "prod.env"
    secrets.write_text("SHOP_KEY=another-value-for-prod-alone\n")
    secrets.chmod(0o600)
    host.write_text(
        f'{text}[service.shop.env.prod]\npublic_url = "http://127.0.0.1:{port}"\nenv_file = "{secrets}"\n'
        f"ports = [{first}, {first + 19}]\n"
    )
    keys = {name: key(tmp_path, name) for name in ("bob", "ann", "mallory")}
    origin = tmp_path / "origin"
    spec = (origin / "sluice.toml").read_text() + POLICY.format(**keys)
    (origin / "sluice.toml").write_text(spec)
    shop.git("commit", "-qam", "Name who may sign")
    shop.prod_url = f"http://127.0.0.1:{port}"
    yield shop
    SupervisorClient(shop.paths.supervisor_dir).shutdown()


def in_prod(shop):
    """The commit users of prod get."""
    with urllib.request.urlopen(f"{shop.prod_url}/version", timeout=5) as answer:  # noqa: S310 - our own address
        return str(json.load(answer)["sha"])


def refused(shop, code, *words):
    """Refused with exactly this code, and recorded under it."""
    exit_code, out = shop.sluice("promote", "--env", "prod", *words)
    assert exit_code == 1, out
    records = [json.loads(line) for line in shop.sluice("log", "--env", "prod", "--json")[1].splitlines()]
    assert (records[-1]["type"], records[-1]["refusal"]) == ("promotion", code), out
    return out


def following(plan):
    """What a plan says to type, without `sluice`."""
    typed = plan.partition("  Next: ")[2].splitlines()
    return [line.strip().removeprefix("sluice ") for line in typed]


def test_a_plan_names_what_is_to_be_typed_and_that_works(prod, tmp_path):
    """Sign-offs, approvals, the promotion, with what it is to pass over; once all is there, the promotion alone."""
    assert prod.rollout("main")[0] == 0
    code, plan = prod.sluice("plan", "--env", "prod", "--waive", "freeze=no time")
    assert "commits         all there are; the newest:" in plan
    typed = [shlex.split(line.replace("~/.ssh/id_ed25519", str(tmp_path / "bob"))) for line in following(plan)]
    assert [words[0] for words in typed] == ["sign-off", "approve", "promote"], plan
    for words in typed[:2]:
        code, out = prod.sluice(*words)
        assert code == 0, out
    left = following(prod.sluice("plan", "--env", "prod", "--waive", "freeze=no time")[1])
    assert [shlex.split(line) for line in left] == typed[2:]
    code, out = prod.sluice(*typed[2])
    assert code == 0, out


def test_the_whole_way_to_prod(prod, tmp_path):
    """Unproven, unapproved, unsigned, foreign and authors' own are refused; then the proven artifact serves."""
    assert "sluice rollout --env test" in refused(prod, "NotProven")
    assert prod.rollout("main")[0] == 0
    assert "feature/good" in refused(prod, "FeatureBranch", "--branch", "feature/good")
    code, plan = prod.sluice("plan", "--env", "prod")
    assert code == 0
    for word in ("nothing serves", "1 of: bob, ann, not by an author", "backup: The database was backed up.", "schema"):
        assert word in plan, plan
    for word in ("gates", "contains-main, no-secrets", "gates switched off by the policy", "nobody yet"):
        assert word in plan, plan
    # A path is never broken, however long it is.
    assert max(len(line) for line in plan.splitlines()[1:] if str(tmp_path) not in line) < 80, plan
    refused(prod, "ChecklistOpen")
    for how in (("--key", str(tmp_path / "bob")), ("--print",)):
        code, out = prod.sluice("sign-off", "--env", "prod", "--item", "backpu", *how)
        assert (code, "use one of: backup" in out, "plan: " in out) == (2, True, False)
    code, out = prod.sluice("sign-off", "--env", "prod", "--item", "backup", "--key", str(tmp_path / "bob"))
    assert code == 0, out
    refused(prod, "ApprovalMissing")
    for name, why in (("mallory", "SignatureForeign"), ("ann", "ApprovalByAuthor")):
        code, out = prod.sluice("approve", "--env", "prod", "--key", str(tmp_path / name))
        assert code == 1
        assert why in out
        assert "plan: " not in out  # nobody reads a page to be refused
    code, out = prod.sluice("approve", "--env", "prod", "--key", str(tmp_path / "bob"))
    assert code == 0, out
    for word in (
        "to: ",
        "gates: contains-main",
        "approvals: 1 of: bob, ann",
        "checklist backup: The database was backed up. (a person",
    ):
        assert word in out, out
    code, out = prod.sluice("promote", "--env", "prod")
    assert code == 0, out
    # What will change, the gates and the approver stand there before the first gate is asked.
    shown = out.partition("approved by     bob (SHA256:")[0]
    for word in ("from            nothing serves", "commits", "contains-main, no-secrets", "1 of: bob, ann"):
        assert word in out, out
    assert "Plan " in shown, out
    assert "no-secrets  " not in shown, out
    main = prod.git("rev-parse", "main")
    assert in_prod(prod) == main
    record = json.loads(prod.sluice("log", "--env", "prod", "--json")[1].splitlines()[-1])
    tested = json.loads(prod.sluice("log", "--env", "test", "--json")[1].splitlines()[-1])
    assert (record["artifact_key"], record["proof_run"]) == (tested["artifact_key"], tested["run"])
    assert {(one["principal"], one["role"]) for one in record["approvals"]} == {
        ("bob", "approve"),
        ("bob", "checklist"),
    }
    assert prod.sluice("smoke", "--env", "prod")[0] == 0
    assert prod.sluice("log", "verify", "--env", "prod")[0] == 0
    refused(prod, "AlreadyServes")


def test_what_was_changed_on_disk_since_test_is_not_promoted(prod, tmp_path):
    """One byte, and nobody can sign it or bring it to prod; rolled out again it is built anew, and that one serves."""
    assert prod.rollout("main")[0] == 0
    run = json.loads(prod.sluice("log", "--env", "test", "--json")[1].splitlines()[-1])
    assert run["artifact_digests"].keys() == {"content:own"}
    changed = prod.paths.artifacts / run["artifact_key"] / "tree" / "server.py"
    changed.write_text(changed.read_text() + "# one line more\n")
    out = refused(prod, "ArtifactChanged")
    assert "tree/server.py is another" in out
    code, out = prod.sluice("sign-off", "--env", "prod", "--item", "backup", "--key", str(tmp_path / "bob"))
    assert (code, "tree/server.py is another" in out) == (1, True), out
    code, out = prod.rollout("main")
    assert (code, "tree/server.py is another. It is left as it is" in out) == (0, True), out
    prod.sluice("sign-off", "--env", "prod", "--item", "backup", "--key", str(tmp_path / "bob"))
    prod.sluice("approve", "--env", "prod", "--key", str(tmp_path / "bob"))
    code, out = prod.sluice("promote", "--env", "prod")
    assert code == 0, out
    assert in_prod(prod) == prod.git("rev-parse", "main")
    record = json.loads(prod.sluice("log", "--env", "prod", "--json")[1].splitlines()[-1])
    assert record["artifact_key"] != run["artifact_key"]
    # The changed one was verified once, and is what test would go back to.
    code, out = prod.sluice("rollback", "--env", "test")
    assert (code, "was changed after it was verified" in out) == (1, True), out


def test_a_text_signed_elsewhere_is_taken_in_and_an_altered_one_is_not(prod, tmp_path):
    """What --print shows is signed with plain ssh-keygen; one letter less, or another plan, and it does not hold."""
    assert prod.rollout("main")[0] == 0
    for role, words, namespace in (
        ("approve", (), "sluice-approval"),
        ("sign-off", ("--item", "backup"), "sluice-checklist"),
    ):
        code, text = prod.sluice(role, "--env", "prod", *words, "--print")
        assert code == 0, text
        path = tmp_path / f"{role}.txt"
        path.write_text(text)
        sign = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(tmp_path / "bob"), "-n", namespace, str(path)]
        subprocess.run(sign, check=True, timeout=30)
        altered = tmp_path / f"{role}-altered.txt"
        altered.write_text(text.replace("commits: all there are", "commits: 0"))
        signature = path.with_suffix(".txt.sig").read_text()
        for what, wanted in ((altered.read_text(), "PlanAltered"), (text, "")):
            whole = tmp_path / "signed"
            whole.write_text(what + signature)
            code, out = prod.sluice(role, "--env", "prod", *words, "--signed", str(whole))
            assert (code, wanted in out) == (1 if wanted else 0, True), out
    # The settings of prod change: nothing that was signed is for this plan any more.
    with (tmp_path / "prod.env").open("a") as env_file:
        env_file.write("SHOP_COLOUR=blue\n")
    out = refused(prod, "PlanAltered")
    assert "ssh-keygen" not in out


def test_a_merge_that_changed_the_tree_is_proven_again(prod, tmp_path):
    """After the merge main's tree is another than the branch's: main itself goes to test first, then to prod."""
    assert prod.rollout("main")[0] == 0
    prod.git("checkout", "-q", "feature/good")
    prod.git("merge", "-q", "-X", "ours", "-m", "Take main in", "main")
    prod.git("checkout", "-q", "main")
    code, out = prod.rollout("feature/good")
    assert code == 0, out
    (tmp_path / "origin" / "other").write_text("meanwhile on main")
    prod.git("add", "-A")
    prod.git("commit", "-qm", "Another change")
    refused(prod, "NotMerged")
    prod.git("merge", "-q", "-m", "Merge feature/good", "feature/good")
    out = refused(prod, "NotProven")
    assert "sluice rollout --env test --branch main" in out
    assert prod.rollout("main")[0] == 0
    refused(prod, "ChecklistOpen")


def test_promotion_without_a_test_environment_is_refused(prod, tmp_path):
    """Where nothing ever ran in test there is no proof."""
    shutil.rmtree(tmp_path / "state", ignore_errors=True)
    refused(prod, "NotProven")


def test_a_key_signs_where_it_is_and_not_on_the_server(prod, tmp_path):
    """With --host the text comes from there, is signed here, and goes back; the server never sees the key."""
    assert prod.rollout("main")[0] == 0
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    # The last word of ssh's is the command; the server is this machine, without the keys.
    program.write_text('#!/bin/sh\nfor last; do :; done\necho "$last" >> "$0.log"\nexec sh -c "$last"\n')
    program.chmod(0o755)
    cli = f"{sys.executable} -c 'import sys; from sluice.cli import main; sys.exit(main())'"
    here = {**prod.environment(), "PATH": f"{program.parent}:{os.environ['PATH']}", "SLUICE_REMOTE_COMMAND": cli}

    def there(*words):
        argv = [sys.executable, "-c", "import sys; from sluice.cli import main; sys.exit(main())"]
        return subprocess.run(
            [*argv, "--host", "ssh://server", *words], env=here, capture_output=True, text=True, timeout=60, check=False
        )

    for words in (("sign-off", "--item", "backup"), ("approve",)):
        done = there(*words, "--env", "prod", "--yes", "--key", str(tmp_path / "bob"))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "plan: " in done.stdout
    log = program.with_name("ssh.log").read_text()
    assert str(tmp_path / "bob") not in log
    assert "--signed -" in log
    done = there("approve", "--env", "prod", "--yes", "--key", str(tmp_path / "mallory"))
    assert (done.returncode, "SignatureForeign" in done.stderr) == (1, True)
    done = there("approve", "--env", "prod", "--yes", "--key", str(tmp_path / "nobody"))
    assert (done.returncode, "does not sign" in done.stderr) == (1, True)
    assert prod.sluice("promote", "--env", "prod")[0] == 0
