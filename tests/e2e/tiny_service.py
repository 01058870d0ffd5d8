"""The tiny service: one file that serves, migrates and works, and what rolls it out in either runtime.

It is small on purpose: a rollout costs what Sluice and the engine cost. What it writes down (who migrated, who worked)
is never rewritten, so a test can ask whether anything was done twice.
"""

from __future__ import annotations

from typing import Any

# `serve PORT`, `migrate`, `work`. Who asks for /end ends it. Its behaviour is the file `mode` beside it:
#   good   as it should be
#   lies   /version names another commit: seen on the private address
#   sick   /health fails for whoever comes through the ingress: seen after the switch
SERVER = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
import fcntl, http.server, json, threading
here, data = os.path.dirname(os.path.abspath(__file__)), os.environ["TINY_DATA"]
mode = open(os.path.join(here, "mode")).read().strip()
sha, tree = os.environ.get("TINY_SHA", ""), os.environ.get("TINY_TREE", "")

def note(name, text):
    with open(os.path.join(data, name), "a") as file:
        file.write(text + "\\n")

def lines(name):
    try:
        return open(os.path.join(data, name)).read().splitlines()
    except FileNotFoundError:
        return []

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        code, answer = 200, {}
        if self.path == "/health":
            code = 503 if mode == "sick" and self.headers.get("X-Forwarded-Host") else 200
        elif self.path == "/version":
            answer = dict(sha="0" * 40 if mode == "lies" else sha, tree=tree, version="tiny")
        elif self.path == "/end":
            threading.Timer(0.05, os._exit, [1]).start()  # once this is answered
        elif self.path.startswith("/lines/"):
            answer = dict(lines=lines(os.path.basename(self.path)))
        else:
            code = 404
        body = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
    do_HEAD = do_GET
    def log_message(self, *_):
        pass

verb = sys.argv[1]
if verb == "migrate":
    note("migrations", sha)
elif verb == "work":
    lock = open(os.path.join(data, "work.lock"), "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        note("twice", sha)
    threading.Event().wait()
else:
    http.server.ThreadingHTTPServer.daemon_threads = True
    http.server.ThreadingHTTPServer.handle_error = lambda *_: None  # whoever hung up is no fault of ours
    http.server.ThreadingHTTPServer((os.environ.get("TINY_HOST", "0.0.0.0"), int(sys.argv[2])), Handler).serve_forever()
"""
STORE = "import signal, sys, threading; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); threading.Event().wait()"
DOCKERFILE = """\
ARG BASE
FROM ${BASE}
COPY server.py mode /tiny/
CMD ["python3", "-IS", "/tiny/server.py", "serve", "8000"]
"""
BUILD = {"context": ".", "args": {"BASE": "${BASE}"}}
COMPOSE: dict[str, Any] = {
    "services": {
        "web": {
            "build": BUILD,
            "environment": {"TINY_DATA": "/data"},
            "volumes": ["data:/data"],
            "depends_on": ["store"],
        },
        "worker": {
            "build": BUILD,
            "command": ["python3", "-IS", "/tiny/server.py", "work"],
            "environment": {"TINY_DATA": "/data"},
            "volumes": ["data:/data"],
        },
        "store": {"image": "${BASE}", "command": ["python3", "-ISc", STORE], "volumes": ["data:/data"]},
    },
    "volumes": {"data": None},
}
SPEC = """\
name = "{name}"
[run]
command = ["{python}", "-IS", "{{artifact}}/tree/server.py", "serve", "{{port}}"]
ready_timeout_s = 20
drain_grace_s = 0
stop_grace_s = 1
[run.environment]
TINY_SHA = "{{sha}}"
TINY_TREE = "{{tree}}"
TINY_DATA = "{{state}}"
TINY_HOST = "127.0.0.1"
[migrate]
run = ["{python}", "-IS", "{{artifact}}/tree/server.py", "migrate"]
[compose]
files = ["compose.yaml"]
route = "web"
port = 8000
migrate = ["python3", "-IS", "/tiny/server.py", "migrate"]
[compose.environment]
TINY_SHA = "{{sha}}"
TINY_TREE = "{{tree}}"
[compose.services.web]
mode = "slotted"
[compose.services.worker]
mode = "recreate"
ready_after_s = 0.1
[compose.services.store]
ready_after_s = 0.1
[watch]
duration_s = {watch_s}
interval_s = 0.2
health_failures = 2
health_window = 3
"""
