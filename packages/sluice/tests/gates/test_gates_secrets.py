"""No secret in what the branch adds, in files and messages: what is told of a find, and a scanner that breaks."""

from __future__ import annotations

import dataclasses
import hashlib
import time

import pytest

from sluice.gates.secrets import no_secrets
from sluice.model.errors import ProbeBroken
from sluice.model.policy import GatesSpec
from sluice.model.release import Completed
from sluice.model.verdict import Verdict

from .secret_samples import SECRETS, Broken, allowed


@pytest.mark.parametrize("kind", SECRETS)
async def test_a_secret_is_found_and_never_shown(origin, kind):
    """The evidence names file, line, rule and commit; the value is in no part of the finding."""
    origin.commit({"deploy/settings.conf": "# settings\n\n" + SECRETS[kind]})
    finding = await no_secrets(await origin.context())
    assert finding.verdict is Verdict.FAIL
    assert "deploy/settings.conf:3" in finding.detail
    assert origin.git("rev-parse", "HEAD")[:12] in finding.detail
    words = SECRETS[kind].replace('"', " ").replace("=", " ").split()
    shown = f"{finding.detail} {finding.fix} {finding.metrics}"
    assert not [word for word in words if len(word) > 15 and word in shown]


async def test_a_secret_in_a_message_is_found(origin):
    """A message is pushed as files are; the allow-list names it `message`."""
    origin.commit({"a.txt": "x\n"})
    origin.git("commit", "--quiet", "--amend", "--message", f"Log in\n\nwith {SECRETS['token']}\nSummary: x")
    origin.commit({"b.txt": "x\n"})
    finding = await no_secrets(await origin.context())
    assert (finding.verdict, finding.metrics["found"]) == (Verdict.FAIL, 1)
    assert finding.detail.startswith("message:3 ")
    assert f"(commit {origin.git('rev-parse', 'HEAD~1')[:12]}, " in finding.detail
    policy = GatesSpec(allowed_secrets=(allowed("message", SECRETS["token"].strip()),))
    assert (await no_secrets(await origin.context(policy=policy))).verdict is Verdict.PASS


async def test_the_name_of_a_commit_in_a_message_is_no_secret(origin):
    """Beside a word such as `token` as well; what looks as one and names no commit here is a find."""
    origin.commit({"a.txt": "x\n"})
    known = origin.git("rev-parse", "HEAD").strip()
    origin.commit({"b.txt": "x\n"})
    for name, found in ((known, 0), (hashlib.sha256(b"x").hexdigest()[:40], 1)):
        origin.git("commit", "--quiet", "--amend", "--message", f"Take back\n\ntoken: {name}")
        assert (await no_secrets(await origin.context())).metrics["found"] == found


async def test_a_secret_behind_odd_line_ends_is_found(origin):
    """Characters at which a careless reader ends a line hide nothing."""
    origin.commit({"a.conf": f"x\fy\vz\u2028\x85\r {SECRETS['aws']}"})
    assert (await no_secrets(await origin.context())).verdict is Verdict.FAIL


async def test_binary_files_are_counted_and_huge_lines_are_read(origin):
    """A binary file is said to be unread; a secret at the end of a line of two megabytes is found."""
    origin.commit({"logo.png": bytes(range(256)) * 40, "bundle.js": f"var a=0;{'a=a+1;' * 350_000}{SECRETS['aws']}"})
    finding = await no_secrets(await origin.context())
    assert finding.verdict is Verdict.FAIL
    assert finding.metrics["binary"] == 1


@pytest.mark.alone
async def test_a_thousand_files_take_less_than_the_bar(origin):
    """The bar of the design: five seconds for a diff of a thousand files."""
    body = "".join(f"def function_{n}(argument):\n    return argument + {n}\n" for n in range(40))
    origin.commit({f"src/part{n % 20}/module_{n}.py": body for n in range(1000)})
    context = await origin.context()
    began = time.monotonic()
    finding = await no_secrets(context)
    assert finding.verdict is Verdict.PASS
    assert finding.metrics["files"] == 1000
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "done",
    [
        Completed((), 1, "", "boom", 1),
        Completed((), 0, "nonsense", "", 1),
        Completed((), 0, '{"hits": [], "read": 0}', "", 1),
        Completed((), 0, '{"hits": [], "read": 9}', "", 1),
        Completed((), -9, "", "", 1, timed_out=True),
    ],
)
async def test_a_scanner_that_breaks_is_neither_good_nor_bad(origin, done):
    """A crash, nonsense or a deadline is the probe's fault, never a pass."""
    origin.commit({"a.txt": "x\n"})
    context = dataclasses.replace(await origin.context(), runner=Broken(done))
    with pytest.raises(ProbeBroken):
        await no_secrets(context)
