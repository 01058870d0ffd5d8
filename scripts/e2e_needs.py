"""What `make e2e` needs of the system: says what is missing and how to get it, and installs nothing.

With `--packages` only the missing packages, in one line; with `--engine` only whether a container engine answers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

# program: (why, packages of Debian and Ubuntu)
NEEDS = {
    "turnserver": ("a real TURN server checks our credentials", ("coturn",)),
    "dockerd": ("releases run in real containers", ("docker.io",)),
    "docker": ("images are made and looked at with it", ("docker.io",)),
    "iptables": ("the container engine publishes ports with it", ("iptables",)),
    "sshd": ("Sluice is used over a real SSH", ("openssh-server",)),
    "docker-registry": ("images are pinned by real digests", ("docker-registry",)),
    "age": ("secrets are decrypted with it, and reach real containers", ("age",)),
}
# Of a machine whose engine is elsewhere, or of another make, nothing more is asked.
OF_THE_ENGINE = {"dockerd", "iptables"}
# Servers lie where only root's PATH leads.
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
ANSWER_S = 10  # an engine that is busy with builds still answers in a second


def engine_problem() -> str | None:
    """Why no container engine can be used, as a sentence; None when one answers."""
    if shutil.which("docker") is None:
        return "no container engine was asked: the program docker is missing"
    argv = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except subprocess.TimeoutExpired:
        return f"the container engine did not answer within {ANSWER_S} s; look at the log of dockerd"
    if done.returncode == 0 and done.stdout.strip():
        return None
    said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    if "permission denied" in said:
        return f"the container engine may not be used by this account (be in its group `docker`, or root): {said}"
    return f"no container engine answers (start it: `systemctl start docker`, or `dockerd` as root): {said}"


def missing_programs(*, engine: bool) -> dict[str, tuple[str, tuple[str, ...]]]:
    """What is not on this machine; with an `engine` that answers, its own parts are not asked for."""
    path = f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"
    wanted = {name: needed for name, needed in NEEDS.items() if not (engine and name in OF_THE_ENGINE)}
    return {name: needed for name, needed in wanted.items() if shutil.which(name, path=path) is None}


def main() -> None:
    """Exit with a sentence for everything that is missing."""
    problem = engine_problem()
    if sys.argv[1:] == ["--engine"]:
        sys.exit(problem)
    missing = missing_programs(engine=problem is None)
    packages = " ".join(sorted({package for _, names in missing.values() for package in names}))
    if sys.argv[1:] == ["--packages"]:
        print(packages)
        return
    lines = [f"  {name}: {why} (package {', '.join(names)})" for name, (why, names) in missing.items()]
    if problem is not None and "docker" not in missing:
        lines.append(f"  {problem}")
    if packages:
        lines.append(f"On Debian and Ubuntu: apt-get install --no-install-recommends {packages}")
    if lines:
        sys.exit("\n".join(["make e2e needs:", *lines]))


if __name__ == "__main__":
    main()
