"""What the three kinds of forge call things: addresses, headers and the shapes of their answers. Pure.

GitHub: docs.github.com/rest (pulls, commits/statuses, checks). GitLab: docs.gitlab.com/api (merge_requests, commits).
Gitea and Forgejo: their own /api/swagger (repoListPullRequests, repoGetCombinedStatusByRef).
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import msgspec

from sluice.model.spec import ForgeName

DRAFT_TITLE = re.compile(r"\s*(?:\[?(?:draft|wip)\]?\s*:|\[(?:draft|wip)\]|\(draft\))", re.IGNORECASE)


class PullState(StrEnum):
    """What became of a pull request."""

    OPEN = "open"
    CLOSED = "closed"
    MERGED = "merged"


class PullRequest(msgspec.Struct, frozen=True):
    """A pull request, or as GitLab says, a merge request."""

    number: int
    state: PullState
    draft: bool
    body: str
    branch: str
    sha: str
    base: str


class StatusState(StrEnum):
    """How one check of a commit ended."""

    SUCCESS = "success"
    PENDING = "pending"
    FAILURE = "failure"
    SKIPPED = "skipped"  # neither proves anything nor speaks against it


class CommitStatus(msgspec.Struct, frozen=True):
    """One word about a commit. Of those of one context with an `order` only the highest counts."""

    context: str
    state: StatusState
    order: int = 0  # 0: the forge itself gives the newest word alone


class Ask(NamedTuple):
    """An address below the API's root, which answers in pages. Of a question with `enough` pages the rest is left."""

    address: str
    enough: int = 0


class Dialect(Protocol):
    """One kind of forge."""

    def headers(self, token: str) -> Mapping[str, str]: ...

    def pulls(self, repository: str, branch: str) -> list[Ask]:
        """Asked in turn until one has something."""
        ...

    def statuses(self, repository: str, sha: str) -> list[Ask]:
        """Asked one and all."""
        ...

    def read_pulls(self, page: bytes, branch: str) -> list[PullRequest]:
        """Raises msgspec.MsgspecError for anything undocumented."""
        ...

    def read_statuses(self, page: bytes) -> list[CommitStatus]:
        """Raises msgspec.MsgspecError for anything undocumented."""
        ...


# ---------------------------------------------------------------- GitHub, and Gitea, which resembles it


class _Repository(msgspec.Struct):
    id: int


class _End(msgspec.Struct):
    """Head or base of a pull request."""

    ref: str
    sha: str
    repo: _Repository | None = None  # null where a fork was deleted


class _Pull(msgspec.Struct):
    number: int
    state: str
    head: _End
    base: _End
    title: str = ""
    body: str | None = None
    draft: bool = False
    merged_at: str | None = None


def _of_this_repository(pull: _Pull) -> bool:
    """A fork's branch of the same name is another branch."""
    return pull.head.repo is not None and pull.base.repo is not None and pull.head.repo.id == pull.base.repo.id


def _pulls(page: bytes, branch: str) -> list[PullRequest]:
    return [
        PullRequest(
            number=one.number,
            state=PullState.MERGED if one.merged_at else PullState.OPEN if one.state == "open" else PullState.CLOSED,
            draft=one.draft or bool(DRAFT_TITLE.match(one.title)),
            body=one.body or "",
            branch=one.head.ref,
            sha=one.head.sha,
            base=one.base.ref,
        )
        for one in msgspec.json.decode(page, type=list[_Pull])
        if one.head.ref == branch and _of_this_repository(one)
    ]


class _Status(msgspec.Struct):
    context: str
    state: str = ""
    status: str = ""  # Gitea's name for it
    id: int = 0


class _CheckRun(msgspec.Struct):
    name: str
    status: str
    conclusion: str | None = None


class _Combined(msgspec.Struct):
    """Either the combined status or the check runs of a commit."""

    statuses: list[_Status] | None = None
    check_runs: list[_CheckRun] | None = None


# What is not here is a failure: `failure` and `error`, Gitea's `warning` (it did not succeed, and Gitea's own protected
# branches do not take it either), and whatever a forge will say one day.
_STATES = {
    "success": StatusState.SUCCESS,
    "pending": StatusState.PENDING,
    "skipped": StatusState.SKIPPED,
}
_CONCLUSIONS = {"success": StatusState.SUCCESS, "neutral": StatusState.SKIPPED, "skipped": StatusState.SKIPPED}


def _state(one: _Status) -> StatusState:
    return _STATES.get(one.state or one.status, StatusState.FAILURE)


def _combined(page: bytes) -> list[CommitStatus]:
    found = msgspec.json.decode(page, type=_Combined)
    if found.statuses is None and found.check_runs is None:
        raise msgspec.ValidationError("neither statuses nor check_runs")
    told = [CommitStatus(one.context, _state(one)) for one in found.statuses or []]
    for run in found.check_runs or []:
        ended = run.status == "completed"
        state = _CONCLUSIONS.get(run.conclusion or "", StatusState.FAILURE) if ended else StatusState.PENDING
        told.append(CommitStatus(run.name, state))
    return told


class GitHub:
    """api.github.com, or HOST/api/v3."""

    def headers(self, token: str) -> Mapping[str, str]:
        plain = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        return plain | ({"Authorization": f"Bearer {token}"} if token else {})

    def pulls(self, repository: str, branch: str) -> list[Ask]:
        head = urllib.parse.quote(f"{repository.partition('/')[0]}:{branch}", safe="")
        return [Ask(f"/repos/{repository}/pulls?state=all&head={head}&per_page=100")]

    def statuses(self, repository: str, sha: str) -> list[Ask]:
        base = f"/repos/{repository}/commits/{sha}"
        return [Ask(f"{base}/status?per_page=100"), Ask(f"{base}/check-runs?per_page=100")]

    def read_pulls(self, page: bytes, branch: str) -> list[PullRequest]:
        return _pulls(page, branch)

    def read_statuses(self, page: bytes) -> list[CommitStatus]:
        return _combined(page)


class Gitea:
    """HOST/api/v1 of Gitea or Forgejo."""

    def headers(self, token: str) -> Mapping[str, str]:
        return {"Accept": "application/json"} | ({"Authorization": f"token {token}"} if token else {})

    def pulls(self, repository: str, branch: str) -> list[Ask]:  # noqa: ARG002 - there is no question by branch
        base = f"/repos/{repository}/pulls?sort=recentupdate&limit=50"
        # Years of closed ones only tell why there is no open one; the newest of them do.
        return [Ask(f"{base}&state=open"), Ask(f"{base}&state=closed", enough=1)]

    def statuses(self, repository: str, sha: str) -> list[Ask]:
        # The whole history: the combined status comes in pages too, and does not say so.
        return [Ask(f"/repos/{repository}/commits/{sha}/statuses?sort=highestindex&limit=50")]

    def read_pulls(self, page: bytes, branch: str) -> list[PullRequest]:
        return _pulls(page, branch)

    def read_statuses(self, page: bytes) -> list[CommitStatus]:
        found = msgspec.json.decode(page, type=list[_Status])
        return [CommitStatus(one.context, _state(one), one.id) for one in found]


# ---------------------------------------------------------------- GitLab


class _MergeRequest(msgspec.Struct):
    iid: int
    state: str
    source_branch: str
    target_branch: str
    sha: str | None
    title: str = ""
    description: str | None = None
    draft: bool = False
    work_in_progress: bool = False
    source_project_id: int | None = None
    target_project_id: int | None = None


class _GitLabStatus(msgspec.Struct):
    name: str
    status: str
    allow_failure: bool = False


_MERGE_STATES = {"opened": PullState.OPEN, "merged": PullState.MERGED}
_RUNNING = {"created", "waiting_for_resource", "preparing", "pending", "running", "scheduled", "manual"}


class GitLab:
    """HOST/api/v4."""

    def headers(self, token: str) -> Mapping[str, str]:
        return {"Accept": "application/json"} | ({"PRIVATE-TOKEN": token} if token else {})

    def pulls(self, repository: str, branch: str) -> list[Ask]:
        source = urllib.parse.quote(branch, safe="")
        return [Ask(f"/projects/{_id(repository)}/merge_requests?state=all&source_branch={source}&per_page=100")]

    def statuses(self, repository: str, sha: str) -> list[Ask]:
        return [Ask(f"/projects/{_id(repository)}/repository/commits/{sha}/statuses?per_page=100")]

    def read_pulls(self, page: bytes, branch: str) -> list[PullRequest]:
        return [
            PullRequest(
                number=one.iid,
                state=_MERGE_STATES.get(one.state, PullState.CLOSED),
                draft=one.draft or one.work_in_progress or bool(DRAFT_TITLE.match(one.title)),
                body=one.description or "",
                branch=one.source_branch,
                sha=one.sha or "",
                base=one.target_branch,
            )
            for one in msgspec.json.decode(page, type=list[_MergeRequest])
            if one.source_branch == branch and _within_project(one)
        ]

    def read_statuses(self, page: bytes) -> list[CommitStatus]:
        return [
            CommitStatus(one.name, _gitlab_state(one)) for one in msgspec.json.decode(page, type=list[_GitLabStatus])
        ]


def _within_project(one: _MergeRequest) -> bool:
    """A fork's branch of the same name is another branch. Raises msgspec.ValidationError where nobody can tell."""
    if one.target_project_id is None:
        raise msgspec.ValidationError(f"merge request {one.iid} does not say into which project it goes")
    return one.source_project_id == one.target_project_id  # the source is null where a fork was deleted


def _gitlab_state(one: _GitLabStatus) -> StatusState:
    if one.status == "success":
        return StatusState.SUCCESS
    if one.allow_failure or one.status == "skipped":
        return StatusState.SKIPPED
    return StatusState.PENDING if one.status in _RUNNING else StatusState.FAILURE


def _id(repository: str) -> str:
    return urllib.parse.quote(repository, safe="")


def message_of(body: bytes) -> str:
    """What the forge says was wrong: `message` or `error` of its JSON, one short line, or ""."""
    try:
        told: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return ""
    text = (told.get("message") or told.get("error") or "") if isinstance(told, dict) else ""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())[:200]


DIALECTS: Mapping[ForgeName, Dialect] = MappingProxyType(
    {ForgeName.GITHUB: GitHub(), ForgeName.GITLAB: GitLab(), ForgeName.GITEA: Gitea()}
)
