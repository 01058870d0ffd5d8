"""Both configuration files: the examples are right, and everything that is wrong is named with its path."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice.config import EXAMPLE_HOST, EXAMPLE_SERVICE, load_host, load_service, open_environment
from sluice.config.doubts import doubts
from sluice.model.errors import ConfigError, UsageError

SERVICE = (
    'name = "s"\n[run]\ncommand = ["{python.server}/s", "{port}"]\n[build.python.server]\nrequirements = "r.txt"\n'
)
COMPOSE = 'name = "s"\n[compose]\nfiles = ["compose.yaml"]\nroute = "api"\nport = 80\n'
ENV = 'public_url = "http://127.0.0.1:8080"\nenv_file = "/etc/s.env"\nports = [18100, 18119]\n'
TOKEN = "q7Rk2" + "vZ9xW4"
HOST = f'[service.s]\nrepo = "/srv/s.git"\n[service.s.env.test]\n{ENV}'
TEST = "$.service.s.env.test"


def host(tmp_path: Path, text: str):
    """Write host.toml and load it."""
    file = tmp_path / "host.toml"
    file.write_text(text)
    return load_host(file)


def test_both_examples_and_our_own_file_are_valid(tmp_path):
    """What `sluice config example` prints can be used as it stands."""
    parsed = host(tmp_path, EXAMPLE_HOST)
    assert parsed.service["rooms"].env["test"].ports == (18100, 18119)
    assert load_service(EXAMPLE_SERVICE.encode(), "example").run.drain_notify == "SIGUSR1"
    own = Path(__file__).parents[4] / "deploy" / "sluice.toml"
    assert load_service(own.read_bytes(), str(own)).name == "boltorezka"


@pytest.mark.parametrize(
    "repo",
    [
        "git@git.example.org:team/s.git",
        "ssh://git@git.example.org:2222/team/s@1.git",
        "ssh://git.example.org:2222/team/s@1.git",
        "https://git.example.org:8443/team/s@1.git",
        "file:///srv/s.git",
        "https://org@dev.example.org/org/p/_git/s",
        "https://gerrit.example.org/a/b?x=1",
    ],
)
def test_addresses_without_credentials_are_taken(tmp_path, repo):
    """A user is no secret, nor is an @ in a path, nor a query that opens nothing."""
    assert host(tmp_path, HOST.replace("/srv/s.git", repo)).service["s"].repo == repo


def test_credentials_in_a_repository_are_refused_unseen(tmp_path):
    """The error names no letter of them, and says where they belong."""
    with pytest.raises(ConfigError) as caught:
        host(tmp_path, HOST.replace("/srv/s.git", "https://me:example-77@git.example.org/s"))
    assert "example-77" not in f"{caught.value}{caught.value.data}"
    assert "credential helper" in caught.value.next
    assert "deploy key" in caught.value.next
    assert "change" not in caught.value.next


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("[service.s\nrepo = 1", "$", r"host\.toml, line 1, column 11: not valid TOML: "),
        (HOST.replace("ports", "portz"), f"{TEST}.portz", "did you mean ports"),
        (HOST.replace("[18100, 18119]", "[18100]"), f"{TEST}.ports", "length 2"),
        (
            HOST.replace("[18100, 18119]", '[18100, "x"]'),
            f"{TEST}.ports[1]",
            "must be a whole number, .* not text",
        ),
        (HOST.replace("18100", "18120"), f"{TEST}.ports", "at least 2 ports"),
        (HOST.replace("18100", "80"), f"{TEST}.ports", "between 1024"),
        (HOST.replace("8080", "18105"), f"{TEST}.ports", "port of public_url"),
        (HOST.replace("http://127.0.0.1:8080", "test.example"), f"{TEST}.public_url", "absolute"),
        (HOST.replace("8080", "99999"), f"{TEST}.public_url", "absolute"),
        (HOST.replace("/etc/s.env", "s.env"), f"{TEST}.env_file", "absolute"),
        (HOST.replace("env.test", "env.stage"), "$.service.s.env.stage", "test, prod"),
        (HOST.replace('repo = "/srv/s.git"', ""), "$.service.s.repo", "is missing"),
        (HOST.replace("/srv/s.git", "--upload-pack=x"), "$.service.s.repo", "not a repository"),
        (HOST.replace("/srv/s.git", "https://me:example@git.example.org/s"), "$.service.s.repo", "has a password"),
        (HOST.replace("/srv/s.git", "https://me:ex/a@mple@git.example.org/s"), "$.service.s.repo", "has a password"),
        (HOST.replace("/srv/s.git", "ssh://git:example@git.example.org/s"), "$.service.s.repo", "has a password"),
        (HOST.replace("/srv/s.git", f"HTTPS://{TOKEN}@git.example.org/s"), "$.service.s.repo", "a user name or token"),
        (HOST.replace("/srv/s.git", f"https://{'a' * 20}@git.example.org/s"), "$.service.s.repo", "user name or token"),
        (HOST.replace("/srv/s.git", "https://git.example.org/s?token=example"), "$.service.s.repo", "name or token"),
        (HOST.replace("/srv/s.git", f"https://git.example.org/s?x={TOKEN}"), "$.service.s.repo", "user name or token"),
        (HOST + 'runtime = "swarm"\n', f"{TEST}.runtime", "use one of: process, compose"),
        (HOST + 'runtime = "compose"\nrun_as = "x"\n', f"{TEST}.run_as", "runtime `process`"),
        (HOST + "keep_releases = 0\n", f"{TEST}.keep_releases", "at least 1"),
        (HOST + 'listen = "localhost:80"\n', f"{TEST}.listen", "ADDRESS:PORT"),
        (HOST.replace("http:", "https:"), f"{TEST}.listen", "is missing"),
        (HOST + 'certificate = "/c.pem"\n', f"{TEST}.certificate_key", "come together"),
        (HOST + 'certificate = "/c.pem"\ncertificate_key = "/k.pem"\n', f"{TEST}.public_url", "https"),
        (HOST + 'redirect_http = "0.0.0.0:80"\n', f"{TEST}.redirect_http", "with a certificate"),
        (HOST + 'ca_file = "ca.pem"\n', f"{TEST}.ca_file", "absolute"),
        (HOST + '[host]\nowners = "signers"\n', "$.host.owners", "absolute"),
        (HOST + "[host]\nmin_free_mb = -1\n", "$.host.min_free_mb", "negative"),
        ("", "$.service", "missing"),
        ("service = 3", "$.service", "table"),
    ],
)
def test_wrong_host_file_is_refused_with_file_and_path(tmp_path, text, path, words):
    """Each mistake gives a ConfigError that names the file, the key and what to do."""
    with pytest.raises(ConfigError, match=words) as caught:
        host(tmp_path, text)
    assert caught.value.data["path"] == path
    assert caught.value.data["file"] == str(tmp_path / "host.toml")
    assert "host.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        (SERVICE.replace("{port}", "{prt}"), "$.run.command", r"did you mean \{port\}"),
        (SERVICE.replace("{python.server}", "{python.other}"), "$.run.command", "unknown placeholder"),
        (SERVICE + "[run.environment]\nA = '{nope}'\n", None, "TOML|unknown placeholder"),
        (SERVICE + "[gates]\nbranch = '['\n", "$.gates.branch", "regular expression"),
        (SERVICE + "[watch]\nduration_s = 0\n", "$.watch.duration_s", "positive"),
        (SERVICE + "[watch]\ninterval_s = nan\n", "$.watch.interval_s", "positive"),
        (SERVICE + "[watch]\nhealth_failures = 9\n", "$.watch.health_failures", "at most health_window"),
        (SERVICE.replace("[run]", '[run]\ndrain_notify = "SIGNOPE"'), "$.run.drain_notify", "not a signal"),
        (SERVICE.replace("[run]", '[run]\nhealth_path = "health"'), "$.run.health_path", "begins with /"),
        (SERVICE.replace("r.txt", "../r.txt"), "$.build.python.server", "inside the repository"),
        (SERVICE.replace('command = ["{python.server}/s", "{port}"]', "command = []"), "$.run.command", "empty"),
        ("name = 's'\n[run]\n", "$.run.command", "nothing says how the service runs"),
        (COMPOSE.replace('route = "api"', ""), "$.compose.route", "service that users reach"),
        (COMPOSE.replace("port = 80", ""), "$.compose.port", "listens"),
        (COMPOSE.replace("compose.yaml", "../compose.yaml"), "$.compose.files", "inside the repository"),
        (COMPOSE.replace("compose.yaml", "compose.{sha}.yaml"), "$.compose.files", "only {env}"),
        (SERVICE + '[compose]\nroute = "api"\n', "$.compose.files", "empty"),
        (COMPOSE + 'migrate = ["{prt}"]\n', "$.compose.migrate", "unknown placeholder"),
        (
            COMPOSE + '[compose.services.db]\nmode = "share"\n',
            "$.compose.services.db.mode",
            "slotted, shared, recreate",
        ),
        (
            COMPOSE + "[compose.services.w]\nready_port = 1\nready_after_s = 2\n",
            "$.compose.services.w",
            "more than one",
        ),
        (SERVICE + "[checks]\ncritical = ['(']\n", "$.checks.critical", "regular expression"),
        (SERVICE + "[checks]\nharmless = [{pattern = 'x', reason = ' '}]\n", "$.checks.harmless", "no reason"),
        (SERVICE + "[watch]\ncall_failures = 4\n", "$.watch.call_failures", "at most call_window"),
        (SERVICE + "[watch]\ncut_share = 2\n", "$.watch.cut_share", "at most 1"),
        (SERVICE + "[watch]\nauth = [{metric = 'x', max_per_s = 1}]\n", "$.watch.metrics_path", "needs it"),
        (SERVICE + "[watch]\nmetrics_token = 'se cret'\n", "$.watch.metrics_token", "NAME of a variable"),
        (SERVICE + "[smok]\n", "$.smok", r"did you mean smoke\? "),
        (
            SERVICE + "[watch]\nduration_s = '10s'\n",
            "$.watch.duration_s",
            "a number of seconds, .* not text",
        ),
        (SERVICE + "[run.environment]\nA = 1\n", "$.run.environment.A", "must be text in quotes"),
        (SERVICE + "[watch]\ndry_run = 'health'\n", "$.watch.dry_run", "must be a list"),
        (
            SERVICE + "[gates]\nsummary = ['pr']\n",
            "$.gates.summary[0]",
            "'pr' is not known here; use one of: pull",
        ),
        (SERVICE + "[gates]\ndocs = [{cod = ['a']}]\n", "$.gates.docs[0].cod", r"did you mean code\?"),
        (SERVICE + "[gates\n", "$", r"line \d+, column 7"),
        (SERVICE + 'a = """', "$", "the end of the file"),
        (SERVICE + "[service.s]\nrepo = 'x'\n", "$", "looks like host.toml"),
    ],
)
def test_wrong_service_file_is_refused_with_path(text, path, words):
    """Each mistake gives a ConfigError with the key's path."""
    with pytest.raises(ConfigError, match=words) as caught:
        load_service(text.encode(), "sluice.toml at 1a2b3c4")
    assert path in (None, caught.value.data["path"])
    assert "sluice.toml at 1a2b3c4" in str(caught.value)


def test_test_beside_prod_needs_separate_users_or_the_demo(tmp_path):
    """Two environments of processes under one user are refused, unless demo = true says so; containers are apart."""
    prod = ENV.replace("8080", "8081").replace("181", "182")
    both = f"{HOST}[service.s.env.prod]\n{prod}"
    with pytest.raises(ConfigError, match="run_as"):
        host(tmp_path, both)
    assert len(host(tmp_path, both.replace("[service.s]\n", "[service.s]\ndemo = true\n")).service["s"].env) == 2
    apart = f'{HOST}run_as = "a"\n[service.s.env.prod]\n{prod}run_as = "b"\n'
    assert len(host(tmp_path, apart).service["s"].env) == 2
    with pytest.raises(ConfigError, match="one run_as user"):
        host(tmp_path, apart.replace('"b"', '"a"'))
    with pytest.raises(ConfigError, match="overlaps"):
        host(tmp_path, apart.replace("182", "181"))
    containers = both.replace("ports", 'runtime = "compose"\nports')
    assert len(host(tmp_path, containers).service["s"].env) == 2


def test_the_key_of_a_test_elsewhere_is_for_a_host_with_prod_alone(tmp_path):
    """It is a public key's line, where there is an env.prod to promote to and no env.test that proves by itself."""
    line = f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'A' * 43} sluice ledger"
    pinned = HOST.replace("[service.s.env", f'test_ledger_key = "{line}"\n[service.s.env')
    prod = pinned.replace("env.test", "env.prod")
    assert host(tmp_path, prod).service["s"].test_ledger_key == line
    for text, words in (
        (pinned, "without env.test"),
        (prod.replace(line, "SHA256:abc"), "line of ledger.key.pub"),
        (prod.replace("NzaC1l", "NzaC2l"), "line of ledger.key.pub"),
        (prod.replace("ssh-ed25519 A", "ssh-ed25519 "), "line of ledger.key.pub"),
    ):
        with pytest.raises(ConfigError, match=words) as caught:
            host(tmp_path, text)
        assert caught.value.data["path"] == "$.service.s.test_ledger_key"


def test_a_service_file_given_for_the_host_file_is_named_as_such(tmp_path):
    """Also both in one, as `config example` prints them: what to print instead, and no unknown key."""
    for text in (SERVICE, f"{EXAMPLE_HOST}\n{EXAMPLE_SERVICE}"):
        with pytest.raises(ConfigError, match="this looks like sluice") as caught:
            host(tmp_path, text)
        assert "sluice config example host" in caught.value.next


def test_a_path_below_home_is_written_as_in_a_shell(tmp_path, monkeypatch):
    """`~/` in every path of host.toml; another user's home, or a `~` within, stays what it is and is refused."""
    monkeypatch.setenv("HOME", "/home/ann")
    text = HOST.replace("/srv/s.git", "~/s.git").replace("/etc/s.env", "~/s.env")
    more = 'ca_file = "~/ca.pem"\nsecret_command = ["~/bin/vault", "~/x"]\n[host]\nnotify_file = "~/notify"\n'
    read = host(tmp_path, text + more)
    test = read.service["s"].env["test"]
    assert (read.service["s"].repo, read.host.notify_file) == ("/home/ann/s.git", "/home/ann/notify")
    assert (test.env_file, test.ca_file) == ("/home/ann/s.env", "/home/ann/ca.pem")
    assert test.secret_command == ("/home/ann/bin/vault", "~/x")
    with pytest.raises(ConfigError, match="absolute"):
        host(tmp_path, HOST.replace("/etc/s.env", "~bob/s.env"))


LINE = f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'A' * 43}"
BOB = f'[signers.bob]\nkeys = ["{LINE}"]\nmay = '
ITEM = '[[promotion.checklist]]\nid = "told"\ntext = "They were told."\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[promotion]\napprovals = 1\n", ["approvals is 1, and nobody may approve"]),
        ("[promotion]\napprovals = 2\n" + BOB + '["approve"]', ["is 2, and 1 (bob) may approve"]),
        (ITEM + BOB + '["approve"]', ["nobody may sign off told"]),
        (ITEM + 'command = ["true"]\n' + BOB + '["approve"]', []),
        (
            '[gates]\nchecks = [["true"]]\nchecks_proof = "note"\n' + BOB + '["approve"]',
            ["no branch can pass checks-passed"],
        ),
        (ITEM + BOB + '["approve", "checklist"]', []),
    ],
)
def test_a_policy_that_nobody_can_follow_is_doubted(tmp_path, text, words):
    """Too few who may approve, nobody for an item or for the checks: one sentence each; else none."""
    found = doubts(load_service((SERVICE + text).encode(), "sluice.toml"), tmp_path)
    assert len(found) == len(words)
    assert all(word in one for word, one in zip(words, found, strict=True))


@pytest.mark.parametrize(
    "glob", ["src/*.{py,ts}", "src/**.{py,ts}", "**/[slug]", "[ab].md", "app/[name]/**", "app/[slug]/[id]/**"]
)
def test_a_glob_with_brackets_is_doubted_and_taken(tmp_path, glob):
    """They are letters: a policy that has them is followed, and who meant a choice is told."""
    (tmp_path / "app" / "[slug]").mkdir(parents=True)
    rule = f'[[gates.docs]]\ncode = ["{glob}"]\ndocs = ["docs/**"]\n'
    (found,) = doubts(load_service((SERVICE + rule + BOB + '["approve"]').encode(), "sluice.toml"), tmp_path)
    assert f"{glob!r} has braces or brackets" in found


@pytest.mark.parametrize("glob", ["app/[slug]/**", "*/[slug]/*.tsx", "src/**"])
def test_a_folder_that_is_called_so_is_not_doubted(tmp_path, glob):
    """A router's parameters stand in brackets."""
    (tmp_path / "app" / "[slug]").mkdir(parents=True)
    rule = f'[[gates.docs]]\ncode = ["{glob}"]\ndocs = ["docs/**"]\n'
    assert doubts(load_service((SERVICE + rule + BOB + '["approve"]').encode(), "sluice.toml"), tmp_path) == []


def test_a_program_that_is_looked_for_in_the_checkout_is_doubted(tmp_path):
    """A file that lies there, named as if programs started there, gets the word that finds it; other words do not."""
    (tmp_path / "server.py").touch()
    signed = BOB + '["approve"]'
    text = SERVICE.replace('"{python.server}/s", "{port}"', '"python3", "server.py", "missing.py", "{port}"') + signed
    (found,) = doubts(load_service(text.encode(), "sluice.toml"), tmp_path)
    assert "$.run.command has 'server.py'" in found
    assert "write {artifact}/tree/server.py" in found


def test_missing_and_non_text_files_are_configuration_errors(tmp_path):
    """An unreadable host.toml says what to do next."""
    with pytest.raises(ConfigError, match="config example"):
        load_host(tmp_path / "nowhere.toml")
    (tmp_path / "raw.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_host(tmp_path / "raw.toml")


def test_open_environment_names_what_does_not_exist_and_knows_the_secrets(tmp_path):
    """Unknown names are usage errors with the known ones; secrets of a badly protected env file are redacted too."""
    env_file = tmp_path / "e.env"
    env_file.write_text("KEY=sentinel-1234\n")
    env_file.chmod(0o644)
    config = host(tmp_path, HOST.replace("/etc/s.env", str(env_file)))
    with pytest.raises(UsageError, match="one of: s"):
        open_environment(config, tmp_path / "state", "x", "test")
    with pytest.raises(UsageError, match="one of: test"):
        open_environment(config, tmp_path / "state", "s", "prod")
    opened = open_environment(config, tmp_path / "state", "s", "test")
    assert opened.redactor("is sentinel-1234") == "is [redacted]"
    assert all(folder.stat().st_mode & 0o077 == 0 for folder in (tmp_path / "state").rglob("*") if folder.is_dir())
