"""`pr-summary`: the change has a summary: in a pull request, in an added fragment, or in a commit's trailer."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from sluice.gates.context import GateContext, forge_code
from sluice.hosts.forge import PullRequest
from sluice.hosts.forge_dialects import PullState
from sluice.model.errors import ProbeBroken, Refused
from sluice.model.policy import SummarySource
from sluice.model.text import one_line
from sluice.model.verdict import Finding, Verdict

NAME = "pr-summary"
TRAILER = "Summary"
# Where the forges look for the text a new pull request begins with.
TEMPLATES = (
    *(
        f"{folder}{name}{end}"
        for folder in ("", "docs/", ".github/", ".gitea/", ".forgejo/")
        for name in ("pull_request_template", "PULL_REQUEST_TEMPLATE")
        for end in (".md", ".txt")
    ),
    ".gitlab/merge_request_templates/Default.md",
    ".gitlab/merge_request_templates/default.md",
)
# Where they look for several to choose from.
FOLDERS = (
    *(f"{folder}PULL_REQUEST_TEMPLATE" for folder in ("", "docs/", ".github/", ".gitea/", ".forgejo/")),
    ".gitlab/merge_request_templates",
)
COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
BOX = re.compile(r"^\s*[-*+]\s*\[[ xX]\]\s*")
# What is written and says nothing: hidden lines, who signed, pictures, tags, addresses. Of a link its words stay.
# The branch's author writes it: no class takes the sign that begins its own match, or many beginnings cost a square.
# What only looks like one of these is prose: `[ticket]: rooms can be closed`, `Sort-by: newest first`, `a < b`.
SILENT = re.compile(
    r"^\[[^\]\n]*\]:[ \t]*(?:<[^<>\n]*>|(?=\S*[/#])\S+)(?:[ \t]+(?:\"[^\"\n]*\"|'[^'\n]*'|\([^()\n]*\)))?[ \t]*$"
    r"|^(?i:Signed-off|Co-authored|Reviewed|Acked|Tested|Reported|Suggested)-by:.*$"
    r"|!\[[^\[\]\n]*\](?:\([^()\n]*\)|\[[^\[\]\n]*\])?|</?[A-Za-z][^<>\n]*>|\]\([^()\n]*\)"
    r"|\b\w+://\S+|\bwww\.\S+",
    re.MULTILINE,
)
REPEATED = re.compile(r"(\w)\1{2,}")
LONGEST = 65_536  # letters that are judged: more than anybody reads, and as many as some forges take


@dataclass(frozen=True)
class Look:
    """What one place said. `closeness` orders failures: the one that is nearest to good is told first."""

    good: bool
    detail: str
    fix: str = ""
    code: str = ""
    broken: bool = False
    closeness: int = 0


async def pr_summary(context: GateContext) -> Finding:
    """A place that cannot be asked is `error`, unless another one of the policy has the summary."""
    policy = context.policy
    if not policy.summary:
        return Finding(NAME, Verdict.SKIPPED, detail="The policy asks for no summary ([gates] summary).")
    if context.commit.branch == context.policy_ref:
        detail = f"{context.policy_ref!r} is the policy's own branch: its changes were summed up when they came."
        return Finding(NAME, Verdict.SKIPPED, detail=detail)
    looks: list[Look] = []
    for source in policy.summary:
        look = await _PLACES[source](context)
        if look.good:
            return Finding(NAME, Verdict.PASS, detail=look.detail)
        looks.append(look)
    return Finding(
        NAME,
        Verdict.ERROR if any(look.broken for look in looks) else Verdict.FAIL,
        detail=" ".join(look.detail for look in looks),
        fix="; or ".join(look.fix for look in looks if look.fix),
        metrics={"codes": [look.code for look in looks]},
    )


def letters(text: str) -> int:
    """How many letters, of any script: what says something, without markup, boxes, digits and a letter held down."""
    bare = REPEATED.sub(r"\1", SILENT.sub(" ", COMMENT.sub("", text[:LONGEST])))
    return sum(character.isalpha() for character in bare)


# ---------------------------------------------------------------- a pull request


async def _pull_request(context: GateContext) -> Look:
    if context.forge is None:
        return Look(False, "host.toml names no forge to ask.", "add [service.NAME.forge] to host.toml", "ForgeUnknown")
    try:
        found = await context.forge.pull_requests(context.commit.branch)
    except (ProbeBroken, Refused) as broken:
        detail = f"The forge cannot be asked: {broken.what.rstrip('.')}."
        return Look(False, detail, broken.next, forge_code(broken), broken=True)
    templates = []
    if any(one.state is PullState.OPEN for one in found):
        several = [path for folder in FOLDERS for path in await context.repo.listed(context.policy_ref, folder)]
        for path in (*TEMPLATES, *several):
            raw = await context.repo.read(context.policy_ref, path)
            if raw is not None:
                templates.append(raw.decode(errors="replace"))
    return judge_pulls(found, context, templates)


def judge_pulls(found: Sequence[PullRequest], context: GateContext, templates: Sequence[str]) -> Look:
    """Pure: one that is good, or what is wrong with the one that is nearest to it."""
    if not found:
        branch, base = context.commit.branch, context.policy_ref
        fix = f"open one from {branch} into {base}, and say in it what changes for whom"
        return Look(False, f"There is no pull request from {branch!r}.", fix, "PullMissing")
    looks = [_judge_pull(one, context, templates) for one in found]
    return max(looks, key=lambda look: (look.good, look.closeness))


def _judge_pull(one: PullRequest, context: GateContext, templates: Sequence[str]) -> Look:
    which, commit, base = f"Pull request {one.number}", context.commit, context.policy_ref
    if one.state is not PullState.OPEN:
        again = f"push the new commits to an open one: open it anew, into {base}"
        return Look(False, f"{which} is {one.state.value}.", again, f"Pull{one.state.value.capitalize()}", closeness=1)
    if one.base != base:
        detail = f"{which} goes into {_shown(one.base)!r}, not into {base!r}."
        return Look(False, detail, f"change its target branch to {base}", "PullOtherBase", closeness=2)
    if one.draft:
        return Look(False, f"{which} is a draft.", "mark it as ready", "PullDraft", closeness=3)
    if one.sha != commit.sha:
        detail = f"{which} is at {_shown(one.sha)[:12]}, and this is {commit.sha[:12]}."
        fix = "push, wait until the forge shows the commit, and repeat"
        return Look(False, detail, fix, "PullOtherCommit", closeness=4)
    return _judge_text(one, context, templates)


def _judge_text(one: PullRequest, context: GateContext, templates: Sequence[str]) -> Look:
    which, enough = f"Pull request {one.number}", context.policy.summary_letters
    count = letters(said_in(one.body, templates))
    if count >= enough:
        detail = f"{which} is open into {context.policy_ref!r} at {one.sha[:12]}, with {count} letters of summary."
        return Look(True, detail)
    fix = f"write into its description what changes for whom, in {enough} letters or more"
    if not letters(one.body):
        return Look(False, f"{which} has an empty description.", fix, "SummaryEmpty", closeness=5)
    if not count:
        detail = f"The description of pull request {one.number} is nothing but the template."
        return Look(False, detail, fix, "SummaryTemplate", closeness=6)
    return Look(False, f"{which} says only {count} letters, fewer than {enough}.", fix, "SummaryShort", closeness=7)


def said_in(body: str, templates: Sequence[str]) -> str:
    """A description without comments, headings, check boxes of the template and whatever else a template put there."""
    known = {_plain(line) for text in templates for line in text.splitlines()}
    lines = COMMENT.sub("", body).splitlines()
    # A heading alone says where something would be said.
    return "\n".join(line for line in lines if _plain(line) not in known and not line.lstrip().startswith("#"))


def _plain(line: str) -> str:
    """A line as compared with the template's: a box that was ticked is the same line."""
    return " ".join(BOX.sub("", line).split()).casefold()


def _shown(text: str) -> str:
    return one_line(text)[:100]


# ---------------------------------------------------------------- without a forge


async def _fragment(context: GateContext) -> Look:
    folder = context.policy.fragments.rstrip("/") + "/"
    changed = await context.repo.changed(context.policy_ref, context.commit.sha)
    added = [one.path for one in changed if one.kind == "A" and one.path.startswith(folder) and _is_fragment(one.path)]
    # A fragment that only got another name tells of an older change.
    went = [one.path for one in changed if one.kind == "D" and one.path.startswith(folder)]
    old = [await context.repo.read(context.policy_ref, path) for path in went]
    enough = context.policy.summary_letters
    for path in added:
        raw = await context.repo.read(context.commit.sha, path)
        count = 0 if raw is None or raw in old or b"\0" in raw else letters(raw.decode(errors="replace"))
        if count >= enough:
            return Look(True, f"{_shown(await context.names.shown(path))} says what changes, in {count} letters.")
    fix = f"add a file under {folder} that says what changes for whom, in {enough} letters or more"
    if added:
        named = _shown(", ".join([await context.names.shown(path) for path in added]))
        detail = f"The files added under {folder} ({named}) have fewer than {enough} letters."
        return Look(False, detail, fix, "FragmentShort")
    return Look(False, f"The branch adds no file under {folder}", fix, "FragmentMissing")


def _is_fragment(path: str) -> bool:
    """Not what explains the folder, or keeps it in git."""
    name = path.rpartition("/")[2]
    return not name.startswith(".") and not name.upper().startswith("README")


async def _trailer(context: GateContext) -> Look:
    values = await context.repo.trailers(context.policy_ref, context.commit.sha, TRAILER)
    enough = context.policy.summary_letters
    best = max(map(letters, values), default=0)
    if best >= enough:
        return Look(True, f"A commit of the branch has a `{TRAILER}:` trailer of {best} letters.")
    fix = f"`git commit --amend` with a last paragraph `{TRAILER}: what changes for whom`, {enough} letters or more"
    if values:
        detail = f"The longest `{TRAILER}:` trailer of the branch has {best} letters, fewer than {enough}."
        return Look(False, detail, fix, "TrailerShort")
    return Look(False, f"No commit of the branch has a `{TRAILER}:` trailer.", fix, "TrailerMissing")


_PLACES: Mapping[SummarySource, Callable[[GateContext], Awaitable[Look]]] = {
    SummarySource.PULL_REQUEST: _pull_request,
    SummarySource.FRAGMENT: _fragment,
    SummarySource.TRAILER: _trailer,
}
