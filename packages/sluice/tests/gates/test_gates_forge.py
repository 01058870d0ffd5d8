"""Forges over real HTTP: a small server that answers in the documented shapes of GitHub, GitLab and Gitea."""

from __future__ import annotations

import http.server
import json
import threading
import urllib.parse

import pytest

from sluice.gates.proof import checks_passed
from sluice.gates.summary import pr_summary
from sluice.hosts import forge as forge_module
from sluice.hosts.forge import Forge, read_token
from sluice.hosts.forge_dialects import StatusState
from sluice.model.errors import ProbeBroken, Refused
from sluice.model.policy import GatesSpec, Proof, SummarySource
from sluice.model.secret import Redactor
from sluice.model.spec import ForgeName, ForgeSettings
from sluice.model.verdict import Verdict

TOKEN = "t0ken-" + "sentinel-of-the-forge"
SUMMARY = "People see who is in a voice room before they join it."
SHA = "ab" * 20
HEADS = {"github": "Authorization", "gitlab": "PRIVATE-TOKEN", "gitea": "Authorization"}


class Server:
    """Answers of a forge, page by page. `plan` may take a request over: it gives status, headers and body."""

    def __init__(self) -> None:
        self.pulls, self.statuses, self.runs = [], [], []
        self.size, self.seen, self.plan = 2, [], None
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.answer(self)

            def log_message(self, *arguments):
                """Say nothing."""

        http.server.ThreadingHTTPServer.daemon_threads = True
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.hold = threading.Event()
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.hold.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(self, request) -> None:
        parts = urllib.parse.urlsplit(request.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        self.seen.append((parts.path, query, dict(request.headers)))
        planned = self.plan(parts.path, query) if self.plan else None
        status, headers, body = planned or self.listed(parts.path, query)
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        request.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(raw)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(raw)

    def listed(self, path, query):
        """One page, and the Link header the three forges send while there are more."""
        wanted = query.get("state")
        if path.endswith(("/pulls", "/merge_requests")):
            things = [p for p in self.pulls if wanted in {None, "all"} or p["state"] == wanted]
            if "source_branch" in query:
                things = [p for p in things if p["source_branch"] == query["source_branch"]]
        else:
            things = self.runs if path.endswith("/check-runs") else self.statuses
        page = int(query.get("page", "1"))
        part = things[(page - 1) * self.size : page * self.size]
        headers = {}
        if len(things) > page * self.size:
            following = urllib.parse.urlencode({**query, "page": page + 1})
            headers["Link"] = f'<{self.url}{urllib.parse.quote(path, safe="/%")}?{following}>; rel="next"'
        if path.endswith("/check-runs"):
            return 200, headers, {"total_count": len(things), "check_runs": part}
        if path.endswith("/status"):
            return 200, headers, {"state": "success", "total_count": len(things), "statuses": part}
        return 200, headers, part


@pytest.fixture
def server():
    """A forge without pull requests and statuses."""
    made = Server()
    yield made
    made.close()


@pytest.fixture(params=list(ForgeName))
def kind(request):
    """Each of the three."""
    return request.param


def forge(server, kind, tmp_path, *, token=True, answer_s=5.0, redactor=None):
    """A client of the server."""
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    settings = ForgeSettings(kind, f"{server.url}/api", "team/rooms", str(path) if token else "")
    return Forge(settings, redactor or Redactor(), answer_s=answer_s)


def pull(kind, number=7, **changes):
    """A pull request as the forge shows it: open, ready, into main, with a summary."""
    told = {
        "branch": "feature/x",
        "base": "main",
        "state": "open",
        "draft": False,
        "body": SUMMARY,
        "sha": SHA,
    } | changes
    fork = told.get("fork", False)
    if kind is ForgeName.GITLAB:
        state = {"open": "opened"}.get(told["state"], told["state"])
        return {
            "id": 900 + number, "iid": number, "title": "t", "state": state, "sha": told["sha"], "draft": told["draft"],
            "description": told["body"], "source_branch": told["branch"], "target_branch": told["base"],
            "source_project_id": 2 if fork else 1, "target_project_id": 1, "web_url": "http://x/7",
        }  # fmt: skip
    merged = "2026-01-01T00:00:00Z" if told["state"] == "merged" else None
    return {
        "id": 900 + number, "number": number, "title": "t", "state": "open" if told["state"] == "open" else "closed",
        "draft": told["draft"], "body": told["body"], "merged_at": merged, "html_url": "http://x/7",
        "head": {"label": "team:x", "ref": told["branch"], "sha": told["sha"], "repo": {"id": 2 if fork else 1}},
        "base": {"label": "team:main", "ref": told["base"], "sha": "0" * 40, "repo": {"id": 1}},
    }  # fmt: skip


def status(kind, context, state, number=1):
    """A commit status as the forge shows it."""
    if kind is ForgeName.GITLAB:
        states = {"failure": "failed", "pending": "running"}
        return {"id": number, "name": context, "status": states.get(state, state), "allow_failure": False, "sha": SHA}
    key = "status" if kind is ForgeName.GITEA else "state"
    return {"id": number, "context": context, key: state, "description": "", "target_url": ""}


# ---------------------------------------------------------------- what is asked, and how


async def test_pages_are_followed_and_the_token_is_sent(server, kind, tmp_path):
    """The pull request of the branch is found on the last of several pages; other branches' are not taken."""
    server.pulls = [pull(kind, n, branch="feature/x" if n == 9 else "feature/x2") for n in range(1, 10)]
    if kind is not ForgeName.GITEA:  # those two can be asked by branch, and this server's GitHub ignores it
        server.pulls += [pull(kind, 10 + n) for n in range(3)]
    found = await forge(server, kind, tmp_path).pull_requests("feature/x")
    assert 9 in [one.number for one in found]
    assert {one.branch for one in found} == {"feature/x"}
    assert len(server.seen) > 1
    path, query, headers = server.seen[0]
    assert TOKEN in headers[HEADS[kind.value]]
    wanted = {
        ForgeName.GITHUB: ("/api/repos/team/rooms/pulls", {"head": "team:feature/x", "state": "all"}),
        ForgeName.GITLAB: ("/api/projects/team%2Frooms/merge_requests", {"source_branch": "feature/x", "state": "all"}),
        ForgeName.GITEA: ("/api/repos/team/rooms/pulls", {"state": "open"}),
    }[kind]
    assert path == wanted[0]
    assert wanted[1].items() <= query.items()


async def test_without_a_token_none_is_sent(server, kind, tmp_path):
    """A public repository is asked as anybody would."""
    await forge(server, kind, tmp_path, token=False).pull_requests("feature/x")
    headers = {name.lower() for name in server.seen[0][2]}
    assert not headers & {"authorization", "private-token"}


async def test_a_forks_branch_of_the_same_name_is_another_branch(server, kind, tmp_path):
    """Nobody outside can open the pull request that lets a branch of ours pass."""
    server.pulls = [pull(kind, fork=True)]
    assert await forge(server, kind, tmp_path).pull_requests("feature/x") == []


async def test_statuses_in_the_forges_own_words(server, kind, tmp_path):
    """Success, failure and what still runs are told apart, over several pages."""
    server.statuses = [status(kind, c, s, n) for n, (c, s) in enumerate(
        [("lint", "success"), ("test", "failure"), ("slow", "pending"), ("odd", "nobody-knows")], 1
    )]  # fmt: skip
    found = {one.context: one.state for one in await forge(server, kind, tmp_path).statuses(SHA)}
    assert found == {
        "lint": StatusState.SUCCESS,
        "test": StatusState.FAILURE,
        "slow": StatusState.PENDING,
        "odd": StatusState.FAILURE,
    }


async def test_a_merge_request_that_does_not_say_whose_it_is(server, tmp_path):
    """Without the projects of both ends nobody knows whether it is a fork's: an error, and no request of ours."""
    kind = ForgeName.GITLAB
    nowhere = {key: value for key, value in pull(kind).items() if not key.endswith("project_id")}
    server.pulls = [nowhere]
    with pytest.raises(ProbeBroken, match="does not say into which project"):
        await forge(server, kind, tmp_path).pull_requests("feature/x")
    server.pulls = [{**nowhere, "target_project_id": 1, "source_project_id": None}]
    assert await forge(server, kind, tmp_path).pull_requests("feature/x") == [], "a fork that was deleted"


async def test_gitea_tells_its_whole_history_and_the_newest_word_counts(server, tmp_path):
    """A check that failed and was repeated has succeeded, in whatever order the pages come."""
    told = [status(ForgeName.GITEA, "ci", state, n) for n, state in ((1, "failure"), (3, "success"), (2, "pending"))]
    server.statuses = told
    found = await forge(server, ForgeName.GITEA, tmp_path).statuses(SHA)
    assert [(one.context, one.state) for one in found] == [("ci", StatusState.SUCCESS)]


async def test_gitea_is_not_asked_for_years_of_closed_ones(server, tmp_path):
    """A repository with a hundred pages of closed pull requests answers that there is none for this branch."""
    kind = ForgeName.GITEA
    server.pulls = [pull(kind, n, branch="feature/old", state="closed") for n in range(200)]
    assert await forge(server, kind, tmp_path).pull_requests("feature/x") == []
    assert [query["state"] for _, query, _ in server.seen] == ["open", "closed"]


async def test_github_tells_check_runs_beside_statuses(server, tmp_path):
    """Actions speak in check runs: two of one name both count, and one that was skipped proves nothing."""
    server.runs = [
        {"id": 1, "name": "test", "status": "completed", "conclusion": "success"},
        {"id": 2, "name": "test", "status": "completed", "conclusion": "timed_out"},
        {"id": 3, "name": "docs", "status": "completed", "conclusion": "skipped"},
        {"id": 4, "name": "slow", "status": "in_progress", "conclusion": None},
    ]
    found = [(one.context, one.state.value) for one in await forge(server, ForgeName.GITHUB, tmp_path).statuses(SHA)]
    assert found == [("test", "success"), ("test", "failure"), ("docs", "skipped"), ("slow", "pending")]


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("code", "headers", "said"),
    [
        (401, {}, "does not accept the token"),
        (403, {}, "does not let this token read team/rooms"),
        (403, {"X-RateLimit-Remaining": "0", "Retry-After": "60"}, "takes no more questions"),
        (404, {}, "knows no team/rooms, or hides it"),
        (429, {"Retry-After": "60"}, "takes no more questions"),
        (500, {}, "could not answer: HTTP 500"),
        (503, {}, "could not answer: HTTP 503"),
        (418, {}, "did not understand the question"),
    ],
)
async def test_each_refusal_has_its_own_words(server, kind, tmp_path, code, headers, said):
    """The forge's own message is shown, one line of it, and the token never."""
    server.plan = lambda _path, _query: (code, headers, {"message": f"no:\n{TOKEN}"})
    with pytest.raises(ProbeBroken, match=said) as caught:
        await forge(server, kind, tmp_path).pull_requests("feature/x")
    shown = f"{caught.value}"
    assert TOKEN not in shown
    assert "\n" not in shown
    assert ("in 60 s" in caught.value.next) == ("no more questions" in said)


async def test_a_proxy_of_the_environment_never_gets_the_token(server, kind, tmp_path, monkeypatch):
    """Plain HTTP is for this machine; what HTTP_PROXY names would read the token."""
    proxy = Server()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    try:
        assert await forge(server, kind, tmp_path).pull_requests("feature/x") == []
    finally:
        proxy.close()
    assert (bool(server.seen), proxy.seen) == (True, [])


async def test_a_forge_that_is_not_there(server, kind, tmp_path):
    """A closed port is named with the address that was asked."""
    client = forge(server, kind, tmp_path)
    server.close()
    with pytest.raises(ProbeBroken, match=r"http://127.0.0.1:\d+ cannot be reached"):
        await client.statuses(SHA)


async def test_a_forge_that_does_not_answer(server, kind, tmp_path):
    """A forge that hangs is left at the deadline."""

    def hang(_path, _query):
        server.hold.wait(20)
        return 200, {}, []

    server.plan = hang
    with pytest.raises(ProbeBroken, match=r"did not answer within 0.2 s"):
        await forge(server, kind, tmp_path, answer_s=0.2).pull_requests("feature/x")


async def test_a_forge_that_drips_is_left_too(server, kind, tmp_path, monkeypatch):
    """Many pages, each just in time, do not hold a rollout up for ever."""
    monkeypatch.setattr(forge_module, "ASK_S", 0.2)

    def hang(_path, _query):
        server.hold.wait(20)
        return 200, {}, []

    server.plan = hang
    with pytest.raises(ProbeBroken, match=r"had not answered everything after 0\.2 s"):
        await forge(server, kind, tmp_path).pull_requests("feature/x")


async def test_a_redirect_within_the_forge_is_followed(server, kind, tmp_path):
    """A repository that was renamed answers with another address of the same forge."""
    server.pulls = [pull(kind)]
    old = forge(server, kind, tmp_path)

    def moved(path, query):
        if "moved" in query:
            return None
        return 301, {"Location": f"{server.url}{path}?{urllib.parse.urlencode({**query, 'moved': 1})}"}, {}

    server.plan = moved
    assert [one.number for one in await old.pull_requests("feature/x")] == [7]


async def test_a_redirect_to_another_host_never_gets_the_token(server, kind, tmp_path):
    """Neither a redirect nor a `next` link leads the token to another origin."""
    other = Server()
    try:
        for answer in (
            (302, {"Location": f"{other.url}/api/x"}, {}),
            (200, {"Link": f'<{other.url}/api/x>; rel="next"'}, []),
        ):
            server.plan = lambda _path, _query, answer=answer: answer
            with pytest.raises(ProbeBroken, match="sends us elsewhere") as caught:
                await forge(server, kind, tmp_path).pull_requests("feature/x")
            assert other.url in caught.value.what
        assert other.seen == []
    finally:
        other.close()


async def test_redirects_in_a_circle_and_pages_without_end(server, kind, tmp_path):
    """Both are bounded."""
    server.plan = lambda path, _query: (302, {"Location": f"{server.url}{path}"}, {})
    with pytest.raises(ProbeBroken, match="in a circle"):
        await forge(server, kind, tmp_path).pull_requests("feature/x")
    server.plan = lambda path, _query: (200, {"Link": f'<{server.url}{path}>; rel="next"'}, [])
    with pytest.raises(ProbeBroken, match="more than 20 pages"):
        await forge(server, kind, tmp_path).pull_requests("feature/x")


@pytest.mark.parametrize("body", [b"<html>sign in</html>", {"hello": 1}, [{"number": "x"}], b"", [1]])
async def test_an_answer_in_another_shape(server, kind, tmp_path, body):
    """A login page, or another product's API, is no empty list of pull requests."""
    server.plan = lambda _path, _query: (200, {}, body)
    with pytest.raises(ProbeBroken, match=r"not the API of"):
        await forge(server, kind, tmp_path).pull_requests("feature/x")
    if body != [1]:
        with pytest.raises(ProbeBroken, match=r"not the API of"):
            await forge(server, kind, tmp_path).statuses(SHA)


async def test_an_answer_without_end(server, kind, tmp_path, monkeypatch):
    """What a forge may send into our memory is bounded."""
    monkeypatch.setattr(forge_module, "MAX_BODY", 1000)
    server.plan = lambda _path, _query: (200, {}, b" " * 2000)
    with pytest.raises(ProbeBroken, match="more than 1000 bytes"):
        await forge(server, kind, tmp_path).pull_requests("feature/x")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_token_others_can_read_is_refused(tmp_path, mode):
    """The command that mends it is named; the token is not."""
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(mode)
    with pytest.raises(Refused, match="can be read by others") as caught:
        read_token(path)
    assert "chmod 600" in caught.value.next
    assert TOKEN not in f"{caught.value}"


@pytest.mark.parametrize("text", ["", "  \n", "two words", "two\nlines", "ключ", "x" * 5000])
def test_a_file_that_holds_no_token(tmp_path, text):
    """Anything but one printable word is no token."""
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(Refused, match="does not hold one token"):
        read_token(path)


def test_a_token_file_that_is_none(tmp_path):
    """A missing file, a folder and a link are refused."""
    real = tmp_path / "real"
    real.write_text(TOKEN)
    real.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to(real)
    for path in (tmp_path / "none", link):
        with pytest.raises(Refused, match="cannot be read"):
            read_token(path)
    with pytest.raises(Refused):
        read_token(tmp_path)


# ---------------------------------------------------------------- the gates over it

PULL = GatesSpec(summary=(SummarySource.PULL_REQUEST,))


async def summary(origin, server, kind, tmp_path, policy=PULL, **changes):
    """The gate, over the forge."""
    context = await origin.context(policy=policy, forge=forge(server, kind, tmp_path))
    server.pulls = [pull(kind, **({"sha": context.commit.sha} | one)) for one in changes.pop("pulls", [{}])]
    return await pr_summary(context)


async def test_an_open_pull_request_with_a_summary_passes(origin, server, kind, tmp_path):
    """The evidence is its number, its target and the commit."""
    origin.commit({"a": "1"})
    finding = await summary(origin, server, kind, tmp_path)
    assert finding.verdict is Verdict.PASS
    assert "Pull request 7" in finding.detail


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"state": "closed"}, "PullClosed"),
        ({"state": "merged"}, "PullMerged"),
        ({"base": "develop"}, "PullOtherBase"),
        ({"draft": True}, "PullDraft"),
        ({"sha": "f" * 40}, "PullOtherCommit"),
        ({"body": ""}, "SummaryEmpty"),
        ({"body": None}, "SummaryEmpty"),
        ({"body": "<!-- say something --> 123"}, "SummaryEmpty"),
        ({"body": "Fixes it."}, "SummaryShort"),
        ({"branch": "feature/other"}, "PullMissing"),
    ],
)
async def test_what_a_pull_request_may_lack(origin, server, kind, tmp_path, changes, code):
    """Each lack has its own code, its own sentence and its own fix."""
    finding = await summary(origin, server, kind, tmp_path, pulls=[changes])
    assert finding.verdict is Verdict.FAIL
    assert finding.metrics["codes"] == [code]
    assert finding.fix


async def test_the_bare_template_is_no_summary(origin, server, kind, tmp_path):
    """Ticked boxes, headings and comments of the template say nothing of this change; one sentence more does."""
    template = "# What changes\n\n<!-- for whom? -->\n\n- [ ] I ran the tests, all of them, on this machine\n"
    origin.git("checkout", "--quiet", "main")
    origin.commit({".github/pull_request_template.md": template})
    origin.git("checkout", "--quiet", "feature/x")
    ticked = template.replace("[ ]", "[x]")
    finding = await summary(origin, server, kind, tmp_path, pulls=[{"body": ticked}])
    assert finding.metrics["codes"] == ["SummaryTemplate"]
    finding = await summary(origin, server, kind, tmp_path, pulls=[{"body": ticked + SUMMARY}])
    assert finding.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("https://forge.example/team/rooms/issues/123", "SummaryEmpty"),
        ("![a picture of the new room](https://forge.example/x.png)", "SummaryEmpty"),
        ("<details><summary></summary></details><br/><br/>", "SummaryEmpty"),
        ("Signed-off-by: Ann Example <ann@people.example>\nCo-authored-by: Bob Example <b@x>", "SummaryEmpty"),
        ("[//]: # (a hidden comment of many letters)", "SummaryEmpty"),
        ("a" * 28, "SummaryShort"),
        ("Say what changes for whom in one sentence", "SummaryTemplate"),
        ("Tell the operators what to do afterwards", "SummaryTemplate"),
    ],
)
async def test_what_says_nothing_is_no_summary(origin, server, kind, tmp_path, body, code):
    """An address, a picture, empty markup, who signed, a hidden line, a key held down, any of several templates."""
    origin.git("checkout", "--quiet", "main")
    several = {
        ".github/PULL_REQUEST_TEMPLATE/feature.md": "Say what changes for whom in one sentence\n",
        ".github/pull_request_template.txt": "Tell the operators what to do afterwards\n",
    }
    origin.commit(several)
    origin.git("checkout", "--quiet", "feature/x")
    finding = await summary(origin, server, kind, tmp_path, pulls=[{"body": body}])
    assert finding.metrics["codes"] == [code]
    linked = f"{body}\n\nPeople see [who is in a room](https://x.example/y) before they join."
    assert (await summary(origin, server, kind, tmp_path, pulls=[{"body": linked}])).verdict is Verdict.PASS


async def test_the_nearest_of_several_pull_requests_is_told(origin, server, kind, tmp_path):
    """An old closed one does not hide what is wrong with the open one, and a good one is enough."""
    lacking = [{"state": "closed"}, {"number": 8, "draft": True}]
    finding = await summary(origin, server, kind, tmp_path, pulls=lacking)
    assert finding.metrics["codes"] == ["PullDraft"]
    finding = await summary(origin, server, kind, tmp_path, pulls=[*lacking, {"number": 9}])
    assert finding.verdict is Verdict.PASS


async def test_a_forge_that_cannot_be_asked_is_an_error(origin, server, kind, tmp_path):
    """That nobody knows is not that there is none; and another place of the policy may have the summary."""
    server.plan = lambda _path, _query: (502, {}, {})
    finding = await summary(origin, server, kind, tmp_path)
    assert finding.verdict is Verdict.ERROR
    assert finding.metrics["codes"] == ["ForgeUnreachable"]
    both = GatesSpec(summary=(SummarySource.PULL_REQUEST, SummarySource.FRAGMENT))
    assert (await summary(origin, server, kind, tmp_path, both)).verdict is Verdict.ERROR
    assert finding.fix
    origin.commit({"changes/rooms.md": SUMMARY})
    assert (await summary(origin, server, kind, tmp_path, both)).verdict is Verdict.PASS


async def test_a_token_that_others_can_read_hides_no_other_proof(origin, server, kind, tmp_path):
    """It is an error with a code of its own, and no reason not to look for a fragment or a note."""
    client = forge(server, kind, tmp_path)
    (tmp_path / "token").chmod(0o644)
    both = GatesSpec(
        summary=(SummarySource.PULL_REQUEST, SummarySource.FRAGMENT), checks=(("true",),), checks_status=("ci",)
    )
    context = await origin.context(policy=both, forge=client)
    finding = await pr_summary(context)
    assert (finding.verdict, finding.metrics["codes"]) == (Verdict.ERROR, ["ForgeToken", "FragmentMissing"])
    assert "chmod 600" in finding.fix
    finding = await checks_passed(context)
    assert (finding.verdict, finding.metrics["codes"]) == (Verdict.ERROR, ["ChecksNoNote", "ForgeToken"])
    origin.commit({"changes/rooms.md": SUMMARY})
    assert (await pr_summary(await origin.context(policy=both, forge=client))).verdict is Verdict.PASS


async def proof(origin, server, kind, tmp_path, **policy):
    """The gate `checks-passed`, over the forge."""
    spec = GatesSpec(checks_proof=Proof.STATUS, **policy)
    return await checks_passed(await origin.context(policy=spec, forge=forge(server, kind, tmp_path)))


@pytest.mark.parametrize(
    ("told", "named", "expected"),
    [
        ([("ci", "success")], (), (Verdict.PASS, None)),
        ([("ci", "success"), ("lint", "failure")], ("ci",), (Verdict.PASS, None)),
        ([("ci", "success"), ("lint", "failure")], (), (Verdict.FAIL, "ChecksFailed")),
        ([("ci", "success"), ("lint", "pending")], (), (Verdict.INCONCLUSIVE, "ChecksPending")),
        ([("ci", "success"), ("lint", "error")], (), (Verdict.FAIL, "ChecksFailed")),
        ([("ci", "success"), ("lint", "warning")], (), (Verdict.FAIL, "ChecksFailed")),
        ([("ci", "warning")], ("ci",), (Verdict.FAIL, "ChecksFailed")),
        ([("ci", "success"), ("docs", "skipped")], (), (Verdict.PASS, None)),
        ([("ci", "skipped")], (), (Verdict.FAIL, "ChecksNoStatus")),
        ([("ci", "success")], ("lint",), (Verdict.FAIL, "ChecksNoStatus")),
        ([], (), (Verdict.FAIL, "ChecksNoStatus")),
        ([("ci", "skipped")], ("ci",), (Verdict.FAIL, "ChecksNoStatus")),
    ],
)
async def test_commit_statuses_are_judged(origin, server, kind, tmp_path, told, named, expected):
    """Named contexts must all have succeeded; without names every one there is, and at least one."""
    server.statuses = [status(kind, context, state, n) for n, (context, state) in enumerate(told, 1)]
    finding = await proof(origin, server, kind, tmp_path, checks_status=named)
    (code,) = finding.metrics.get("codes", [None])
    assert (finding.verdict, code) == expected


async def test_either_proof_is_enough(origin, server, kind, tmp_path):
    """Without a note the forge is asked; where it cannot be asked, nobody knows."""
    server.statuses = [status(kind, "ci", "success")]
    policy = GatesSpec(checks=(("true",),), checks_status=("ci",))
    context = await origin.context(policy=policy, forge=forge(server, kind, tmp_path))
    assert (await checks_passed(context)).verdict is Verdict.PASS
    server.plan = lambda _path, _query: (500, {}, {})
    finding = await checks_passed(context)
    assert finding.verdict is Verdict.ERROR
    assert finding.metrics["codes"] == ["ChecksNoNote", "ForgeUnreachable"]
    server.plan, server.statuses = None, [status(kind, "ci", "failure")]
    finding = await checks_passed(context)
    assert finding.verdict is Verdict.FAIL
    assert "Nobody recorded" in finding.detail
    assert "ci" in finding.detail


async def test_a_success_that_nobody_named_proves_no_checks(origin, server, kind, tmp_path):
    """A robot that looks at licences ran none of the policy's commands; without named contexts nobody is asked."""
    server.statuses = [status(kind, "license/cla", "success")]
    policy = GatesSpec(checks=(("true",),))
    finding = await checks_passed(await origin.context(policy=policy, forge=forge(server, kind, tmp_path)))
    assert finding.verdict is Verdict.FAIL
    assert finding.metrics["codes"] == ["ChecksNoNote"]
    assert server.seen == []


async def test_a_note_alone_by_policy_asks_no_forge(origin, server, kind, tmp_path):
    """With checks_proof = "note" the forge's word counts for nothing."""
    server.statuses = [status(kind, "ci", "success")]
    policy = GatesSpec(checks=(("true",),), checks_proof=Proof.NOTE)
    finding = await checks_passed(await origin.context(policy=policy, forge=forge(server, kind, tmp_path)))
    assert finding.verdict is Verdict.FAIL
    assert server.seen == []
