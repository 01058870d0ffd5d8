"""Which lines are the branch's own: beside old ones, taken away again, merged, or in main already."""

from __future__ import annotations

import hashlib
import random
import string

import pytest

from sluice.gates.added import Added, parse_patch
from sluice.gates.secrets import no_secrets
from sluice.model.verdict import Verdict

from .secret_samples import SECRETS, noise


def key_file(kind: str, seed: int) -> str:
    """A private key in PEM."""
    letters = string.ascii_letters + string.digits + "+/"
    body = ["".join(random.Random(seed * 100 + n).choices(letters, k=64)) for n in range(25)]
    return "\n".join([f"-----BEGIN {kind}" + "PRIVATE KEY-----", *body, f"-----END {kind}" + "PRIVATE KEY-----", ""])


FILLER = "".join(f"# line {n}\n" for n in range(30))
OLD, NEW = "changeme", noise(24, 6)
HALVES = {
    "kubernetes": ("env:\n  - name: DB_PASSWORD\n    value: {}\n", OLD, NEW),
    "plist": ("<key>apiToken</key>\n<string>{}</string>\n", OLD, NEW),
    "terraform": ('variable "db_password" {{\n  type = string\n\n  default = "{}"\n}}\n', OLD, NEW),
    "python": ('SECRET_KEY = (\n    "{}"\n)\n', OLD, NEW),
    "json": ('[\n {{"name": "DB_PASSWORD",\n  "value": "{}"}}\n]\n', OLD, NEW),
    "netrc": ("machine h.corp.com\n  login bob\n  pass" + "word {}\n", OLD, NEW),
    "coturn": ("lt-cred-mech\nrealm=x\nuser=rooms:{}\n", OLD, "Kuchen" + "42x"),
    "a key exchanged": ("{}", key_file("", 1), key_file("", 2)),
    "an OpenSSH key exchanged": ("{}", key_file("OPENSSH ", 1), key_file("OPENSSH ", 2)),
    "a body far below its head": (
        "-----BEGIN PRIVATE" + " KEY-----\n" + FILLER + "{}-----END\n",
        "",
        noise(64, 1) + "\n",
    ),
    "a body between head and end": (key_file("", 1).replace("\n", "\n{}", 1), "", noise(64, 2) + "\n"),
}


@pytest.mark.parametrize("kind", HALVES)
async def test_a_secret_beside_an_old_line_is_found(origin, kind):
    """The commit brings the value alone: its name, or the head of the key, is in the file since long."""
    shape, before, after = HALVES[kind]
    origin.git("checkout", "--quiet", "main")
    origin.commit({"media.conf": FILLER + shape.format(before)})
    origin.git("checkout", "--quiet", "-b", "feature/y")
    origin.commit({"media.conf": FILLER + shape.format(after)})
    finding = await no_secrets(await origin.context("feature/y"))
    assert (finding.verdict, finding.metrics["found"]) == (Verdict.FAIL, 1)


@pytest.mark.parametrize("kind", [*SECRETS, *HALVES])
async def test_a_change_beside_an_old_secret_is_none(origin, kind):
    """What was there before is not the branch's: a line above it, below it, or what looks as a body."""
    shape, _, value = HALVES.get(kind, ("{}", "", SECRETS.get(kind, "")))
    old = shape.format(value).rstrip("\n")
    origin.git("checkout", "--quiet", "main")
    origin.commit({"media.conf": f"# above\n{old}\n# below\n"})
    origin.git("checkout", "--quiet", "-b", "feature/y")
    origin.commit({"media.conf": f"# above it\n{old}\n# below it\n{hashlib.sha512(b'x').hexdigest()}\n"})
    finding = await no_secrets(await origin.context("feature/y"))
    assert (finding.verdict, finding.detail.split(" (")[0]) == (
        Verdict.PASS,
        "Nothing in the added lines of 1 commit",
    )


async def test_a_secret_taken_away_again_is_still_known(origin):
    """What was pushed once is known, so a later commit that removes it does not make it good."""
    origin.commit({"a.conf": SECRETS["aws"]})
    origin.commit({"a.conf": None})
    assert (await no_secrets(await origin.context())).verdict is Verdict.FAIL


async def test_a_secret_written_while_merging_is_found(origin):
    """What a merge brings in by hand, from neither parent, is looked at too."""
    origin.commit({"a.txt": "ours\n"})
    origin.git("checkout", "--quiet", "main")
    origin.commit({"b.txt": "theirs\n"})
    origin.git("checkout", "--quiet", "feature/x")
    origin.git("merge", "--quiet", "--no-commit", "--no-ff", "main")
    origin.commit({"c.conf": SECRETS["aws"]})
    finding = await no_secrets(await origin.context())
    assert finding.verdict is Verdict.FAIL
    assert "c.conf:1" in finding.detail


async def test_what_is_in_main_already_is_not_the_branchs_fault(origin):
    """Only the branch's own commits are looked at."""
    origin.git("checkout", "--quiet", "main")
    origin.commit({"old.conf": SECRETS["aws"]})
    origin.git("checkout", "--quiet", "-b", "feature/y")
    origin.commit({"new.txt": "harmless\n"})
    assert (await no_secrets(await origin.context("feature/y"))).verdict is Verdict.PASS


async def test_merging_main_does_not_make_its_past_the_branchs_fault(origin):
    """The merge that `contains-main` asks for brings in what was accepted there; it is not looked at again."""
    origin.git("checkout", "--quiet", "main")
    origin.commit({"old.conf": SECRETS["aws"]})
    origin.git("checkout", "--quiet", "feature/x")
    origin.commit({"new.txt": "harmless\n"})
    origin.git("merge", "--quiet", "--no-ff", "main")
    assert (await no_secrets(await origin.context())).verdict is Verdict.PASS


def test_lines_of_every_hunk_keep_their_place():
    """Line numbers are those of the file after the commit; what was there before is marked, and parts stay apart."""
    patch = (
        "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,3 @@\n same\n+one\n-gone\n+two\n"
        "@@ -10 +11,2 @@ def f\n same\n+++ three\n\\ No newline at end of file\n"
    )
    added, binary = parse_patch("f" * 40, patch)
    assert binary == []
    assert added == [Added("f" * 40, "x", "same\none\ntwo\n\nsame\n++ three", (1, 2, 3, 11, 11, 12), (1, 4, 5))]


def test_of_a_merge_only_what_no_parent_had_is_added():
    """A combined diff has one column per parent."""
    patch = "diff --cc x\n--- a/x\n+++ b/x\n@@@ -1,1 -1,1 +1,3 @@@\n  both\n+ from one side\n++by hand\n"
    (added,), _ = parse_patch("f" * 40, patch)
    assert (added.text, added.lines) == ("both\nfrom one side\nby hand", (1, 2, 3))
    assert added.old == (1, 2)


def test_a_hunk_that_only_takes_away_is_not_looked_at():
    """What is left around a removed line is nobody's addition."""
    patch = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,3 +1,2 @@\n same\n-gone\n more\n"
    assert parse_patch("f" * 40, patch) == ([], [])
