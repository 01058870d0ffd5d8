"""Annotated examples of both files: printed by `sluice config example`, parsed by the schema's own test."""

from __future__ import annotations

EXAMPLE_HOST = """\
# host.toml: on the server, outside git, owned by the operator.
[service.rooms]
repo = "git@git.example.org:team/rooms.git"  # mirrored bare; code comes only from here
policy_ref = "main"            # gates, watch and promotion rules are read from this ref, never from the candidate
demo = false                   # true: several environments under one user on this machine are accepted

[service.rooms.env.test]
runtime = "process"            # plain processes, kept alive by Sluice's own supervisor
public_url = "http://127.0.0.1:8080"  # what users reach; Sluice's ingress listens there
expect_sso_host = "sso.example.org"   # the smoke compares with this, not with what the server says of itself
env_file = "/etc/rooms/test.env"      # NAME=value lines, mode 0600, outside git
ports = [18100, 18119]         # slots take from here; given to the service as {port}
run_as = "rooms-test"          # the service runs as this user (Sluice must be root then); builds run as Sluice itself

[service.rooms.env.prod]
runtime = "process"
public_url = "http://127.0.0.1:8081"
expect_sso_host = "sso.example.org"
env_file = "/etc/rooms/prod.env"
ports = [18120, 18139]
run_as = "rooms-prod"
"""

EXAMPLE_SERVICE = """\
# sluice.toml: in the service's repository. Every argv list is executed as it stands; there is no shell.
# Placeholders: {host} {port} {url} {artifact} {state} {sha} {tree} {version} {python.NAME} {node.NAME}
name = "rooms"

# ---- the candidate's own: effective from the branch that is rolled out

[build.python.server]          # {python.server} is the bin directory of this environment
requirements = "requirements/server.txt"  # locked, with hashes; must hold the build backend of your own packages
install = ["packages/rooms"]   # own packages, installed without dependencies and without the network

[build.node.web]               # {node.web} is the built output
directory = "web"              # holds package.json and package-lock.json
command = ["npm", "run", "build"]
output = "dist"

[run]
command = ["{python.server}/rooms", "serve", "--host", "{host}", "--port", "{port}"]
required_env = ["ROOMS_DATABASE_URL"]  # must be in the env file; shown by name only
health_path = "/health"
version_path = "/version"      # answers JSON with "sha" and "tree"
ready_timeout_s = 30
drain_notify = "SIGUSR1"       # empty: no notice before stopping
drain_grace_s = 5
stop_grace_s = 10

[run.environment]              # not secret; goes over the env file's values
ROOMS_WEB_ROOT = "{node.web}"
ROOMS_RELEASE_SHA = "{sha}"

[migrate]
run = ["{python.server}/rooms", "migrate"]           # once per release, before its slot starts
head = ["{python.server}/rooms", "migrate", "--head"]  # prints the schema's head, which is recorded
timeout_s = 300

[smoke]
command = ["{python.server}/python", "-m", "rooms.smoke", "all"]
canary = ["{python.server}/python", "-m", "rooms.smoke", "canary"]
credentials = ["{python.server}/rooms", "smoke-session", "--ttl", "300"]
timeout_s = 60

# ---- policy: effective only from policy_ref

[gates]
branch = "feature/[a-z0-9][a-z0-9._-]{0,62}"  # a whole-match regular expression
required_env = ["ROOMS_JWT_SECRET"]

[watch]
duration_s = 10
interval_s = 1
health_failures = 3            # of the last health_window probes
health_window = 5
lost_messages = 0              # more than this breaks the criterion
duplicated_messages = 0
required_checks = ["login", "message"]
"""
