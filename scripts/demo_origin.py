"""The demo's origin repository: bare, made from this checkout's commit, with the branches the demo rolls out.

Commits are made with git's plumbing straight into the bare repository: the checkout, its index and its branches are
never touched. Names and dates are fixed, so the same checkout gives the same commit and the artifact is built once.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

IDENTITY = {
    "GIT_AUTHOR_NAME": "Demo",
    "GIT_AUTHOR_EMAIL": "demo@localhost",
    "GIT_COMMITTER_NAME": "Demo",
    "GIT_COMMITTER_EMAIL": "demo@localhost",
}
DEADLINE_S = 60  # a large checkout on a slow disk
NOTE = "changes/demo.md"
NOTE_TEXT = "The demo's feature: this note, and nothing else. It rides through every gate to the test environment.\n"
BROKEN_FILE = "packages/boltorezka/src/boltorezka/app.py"
SPEC = "deploy/sluice.toml"
SNAPSHOT = "refs/demo/checkout"
OVERLAY = "deploy/compose.demo.yaml"
CHECKS = re.compile(r"(?m)^checks = \[.*\]$")


def git(arguments: list[str], *, cwd: Path, stdin: str | None = None, **environment: str) -> str:
    """Run git with nobody's configuration in the way; returns what it printed."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        env=os.environ | IDENTITY | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"} | environment,
    )
    if done.returncode:
        raise SystemExit(f"demo: git {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def snapshot(root: Path, origin: Path) -> str:
    """The checkout's files as they are, as one commit in the origin (a checkout without git history works too).

    What changed since the last one is a commit on top of it: gates look at what commits add.
    """
    with tempfile.TemporaryDirectory() as scratch:
        index = {"GIT_INDEX_FILE": f"{scratch}/index", "GIT_DIR": str(origin), "GIT_WORK_TREE": str(root)}
        git(["-c", "core.bare=false", "add", "--all", "."], cwd=root, **index)
        tree = git(["write-tree"], cwd=root, **index)
    last = git(["for-each-ref", "--format=%(objectname) %(tree)", SNAPSHOT], cwd=origin).split()
    if last[1:] == [tree]:
        return last[0]
    taken = commit(origin, tree, last[:1], "The checkout this demo runs from")
    git(["update-ref", SNAPSHOT, taken], cwd=origin)
    return taken


def commit(origin: Path, tree: str, parents: list[str], message: str) -> str:
    """One commit with a fixed date, and with the summary that the policy asks for."""
    date = "2026-01-01T00:00:00+00:00"
    summary = f"Summary: {message}, and nothing else than that."
    arguments = [
        "commit-tree",
        tree,
        "-m",
        message,
        "-m",
        summary,
        *(part for parent in parents for part in ("-p", parent)),
    ]
    return git(arguments, cwd=origin, GIT_AUTHOR_DATE=date, GIT_COMMITTER_DATE=date)


def with_file(origin: Path, base: str, path: str, content: str, message: str) -> str:
    """A commit on top of `base` that writes one file."""
    with tempfile.TemporaryDirectory() as scratch:
        index = {"GIT_INDEX_FILE": f"{scratch}/index"}
        git(["read-tree", base], cwd=origin, **index)
        blob = git(["hash-object", "-w", "--stdin"], cwd=origin, stdin=content)
        git(["update-index", "--add", "--cacheinfo", f"100644,{blob},{path}"], cwd=origin, **index)
        tree = git(["write-tree"], cwd=origin, **index)
    return commit(origin, tree, [base], message)


def set_branch(origin: Path, branch: str, sha: str) -> None:
    """Move one branch of the origin."""
    git(["update-ref", f"refs/heads/{branch}", sha], cwd=origin)


def for_compose(spec: str, service: str) -> str:
    """sluice.toml for the runtime `compose` with the development SSO, under a name that no real deployment has."""
    named = re.sub(r'(?m)^name = "boltorezka"$', f'name = "{service}"', spec, count=1)
    joined = re.sub(r"(?m)^(files = \[.*)\]$", rf'\1, "{OVERLAY}"]', named, count=1)
    if f'name = "{service}"' not in named or OVERLAY not in joined:
        raise SystemExit(f"demo: {SPEC} says neither its name nor its Compose files where the demo looks for them")
    return joined


def policy(root: Path, service: str = "", signers: str = "") -> str:
    """The checkout's sluice.toml for an origin that is made in a second: nobody ran `make test` for its commits.

    Every other rule stays. `service` is of for_compose; `signers` is the section that names who may sign.
    """
    spec, found = CHECKS.subn("checks = []", (root / SPEC).read_text())
    if found != 1:
        raise SystemExit(f"demo: {SPEC} has not one line with `checks = [...]`")
    return (for_compose(spec, service) if service else spec) + signers


def refresh(root: Path, origin: Path, service: str = "", signers: str = "", *, merged: bool = False) -> None:
    """`main` is the checkout as it is (what git ignores is left out) with `policy`; `feature/demo` is one ahead of it.

    With a `service`, it is called so, and runs in containers. `merged`: what was merged into that `main` stays there.
    """
    if not (origin / "HEAD").exists():
        origin.mkdir(parents=True, exist_ok=True)
        git(["init", "--quiet", "--bare", "--initial-branch=main", str(origin)], cwd=root)
    spec = policy(root, service, signers)
    main = with_file(origin, snapshot(root, origin), SPEC, spec, "Deploy the demo by the demo's own policy")
    if merged and git(["for-each-ref", "--contains", main, "refs/heads/main"], cwd=origin):
        return
    set_branch(origin, "main", main)
    set_branch(origin, "feature/demo", with_file(origin, main, NOTE, NOTE_TEXT, "Add a note"))


def add_broken(root: Path, origin: Path) -> None:
    """`feature/demo-broken`: a server that starts, answers every health check, and forgets every seventh message."""
    source = (root / BROKEN_FILE).read_text()
    # Its author keeps every rule: the documents change with the code.
    told = with_file(origin, "refs/heads/main", "docs/faster.md", "Delivery is faster.\n", "Tell of faster delivery")
    sha = with_file(
        origin,
        told,
        BROKEN_FILE,
        source + (root / "scripts/demo_broken.py").read_text(),
        "Make delivery faster",
    )
    set_branch(origin, "feature/demo-broken", sha)
