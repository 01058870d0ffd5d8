"""Forges over real HTTP: what is asked of GitHub, GitLab and Gitea, how, and what goes wrong."""

from __future__ import annotations

import urllib.parse

import pytest

from sluice.hosts import forge as forge_module
from sluice.hosts.forge import read_token
from sluice.hosts.forge_dialects import StatusState
from sluice.model.errors import ProbeBroken, Refused
from sluice.model.spec import ForgeName

from .forge_server import SHA, TOKEN, Server, forge, pull, status

HEADS = {"github": "Authorization", "gitlab": "PRIVATE-TOKEN", "gitea": "Authorization"}


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
