"""Gates over what a branch changed and the host remembers: docs, summaries without a forge, history, disk, speed."""

from __future__ import annotations

import dataclasses
import time

import pytest

from sluice.checks.host import Disk, judge_disk
from sluice.gates.context import Asked
from sluice.gates.disk import disk_space
from sluice.gates.docs import docs_changed
from sluice.gates.globs import matches
from sluice.gates.history import bad_release
from sluice.gates.run import run_gates
from sluice.gates.summary import letters, pr_summary
from sluice.model.policy import DocsRule, FreezeWindow, GatesSpec, SummarySource
from sluice.model.verdict import Verdict

DOCS = GatesSpec(docs=(DocsRule(code=("src/**",), docs=("docs/**", "README.md"), but=("**/tests/**",)),))
SUMMARY = "Видно, кто уже в голосовой комнате, до того как войти."


@pytest.mark.parametrize(
    ("glob", "path", "yes"),
    [
        ("src/**", "src/a/b.py", True),
        ("src/**", "src", False),
        ("src/*", "src/a/b.py", False),
        ("src/*.py", "src/a.py", True),
        ("**/tests/**", "tests/a.py", True),
        ("**/tests/**", "src/x/tests/a.py", True),
        ("**/tests/**", "src/contests/a.py", False),
        ("README.md", "docs/README.md", False),
        ("**/*.md", "README.md", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("a.c", "abc", False),
        ("a[b]c", "abc", False),
    ],
)
def test_globs(glob, path, yes):
    """Stars stay within a folder, two of them go through any number, everything else is itself."""
    assert matches(path, (glob,)) is yes


# ---------------------------------------------------------------- docs


async def test_code_without_its_docs_fails(origin):
    """The files and the rule's pages are named."""
    origin.commit({"src/a.py": "1\n", "src/tests/t.py": "1\n", "other.txt": "1\n"})
    finding = await docs_changed(await origin.context(policy=DOCS))
    assert finding.verdict is Verdict.FAIL
    assert finding.detail == "src/a.py changed, and nothing of docs/**, README.md."


@pytest.mark.parametrize(
    "files",
    [
        {"src/a.py": "1\n", "docs/a.md": "1\n"},
        {"src/a.py": "1\n", "README.md": "more\n"},
        {"src/x/tests/t.py": "1\n"},
        {"other.txt": "1\n"},
    ],
)
async def test_code_with_its_docs_and_what_is_no_code(origin, files):
    """A changed page, an excluded path and a path of no rule are good."""
    origin.commit(files)
    assert (await docs_changed(await origin.context(policy=DOCS))).verdict is Verdict.PASS


async def test_removed_docs_are_no_docs(origin):
    """Taking a page away documents nothing; taking code away wants its page changed."""
    origin.git("checkout", "--quiet", "main")
    origin.commit({"src/a.py": "1\n", "docs/a.md": "1\n"})
    origin.git("checkout", "--quiet", "-B", "feature/x")
    origin.commit({"src/a.py": None, "docs/a.md": None})
    assert (await docs_changed(await origin.context(policy=DOCS))).verdict is Verdict.FAIL


async def test_blanks_and_a_mode_are_no_docs(origin):
    """A page in which nothing but line ends or its mode changed says nothing of the code; an empty one neither."""
    origin.git("checkout", "--quiet", "main")
    origin.commit({"docs/a.md": "one two\n"})
    origin.git("checkout", "--quiet", "-B", "feature/x")
    origin.commit({"src/a.py": "1\n", "docs/a.md": "one\n\n  two\n\n", "docs/empty.md": "\n"})
    (origin.work / "docs" / "a.md").chmod(0o755)
    origin.commit({"other.txt": "1\n"})
    assert (await docs_changed(await origin.context(policy=DOCS))).verdict is Verdict.FAIL
    origin.commit({"docs/a.md": "one two three\n"})
    assert (await docs_changed(await origin.context(policy=DOCS))).verdict is Verdict.PASS


async def test_what_main_changed_meanwhile_is_not_the_branchs(origin):
    """Only what the branch brings since it left counts."""
    origin.commit({"other.txt": "1\n"})
    origin.git("checkout", "--quiet", "main")
    origin.commit({"src/a.py": "1\n"})
    assert (await docs_changed(await origin.context(policy=DOCS))).verdict is Verdict.PASS


async def test_on_main_and_without_rules_docs_are_skipped(origin):
    """Both say why."""
    for context in (await origin.context("main", policy=DOCS), await origin.context()):
        finding = await docs_changed(context)
        assert finding.verdict is Verdict.SKIPPED
        assert finding.detail


# ---------------------------------------------------------------- summaries without a forge


async def summed(origin, *sources, branch="feature/x"):
    """The gate, with these places of the policy."""
    return await pr_summary(await origin.context(branch, policy=GatesSpec(summary=sources)))


@pytest.mark.parametrize(
    "files",
    [
        {"changes/picture.png": SUMMARY.encode() + bytes(range(256))},
        {"changes/README.md": "How to write what belongs here, in whole sentences.\n"},
        {"changes/.template": "How to write what belongs here, in whole sentences.\n"},
        {"changes/old.md": None, "changes/new.md": SUMMARY},
    ],
    ids=["binary", "readme", "hidden", "renamed"],
)
async def test_what_is_no_fragment_is_no_summary(origin, files):
    """A picture, what explains the folder, and an older fragment under another name tell of no change."""
    origin.git("checkout", "--quiet", "main")
    origin.commit({"changes/old.md": SUMMARY})
    origin.git("checkout", "--quiet", "-B", "feature/x")
    origin.commit(files)
    assert (await summed(origin, SummarySource.FRAGMENT)).verdict is Verdict.FAIL


@pytest.mark.parametrize("piece", ["![", "](", "](x ", "![a](", "![a][", "<a", "[a", "<!--", "[a]:", "a://", "-by:"])
def test_no_description_is_slow_to_judge(piece):
    """The author of a branch chooses its words, and everybody else waits: it costs no more than its length."""
    began = time.process_time()
    letters(piece * 200_000)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "text",
    [
        *("[ticket]: rooms can be closed by their owner now", "[a]: rooms (see below)", "[one]: two"),
        *("Sort-by: newest first is the default", "Order-by: name", "if a < b and c > d", "1 <2, 3> 2"),
    ],
)
def test_what_only_looks_like_markup_is_a_summary(text):
    """A line is silent for what it is, not for how it begins."""
    assert letters(text) == sum(map(str.isalpha, text))


@pytest.mark.parametrize(
    "text",
    [
        *("[1]: https://x.example/y", "[1]: <https://x.example> 'a title'", "[//]: # (hidden words)", "[a]: #top"),
        *('[x]: ../docs/a.md "a title"', "Signed-off-by: Ann", "co-authored-by: Bob", "<br/>", "</details>"),
        *("<a href='x'>", "![alt](x.png)", "[![](x.png)](y)", "![alt][ref]"),
    ],
)
def test_markup_alone_says_nothing(text):
    """Definitions of links, who signed, tags, pictures."""
    assert letters(text) == 0


async def test_a_fragment_is_a_summary(origin):
    """An added file with enough letters, of any script; one that was there before, or says nothing, is none."""
    origin.git("checkout", "--quiet", "main")
    origin.commit({"changes/old.md": SUMMARY})
    origin.git("checkout", "--quiet", "-B", "feature/x")
    origin.commit({"changes/old.md": SUMMARY * 2})
    assert (await summed(origin, SummarySource.FRAGMENT)).metrics["codes"] == ["FragmentMissing"]
    origin.commit({"changes/new.md": "<!-- " + SUMMARY + " -->\n# 123\n"})
    assert (await summed(origin, SummarySource.FRAGMENT)).metrics["codes"] == ["FragmentShort"]
    origin.commit({"changes/new.md": SUMMARY})
    finding = await summed(origin, SummarySource.FRAGMENT)
    assert finding.verdict is Verdict.PASS
    assert "changes/new.md" in finding.detail


async def test_a_trailer_is_a_summary(origin):
    """`Summary:` at the end of a commit of the branch, folded over lines or not; one of main is none."""
    origin.commit({"a": "1"})
    assert (await summed(origin, SummarySource.TRAILER)).metrics["codes"] == ["TrailerMissing"]
    origin.git("commit", "--quiet", "--amend", "--message", "work\n\nSummary: none\n")
    assert (await summed(origin, SummarySource.TRAILER)).metrics["codes"] == ["TrailerShort"]
    origin.git("commit", "--quiet", "--amend", "--message", f"work\n\nSummary: {SUMMARY[:20]}\n  {SUMMARY[20:]}\n")
    assert (await summed(origin, SummarySource.TRAILER)).verdict is Verdict.PASS
    origin.git("branch", "-f", "main", "HEAD")
    origin.commit({"a": "2"})
    assert (await summed(origin, SummarySource.TRAILER)).verdict is Verdict.FAIL


async def test_the_places_are_looked_at_in_the_policys_order(origin):
    """Every place that has none is in the sentence; one that has is enough."""
    every = (SummarySource.PULL_REQUEST, SummarySource.FRAGMENT, SummarySource.TRAILER)
    origin.commit({"a": "1"})
    finding = await summed(origin, *every)
    assert finding.verdict is Verdict.FAIL
    assert finding.metrics["codes"] == ["ForgeUnknown", "FragmentMissing", "TrailerMissing"]
    origin.git("commit", "--quiet", "--amend", "--message", f"work\n\nSummary: {SUMMARY}\n")
    assert (await summed(origin, *every)).verdict is Verdict.PASS


async def test_on_main_and_without_places_summaries_are_skipped(origin):
    """Both say why."""
    assert (await summed(origin, SummarySource.TRAILER, branch="main")).verdict is Verdict.SKIPPED
    assert (await summed(origin)).verdict is Verdict.SKIPPED


# ---------------------------------------------------------------- what the host remembers


def run(tree, env, **more):
    """A ledger record of a run."""
    return {"type": "rollout", "run": "r1", "tree": tree, "env_fingerprint": env, "decision": "rollback"} | more


async def remembered(origin, override="", records=None):
    """The gate over a ledger in which this very tree failed."""
    context = await origin.context()
    records = records or (lambda tree: [run(tree, "e", bad_release=True)])
    asked = Asked("bob", override, env_fingerprint="e")
    return await bad_release(await origin.context(asked=asked, records=lambda: records(context.commit.tree)))


async def test_a_tree_that_failed_is_refused_before_it_is_built(origin):
    """The run is named, and how to try again."""
    finding = await remembered(origin)
    assert finding.verdict is Verdict.FAIL
    assert "in run r1" in finding.detail
    assert "--override" in finding.fix


async def test_an_override_passes_it_by_name(origin):
    """The reason, the name and the run it concerns stay in the finding."""
    finding = await remembered(origin, "the network was down")
    assert finding.verdict is Verdict.WAIVED
    assert finding.detail.startswith("Overridden by bob: the network was down.")
    assert "in run r1" in finding.detail


async def test_without_an_env_file_a_blamed_tree_cannot_be_judged(origin):
    """`sluice check` asks although the env file cannot be read: what was blamed is no pass then, and the rest is."""
    context = await origin.context()
    for tree, verdict in ((context.commit.tree, Verdict.ERROR), ("another", Verdict.PASS)):
        blamed = [run(tree, "e", bad_release=True)]
        finding = await bad_release(dataclasses.replace(context, records=lambda blamed=blamed: blamed))
        assert finding.verdict is verdict
        assert bool(finding.fix) is (verdict is Verdict.ERROR)


async def test_a_full_disk_is_told_before_the_build(origin):
    """The gate is quick-check's own measurement under the gate's name; a probe that breaks is not a full disk."""

    async def full():
        return judge_disk([Disk("/state", 10, None)], 1024)

    finding = await disk_space(await origin.context(disk=full))
    assert (finding.name, finding.verdict) == ("disk-space", Verdict.FAIL)
    assert "/state has 10 MB left" in finding.detail

    async def broken():
        raise FileNotFoundError("/state")

    findings = {f.name: f for f in await run_gates(await origin.context(disk=broken), lambda _: None)}
    assert findings["disk-space"].verdict is Verdict.ERROR


@pytest.mark.alone
async def test_a_thousand_files_are_judged_in_five_seconds(origin, capsys):
    """The bar of `sluice check`, every gate with rules, without the project's own commands; the figure is printed."""
    lines = "".join(f"value_{n} = compute({n})\n" for n in range(40))
    origin.commit({f"src/p{n % 20}/m{n}.py": f"# {n}\n{lines}" for n in range(1000)} | {"docs/a.md": SUMMARY})
    origin.commit({"changes/x.md": SUMMARY})
    policy = GatesSpec(
        docs=DOCS.docs, summary=(SummarySource.FRAGMENT,), freeze=(FreezeWindow(name="w", since="2000-01-01T00:00",
        until="2000-01-02T00:00"),)
    )  # fmt: skip
    context = await origin.context(policy=policy)
    begun = time.monotonic()
    findings = await run_gates(context, lambda _finding: None)
    took = time.monotonic() - begun
    with capsys.disabled():
        slowest = max(findings, key=lambda finding: finding.ms)
        print(f"\ngates over 1,002 files: {took:.2f} s; the slowest is {slowest.name} with {slowest.ms} ms")
    assert not [f for f in findings if f.verdict not in {Verdict.PASS, Verdict.SKIPPED}]
    assert took < 5
