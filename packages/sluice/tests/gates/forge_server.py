"""A small server that answers over real HTTP in the documented shapes of GitHub, GitLab and Gitea, and its client."""

from __future__ import annotations

import http.server
import json
import threading
import urllib.parse

from sluice.hosts.forge import Forge
from sluice.model.secret import Redactor
from sluice.model.spec import ForgeName, ForgeSettings

TOKEN = "t0ken-" + "sentinel-of-the-forge"
SUMMARY = "People see who is in a voice room before they join it."
SHA = "ab" * 20


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
