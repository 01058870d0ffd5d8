"""Annotated examples of both files: printed by `sluice config example`, parsed by the schema's own test."""

from __future__ import annotations

EXAMPLE_HOST = """\
# host.toml: on the server, outside git, owned by the operator. Every path may begin with ~/.
[host]                         # what is true of the whole machine; all of it may be left out
docker = "/var/run/docker.sock"       # the engine's socket, for the runtime `compose`
owners = "/etc/sluice/owners"         # allowed_signers lines: which SSH key is whom
notify_file = "/etc/sluice/notify"    # Apprise addresses, one a line, mode 0600: told when a run rolls back
min_free_mb = 1024                    # less on the disk fails the quick-check

[service.rooms]
repo = "git@git.example.org:team/rooms.git"  # mirrored bare; code comes only from here; no password in it
policy_ref = "main"            # gates, watch and promotion rules are read from this ref, never from the candidate
# where there is no env.test here, but on another host: the line of envs/test/ledger.key.pub in its state folder
# test_ledger_key = "ssh-ed25519 AAAA…"
anchor = true                  # push each environment's ledger to refs/sluice/ledger/rooms/ENV of `repo`
demo = false                   # true: several environments under one user on this machine are accepted

[service.rooms.forge]          # who tells of pull requests and commit statuses; may be left out
kind = "gitea"                 # github, gitlab or gitea (Forgejo too)
api = "https://git.example.org/api/v1"
repository = "team/rooms"
token_file = "/etc/sluice/forge-token"  # mode 0600, the token alone

[service.rooms.env.test]
runtime = "process"            # plain processes, kept alive by Sluice's own supervisor
public_url = "http://127.0.0.1:8080"  # what users reach; Sluice's ingress listens there
expect_sso_host = "sso.example.org"   # the smoke compares with this, not with what the server says of itself
env_file = "/etc/rooms/test.env"      # NAME=value lines, mode 0600, outside git
ports = [18100, 18119]         # slots take from here; given to the service as {port}
run_as = "rooms-test"          # the service runs as this user (Sluice must be root then); builds run as Sluice itself
keep_releases = 5              # verified releases that are kept to go back to

[service.rooms.env.prod]
runtime = "compose"            # each release is a Compose project of its own, behind an ingress container
public_url = "https://rooms.example.org"
listen = "127.0.0.1:8081"      # where the ingress listens, when an edge in front of it ends TLS
expect_sso_host = "sso.example.org"
env_file = "/etc/rooms/prod.env"      # ${NAME} in the Compose files is filled from here
ports = [18120, 18139]         # Sluice's own way to a slot: 127.0.0.1:{port}
# secrets from elsewhere, over the env file's; later over earlier, in this order:
# sops_file = "/etc/rooms/prod.sops.env"     # decrypted by `sops`
# age_file = "/etc/rooms/prod.env.age"       # decrypted by `age`
# age_identity = "/etc/rooms/age.key"        # the key of both, mode 0600
# secret_command = ["/usr/local/bin/vault-env", "rooms"]  # prints NAME=value lines
# secret_files = "/run/secrets"              # a folder: each file is named as the variable it holds
# certificate = "/etc/rooms/fullchain.pem"   # instead of an edge: the ingress ends TLS itself
# certificate_key = "/etc/rooms/privkey.pem"
# redirect_http = "0.0.0.0:80"
# ca_file = "/etc/rooms/ca.pem"              # who signed the certificate, when the system does not trust it
"""

EXAMPLE_SERVICE = """\
# sluice.toml: in the service's repository. Every argv list is executed as it stands; there is no shell.
# Placeholders: {host} {port} {url} {ingress} {artifact} {state} {sha} {tree} {version} {python.NAME} {node.NAME}
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

[compose]                      # for the runtime `compose`: your Compose files, as they are
files = ["compose.yaml", "compose.{env}.yaml"]
route = "web"                  # the service users reach
port = 8080                    # where it listens, in its container
registry = ""                  # built images are pushed there and pinned by digest; empty: pinned by id
migrate = ["rooms", "migrate"]               # run once in a container of `route`, before the slot starts
head = ["rooms", "migrate", "--head"]
credentials = ["rooms", "smoke-session", "--ttl", "300"]

[compose.environment]          # not secret; for slotted and recreated services, over what the files say
ROOMS_RELEASE_SHA = "{sha}"

[compose.services.database]
mode = "shared"                # slotted: one in each slot; shared: one for all; recreate: one at a time
publish = false                # true: keep its published ports
on_change = "refuse"           # when its definition changed: refuse, keep or recreate
ready_port = 5432              # or ready_command, or ready_after_s; not needed where it has a healthcheck

[migrate]
run = ["{python.server}/rooms", "migrate"]           # once per release, before its slot starts
head = ["{python.server}/rooms", "migrate", "--head"]  # prints the schema's head, which is recorded
timeout_s = 300

[smoke]
command = ["{python.server}/python", "-m", "rooms.smoke", "all"]
canary = ["{python.server}/python", "-m", "rooms.smoke", "canary"]
calls = ["{python.server}/python", "-m", "rooms.smoke", "call"]          # one call; repeated during the watch
refusals = ["{python.server}/python", "-m", "rooms.smoke", "refusals"]   # what must be refused; repeated too
credentials = ["{python.server}/rooms", "smoke-session", "--ttl", "300"]
timeout_s = 60

# ---- policy: effective only from policy_ref

[gates]
branch = "feature/[a-z0-9][a-z0-9._-]{0,62}"  # a whole-match regular expression
required_env = ["ROOMS_JWT_SECRET"]
checks = [["make", "check"], ["make", "test"]]  # what `sluice check --record` runs in a clean export of the commit
checks_proof = "either"        # note (signed by `sluice check --record`), status (of the forge) or either
checks_status = ["ci/test"]    # empty: the forge proves no `checks`
summary = ["pull-request", "fragment", "trailer"]  # where the summary of a change may be; empty: none is asked for
summary_letters = 20
fragments = "changes/"
docs = [{code = ["packages/rooms/**"], docs = ["docs/**", "README.md"], but = ["**/tests/**"]}]
freeze = [{name = "weekend", kind = "deny", zone = "Europe/Moscow", days = ["sat", "sun"], exempt = ["ann"]}]
freeze_exempt = ["ann"]        # owners whom what an operator froze (`sluice freeze`) does not stop
allowed_secrets = [{path = "tests/**", digest = "0011223344556677", reason = "a sample key", reviewed_by = "ann"}]
never_waive = ["no-secrets"]

[promotion]                    # what an artifact needs to reach prod
approvals = 1                  # of different people
approval_ttl_s = 3600
approver_not_author = true     # "by-key": every commit must also be signed with a key of somebody else in [signers]
proof_ttl_s = 604800           # an older success in test is stale
checklist = [
  {id = "backup", text = "The database was backed up today.", text_ru = "Сегодня сделана резервная копия базы."},
  {id = "disk", text = "The disk has room.", command = ["test", "-w", "/var/lib/rooms"], timeout_s = 10},
]

[signers.ann]                  # NAME is the principal
keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJNTE5ExampleExampleExampleExampleExampleExa ann@laptop"]
may = ["checks", "checklist", "approve"]
authors = ["Ann", "ann@example.org"]

[checks]
log_lines = 120                # of each service
critical = ["^DATA LOSS"]      # regular expressions, beside the built-in ones
harmless = [{pattern = "ERROR.*geoip", reason = "there is no geo database in test"}]
websocket_path = "/ws"         # empty: no WebSocket
websocket_expect = 401         # the answer to a handshake without credentials
certificate_days = 14

[watch]
duration_s = 10
interval_s = 1
health_failures = 3            # of the last health_window probes
health_window = 5
cut_share = 0.2                # of the canary's sockets, closed without notice: mass disconnects
call_failures = 2              # of the last call_window calls
call_window = 3
call_setup_ms = 5000           # slower is degraded
call_slower = 3                # and so is this many times the old slot's median
refusal_failures = 1           # of the last refusal_window rounds: something forbidden was let in
refusal_window = 2
metrics_path = "/metrics"      # Prometheus text on the slot
metrics_token = "ROOMS_METRICS_TOKEN"  # the NAME of the env file's variable with its bearer token
auth = [{metric = "rooms_auth_failures_total", max_per_s = 5}]
lost_messages = 0              # more than this breaks the criterion
duplicated_messages = 0
required_checks = ["login", "message"]
required_criteria = ["health", "messages"]
dry_run = []                   # criteria that are judged and recorded, and veto nothing
"""
