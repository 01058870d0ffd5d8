"""No secret where git reads nothing, and none in what users get for the first time: binary files, whole histories."""

from __future__ import annotations

import dataclasses
import random
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from sluice.gates import opaque, secret_span, secrets
from sluice.gates.context import Asked
from sluice.gates.run import run_gates
from sluice.gates.secret_values import digest_of
from sluice.gates.secrets import no_secrets
from sluice.hosts import git
from sluice.hosts.system import SystemClock
from sluice.model.errors import ProbeBroken, Refused
from sluice.model.policy import AllowedSecret, GatesSpec
from sluice.model.verdict import Verdict
from sluice.runner import LocalRunner

# The bench is a directory of scripts, not a package; how its corpus writes files down is ours too.
sys.path.insert(0, str(Path(__file__).parents[4] / "bench"))
import corpus

AWS = "AK" + "IA" + "Q3EGRCTZPLMN5KVX"
SECRET = "JWT_SEC" + f'RET="{"".join(random.Random(11).choices("abcdefghkmnpqrstuvwxyz23456789", k=40))}"\n'
LINES = f"# settings\nPORT=8080\n{SECRET}"
FORMS = [form for form in corpus.FORMS if form]


def written(form: str, text: str) -> bytes:
    """The text as the corpus would write it down."""
    return corpus.FORMS[form](text, random.Random(form))


# ---------------------------------------------------------------- what git calls binary


@pytest.mark.parametrize("form", FORMS)
async def test_a_secret_in_a_file_that_git_calls_binary_is_found(origin, form):
    """A NUL beside it, UTF-16 of any kind, or other bytes around it hide nothing; the line is that of the file."""
    origin.commit({"deploy/prod.env": written(form, LINES)})
    finding = await no_secrets(await origin.context())
    assert finding.verdict is Verdict.FAIL
    assert "deploy/prod.env:3 " in finding.detail
    assert (finding.metrics["found"], finding.metrics["binary"]) == (1, 1)
    assert "of 1 binary file what can be read" in finding.detail


async def test_what_a_binary_file_had_before_is_not_the_branchs_fault(origin):
    """Of a file that is changed only the lines count that it did not have; main's old secret stays main's."""
    origin.git("checkout", "--quiet", "main")
    origin.commit({"old.env": written("utf-16", LINES)})
    origin.git("checkout", "--quiet", "-b", "feature/y")
    origin.commit({"old.env": written("utf-16", LINES + "MORE=yes\n")})
    assert (await no_secrets(await origin.context("feature/y"))).verdict is Verdict.PASS
    origin.commit({"old.env": written("utf-16", f'KEY="{AWS}"\n{LINES}')})
    finding = await no_secrets(await origin.context("feature/y"))
    assert (finding.verdict, finding.metrics["found"]) == (Verdict.FAIL, 1)
    assert "old.env:1 " in finding.detail


async def test_a_value_beside_an_old_name_is_found_in_a_binary_file_too(origin):
    """Of a changed file the lines around the new ones are looked at with them, and marked."""
    name = "env:\n  - name: DB_PASSWORD\n"
    origin.git("checkout", "--quiet", "main")
    origin.commit({"k8s.yaml": written("utf-16", f"{name}    value: changeme\n")})
    origin.git("checkout", "--quiet", "-b", "feature/y")
    origin.commit({"k8s.yaml": written("utf-16", f"{name}    value: {SECRET.split(chr(34))[1]}\n")})
    finding = await no_secrets(await origin.context("feature/y"))
    assert (finding.verdict, finding.metrics["found"]) == (Verdict.FAIL, 1)
    assert "k8s.yaml:3 " in finding.detail


def test_lines_around_new_ones_are_kept_and_told_apart():
    """So much on each side, with an empty line where something is left out; of a new part of a key everything."""
    before = [(n, f"old {n}") for n in range(1, 40)]
    now = [*before[:10], (0, "new"), *before[10:]]
    lines, old = opaque.only_new(now, [before])
    assert [text for _, text in lines] == [text for _, text in now[10 - opaque.AROUND : 11 + opaque.AROUND]]
    assert [lines[at - 1][1] for at in old] == [text for _, text in lines if text != "new"]
    assert opaque.only_new(before, [before]) == ([], [])
    lines, _ = opaque.only_new([*now, (50, "new"), *before], [before])
    assert [text for _, text in lines].count("") == 1
    lines, old = opaque.only_new([*before, (40, "A" * 64)], [before])
    assert (len(lines), len(old)) == (40, 39)


async def test_attributes_of_the_candidate_hide_nothing(origin):
    """A branch that calls its own files binary has them read all the same."""
    origin.git("checkout", "--quiet", "main")
    origin.commit({".gitattributes": "*.conf binary\n*.env -diff\n"})
    origin.git("checkout", "--quiet", "-b", "feature/y")
    origin.commit({".gitattributes": "* binary\n", "a.conf": f'key = "{AWS}"\n', "prod.env": LINES})
    finding = await no_secrets(await origin.context("feature/y"))
    assert finding.metrics["found"] == 2


async def test_a_binary_file_made_while_merging_is_read(origin):
    """What a merge brings in by hand is looked at too, also where the patch of a merge shows no binary file."""
    origin.commit({"a.env": written("nul", "A=1\n")})
    origin.git("checkout", "--quiet", "main")
    origin.commit({"a.env": written("nul", "A=2\n")})
    origin.git("checkout", "--quiet", "feature/x")
    with pytest.raises(subprocess.CalledProcessError):  # a conflict
        origin.git("merge", "--quiet", "--no-ff", "main")
    origin.commit({"a.env": written("nul", LINES)})
    finding = await no_secrets(await origin.context())
    assert (finding.verdict, finding.metrics["found"]) == (Verdict.FAIL, 1)


@pytest.mark.parametrize("form", ["", "nul"])
@pytest.mark.parametrize(
    "name",
    [
        "with space.env",
        "ключи.env",
        'quote".env',
        "b/a.env",
        "tab\there.env",
        "back\\slash.env",
        "new\nline.env",
        "\x01.env",
    ],
)
async def test_a_file_is_named_as_it_is(origin, form, name):
    """An exception of the policy finds it by its very path, whatever letters that has; the evidence is one line."""
    origin.commit({f"deploy/{name}": written(form, f'KEY="{AWS}"\n')})
    finding = await no_secrets(await origin.context())
    assert finding.metrics["found"] == 1
    assert finding.detail.isprintable()
    entry = AllowedSecret(path=f"deploy/{name}", digest=digest_of(AWS), reason="of a mock", reviewed_by="ann")
    finding = await no_secrets(await origin.context(policy=GatesSpec(allowed_secrets=(entry,))))
    assert finding.verdict is Verdict.PASS


async def test_a_file_too_large_to_read_is_for_a_reviewer(origin, monkeypatch):
    """It is never passed over in silence: the gate refuses, until somebody looked and says so in the policy."""
    monkeypatch.setattr(git, "MAX_BLOB", 5000)
    origin.commit({"big.bin": b"\0" * 6000})
    finding = await no_secrets(await origin.context())
    assert finding.verdict is Verdict.FAIL
    assert "big.bin:1 unread-large-file" in finding.detail
    assert "take the file out" in finding.fix
    content = origin.git("rev-parse", "HEAD:big.bin").strip()
    entry = AllowedSecret(path="big.bin", digest=digest_of(content), reason="a font", reviewed_by="ann")
    finding = await no_secrets(await origin.context(policy=GatesSpec(allowed_secrets=(entry,))))
    assert finding.verdict is Verdict.PASS
    assert "a font, reviewed by ann" in finding.detail


async def test_a_commit_too_large_for_a_patch_is_read_file_by_file(origin, monkeypatch):
    """A library that was committed whole hides nothing, and what its files had before is not asked again."""
    origin.git("checkout", "--quiet", "main")
    origin.commit({"old.conf": LINES, "gone.txt": "x\n" * 3000})
    origin.git("checkout", "--quiet", "-b", "feature/y")
    context = await origin.context("feature/y")
    monkeypatch.setattr(git, "MAX_PATCH", 4000)
    origin.commit({"gone.txt": None, "old.conf": f"{LINES}MORE=yes\n", "lib/data.txt": "data\n" * 2000})
    assert (await no_secrets(await origin.context("feature/y"))).verdict is Verdict.PASS
    origin.commit({"lib/ключ.conf": f'key = "{AWS}"\n', "lib/more.txt": "data\n" * 2000})
    finding = await no_secrets(await origin.context("feature/y"))
    assert (finding.verdict, finding.metrics["found"]) == (Verdict.FAIL, 1)
    assert "lib/ключ.conf:1" in finding.detail
    with pytest.raises(Refused, match="larger than 4000 bytes"):
        await context.repo.patch(origin.git("rev-parse", "feature/y").strip())


async def test_a_large_merge_is_read_file_by_file_too(origin, monkeypatch):
    """Of a merge only the files that no parent had as they are now."""
    origin.commit({"a.txt": "1\n"})
    origin.git("checkout", "--quiet", "main")
    origin.commit({"a.txt": "2\n"})
    origin.git("checkout", "--quiet", "feature/x")
    with pytest.raises(subprocess.CalledProcessError):  # a conflict
        origin.git("merge", "--quiet", "--no-ff", "main")
    origin.commit({"a.txt": f'key = "{AWS}"\n' + "by hand\n" * 1000})
    await origin.context()
    monkeypatch.setattr(git, "MAX_PATCH", 4000)
    finding = await no_secrets(await origin.context())
    assert (finding.verdict, finding.metrics["found"]) == (Verdict.FAIL, 1)
    assert "a.txt:1" in finding.detail


async def test_a_removed_binary_file_adds_nothing(origin):
    """Nothing is read of what is gone with this commit."""
    origin.git("checkout", "--quiet", "main")
    origin.commit({"logo.png": written("binary", "PNG")})
    origin.git("checkout", "--quiet", "-b", "feature/y")
    origin.commit({"logo.png": None})
    finding = await no_secrets(await origin.context("feature/y"))
    assert (finding.verdict, finding.metrics["binary"]) == (Verdict.PASS, 0)


def test_strings_keep_their_line_and_stay_apart():
    """What does not stand together in the file is not joined; short runs of letters are chance."""
    raw = bytes(range(128, 256)) * 4 + b"the name\0short\0\n\n" + b"\x80" * 40 + b"a value of its own\nsecond line"
    (lines,) = opaque.readable(raw)
    assert [line for line in lines if line[1]] == [(1, "the name"), (3, "a value of its own"), (4, "second line")]


def test_a_nul_between_two_words_does_not_join_them():
    """Only a NUL beside every letter is an encoding."""
    (lines,) = opaque.readable(b"A=1\0B=2\0C=3" + b" and text" * 20)
    assert "\0" in lines[0][1]


# ---------------------------------------------------------------- whole histories


async def of_main(origin, since="", **changes):
    """The gate for the policy's own branch."""
    return await no_secrets(await origin.context("main", asked=Asked(since=since), **changes))


@pytest.fixture
def past(origin):
    """A secret was committed to main long ago, and taken away again."""
    origin.git("checkout", "--quiet", "main")
    origin.commit({"old.conf": f'key = "{AWS}"\n'})
    origin.commit({"old.conf": None})
    origin.commit({"new.txt": "harmless\n"})
    return origin


@pytest.mark.parametrize("environment", ["test", "prod"])
async def test_before_the_first_promotion_all_of_main_is_looked_at(past, environment):
    """Nothing was promoted yet: a secret in an old commit of main is refused, and the evidence says what was read."""
    finding = await of_main(past, environment=environment)
    assert finding.verdict is Verdict.FAIL
    assert "old.conf:1" in finding.detail
    assert "4 commits" in finding.detail
    assert "the whole history of 'main': nothing of it was promoted yet" in finding.detail
    assert "[[gates.allowed_secrets]]" in finding.fix
    assert "rebase" not in finding.fix


async def test_the_very_first_commit_is_looked_at_too(tmp_path, past):
    """The root has no parent to be compared with; what it brings is all new."""
    past.git("checkout", "--quiet", "--orphan", "fresh")
    past.commit({"root.conf": f'key = "{AWS}"\n'})
    past.git("branch", "-M", "fresh", "main")
    finding = await of_main(past)
    assert (finding.verdict, finding.metrics["commits"]) == (Verdict.FAIL, 1)


async def test_after_a_promotion_only_newer_commits_are_looked_at(past):
    """What users have already was answered for; a new secret is found all the same."""
    promoted = past.git("rev-parse", "HEAD").strip()
    past.commit({"more.txt": "harmless\n"})
    finding = await of_main(past, promoted)
    assert (finding.verdict, finding.metrics["commits"]) == (Verdict.PASS, 1)
    assert f"since {promoted[:12]} was promoted" in finding.detail
    past.commit({"more.conf": LINES})
    assert (await of_main(past, promoted)).verdict is Verdict.FAIL


async def test_a_promoted_commit_that_is_not_known_any_more_excuses_nothing(past):
    """A rewritten history is read from its root."""
    finding = await of_main(past, "f" * 40)
    assert finding.verdict is Verdict.FAIL
    assert "is not in the repository" in finding.detail


async def test_what_passed_in_test_before_is_not_read_again_there(past):
    """With the same base, rules and allow-list only what is new is read; in prod everything, whatever test says."""
    entry = AllowedSecret(path="old.conf", digest=digest_of(AWS), reason="revoked in May", reviewed_by="ann")
    policy = GatesSpec(allowed_secrets=(entry,))
    first = await of_main(past, policy=policy)
    assert first.verdict is Verdict.PASS
    sha = past.git("rev-parse", "HEAD").strip()
    record = {"branch": "main", "commit": sha, "gates": [msgspec.to_builtins(first)]}
    past.commit({"more.txt": "harmless\n"})

    async def read(told=record, **changes):
        finding = await of_main(past, policy=changes.pop("policy", policy), records=lambda: [told], **changes)
        return finding.metrics["commits"]

    assert await read() == 1
    assert await read(environment="prod") == 5
    assert await read(policy=GatesSpec()) == 5
    assert await read({**record, "branch": "feature/x"}) == 5
    assert await read({**record, "commit": "f" * 40}) == 5
    assert await read({**record, "gates": [msgspec.to_builtins(await of_main(past))]}) == 5, "that one failed"
    assert await read(since=past.git("rev-list", "--max-parents=0", "HEAD").strip()) == 4, "another base"
    past.commit({"more.conf": LINES})
    assert (await of_main(past, policy=policy, records=lambda: [record])).verdict is Verdict.FAIL


async def test_every_module_that_decides_is_one_of_the_rules(origin, monkeypatch, tmp_path):
    """What any module of the gates or of git does may change what is found, so each of them is in the rules' name."""
    context = await origin.context("main")
    loaded = {Path(module.__file__) for name, module in sys.modules.items() if name.startswith("sluice.gates.")}
    assert loaded <= set(secret_span.RULES)
    assert Path(git.__file__) in secret_span.RULES
    before = secret_span.rules_of(context)
    changed = tmp_path / "secrets.py"
    changed.write_text(Path(secrets.__file__).read_text() + "# another\n")
    others = [changed if rule == Path(secrets.__file__) else rule for rule in secret_span.RULES]
    monkeypatch.setattr(secret_span, "RULES", others)
    assert secret_span.rules_of(context) != before


def test_every_module_that_the_scanner_loads_is_one_of_the_rules():
    """Also what it takes from elsewhere, such as how words are told from drawn letters."""
    ask = "import sys, sluice.gates.scanner\nprint(*(m.__file__ for n, m in sys.modules.items() if 'sluice.' in n))"
    told = subprocess.run([sys.executable, "-I", "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    modules = {Path(file) for file in told if Path(file).name != "__init__.py"}
    assert modules
    assert modules <= set(secret_span.RULES)


async def test_an_old_find_is_settled_by_a_reviewer(past):
    """The history stays as it is; the policy says what the find is, and the evidence shows it."""
    entry = AllowedSecret(path="old.conf", digest=digest_of(AWS), reason="revoked in May", reviewed_by="ann")
    finding = await of_main(past, policy=GatesSpec(allowed_secrets=(entry,)))
    assert finding.verdict is Verdict.PASS
    assert "revoked in May, reviewed by ann" in finding.detail


async def test_a_history_that_is_not_read_in_time_is_no_pass(past, monkeypatch):
    """Too slow is `error`, with how far it came; never a pass."""
    monkeypatch.setattr(secrets, "HISTORY_S", 0.0)
    context = await past.context("main")
    with pytest.raises(ProbeBroken, match=r"0 of 4 commits were read within 0 s"):
        await no_secrets(context)
    findings = await run_gates(dataclasses.replace(context, clock=SystemClock()), lambda _finding: None)
    (found,) = [one for one in findings if one.name == "no-secrets"]
    assert found.verdict is Verdict.ERROR


async def test_a_list_of_commits_is_never_cut(origin, monkeypatch):
    """The list of a long history is longer than what is kept of other commands' output; what is too long is refused."""
    many(origin, 300)
    context = await origin.context("main")
    monkeypatch.setitem(LocalRunner.run_raw.__kwdefaults__, "limit", 1000)
    assert len(await context.repo.commits_between("", "main")) == 301
    monkeypatch.setattr(git, "MAX_PATCH", 1000)
    with pytest.raises(Refused, match="cannot be listed"):
        await context.repo.commits_between("", "main")


def many(origin, number):
    """So many commits more on main, without anything in them."""
    parent = origin.git("rev-parse", "main").strip()
    commits = [f"commit refs/heads/main\ncommitter A <a@x> {1767225600 + n} +0000\ndata 1\nx\n" for n in range(number)]
    stream = f"reset refs/heads/main\nfrom {parent}\n\n" + "".join(commits)
    subprocess.run(["git", "fast-import", "--quiet"], cwd=origin.work, input=stream, text=True, check=True)
