"""The env file's place: whose it is, who else could read or exchange it, and whether git could see it."""

from __future__ import annotations

import os
import pwd
import subprocess

import pytest

from sluice.gates.environment import is_unfilled, server_env
from sluice.hosts.envfile import EnvFile
from sluice.hosts.places import ELSEWHERE, exchangeable
from sluice.hosts.sources import ServerValues, Sources
from sluice.model.verdict import Verdict

VALUE = "s3ntinel-" + "of-the-env-file"


@pytest.fixture
async def judged(origin):
    """Judge the env file of a folder of its own, after something was done to it."""
    folder = origin.root / "etc"
    folder.mkdir(mode=0o700)
    path = folder / "test.env"
    path.write_text(f"TOKEN={VALUE}\n")
    path.chmod(0o600)

    async def judge(done):
        done(path)
        finding = await server_env(await origin.context(env_file=EnvFile(path)))
        assert VALUE not in f"{finding}"
        return finding

    return judge


async def test_a_good_file_passes(judged):
    """Ours, 0600, in a folder of ours, outside git."""
    finding = await judged(str)
    assert finding.verdict is Verdict.PASS
    assert "The one required name is set, outside git" in finding.detail


def link(path):
    """A link in the place of the file."""
    path.rename(path.with_name("x"))
    path.symlink_to("x")


@pytest.mark.parametrize(
    ("done", "said", "fix"),
    [
        (lambda path: path.chmod(0o640), "has mode 0640, so others may read the secrets in it", "chmod 600"),
        (lambda path: path.chmod(0o602), "has mode 0602, so others may write to it", "chmod 600"),
        (lambda path: path.chmod(0o700), "neither 0600 nor 0400", "chmod 600"),
        (lambda path: path.parent.chmod(0o777), "may write in the folder", "chmod go-w"),
        (lambda path: path.parent.parent.chmod(0o777), "may write in the folder", "keep it below a folder of yours"),
        (lambda path: path.unlink(), "does not exist", "create it on the server"),
        (link, "not a regular file", "plain"),
        (
            lambda path: subprocess.run(["git", "init", "-q", path.parent], check=True),
            "git repository",
            "outside every",
        ),
        (lambda path: path.write_text(f"TOKEN={VALUE}\nnonsense {VALUE}\n"), "line 2 is not NAME=value", "line 2"),
        (lambda path: path.write_text("TOKEN=\n"), "empty or a placeholder: TOKEN", "set TOKEN"),
        (lambda path: path.write_text("OTHER=1\n"), "missing: TOKEN", "set TOKEN"),
    ],
)
async def test_each_fault_has_its_own_words_and_fix(judged, done, said, fix):
    """What is wrong is said with the file, and what to type next; no value appears."""
    finding = await judged(done)
    assert finding.verdict is Verdict.FAIL
    assert said in finding.detail
    assert fix in finding.fix
    code = {"empty": "EnvPlaceholder", "missing": "EnvMissing"}.get(said.partition(":")[0].split()[0], "EnvSource")
    assert finding.metrics["codes"] == [code]


async def test_a_file_of_another_user_is_refused(judged, monkeypatch):
    """Whose file it is may change it after it was looked at; root's and our own are fine."""
    euid = os.geteuid()
    if euid == 0:
        finding = await judged(lambda path: os.chown(path, 54321, -1))
    else:
        monkeypatch.setattr(os, "geteuid", lambda: euid + 1)
        finding = await judged(str)
    assert finding.verdict is Verdict.FAIL
    assert "neither to the user Sluice runs as nor to root" in finding.detail
    assert "chown" in finding.fix


def repository(path, ignored):
    """The env file's folder below a work tree with these lines in its .gitignore; the file is added by force."""
    tree = path.parent.parent
    (tree / ".gitignore").write_text(ignored)
    git = ["git", "-c", "user.name=a", "-c", "user.email=b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "init", "-q", tree], check=True)
    subprocess.run([*git, "add", "--force", f"{path.parent.name}/test.env"], check=True, cwd=tree)
    subprocess.run([*git, "commit", "-q", "-m", "x"], check=True, cwd=tree)


def forgotten(path):
    """As `repository`, ignored by folder and taken out of the index again: git sees it no more."""
    repository(path, "etc/\n")
    subprocess.run(["git", "rm", "-q", "--cached", path], check=True, cwd=path.parent)


@pytest.mark.parametrize(
    ("done", "verdict"),
    [
        (lambda path: repository(path, "etc/\n"), Verdict.FAIL),
        (lambda path: (forgotten(path), (path.parents[1] / ".gitignore").write_text("etc\n!etc\n")), Verdict.FAIL),
        (lambda path: subprocess.run(["git", "init", "-q", "--bare", path.parent], check=True), Verdict.FAIL),
        (lambda path: (path.parents[1] / ".git").write_text("gitdir: /nowhere\n"), Verdict.FAIL),
        (forgotten, Verdict.PASS),
    ],
    ids=["tracked", "ignored-and-not", "bare", "broken", "ignored"],
)
async def test_git_itself_says_whether_it_sees_the_file(judged, done, verdict):
    """What is tracked in an ignored folder, ignored and taken back, or inside a bare repository is not outside git."""
    finding = await judged(done)
    assert finding.verdict is verdict, finding
    assert verdict is Verdict.PASS or "lies inside the git repository" in finding.detail


async def test_a_repository_of_another_user_is_asked_too(judged):
    """Git's own doubt about another's repository is no answer: what is tracked there is found, and what is not."""

    def foreign(path):
        forgotten(path)
        for place in [path.parents[1] / ".git", *(path.parents[1] / ".git").rglob("*")]:
            os.chown(place, 54321 if os.geteuid() == 0 else -1, -1)  # only root gives away

    assert (await judged(foreign)).verdict is Verdict.PASS


def test_a_folder_of_another_user_can_be_exchanged(tmp_path, monkeypatch):
    """Whose folder it is puts another file there, whatever the folder's mode; ours and root's are fine."""
    place = tmp_path / "etc"
    place.mkdir(mode=0o755)
    assert exchangeable(place / "..") == exchangeable(place) == ("", "")
    euid = os.geteuid()
    if euid == 0:
        os.chown(place, 54321, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: euid + 1)
    said, mend = exchangeable(place)
    assert "belongs to user" in said
    assert mend.startswith("chown ")


def test_nobodys_home_is_taken_away(tmp_path, monkeypatch):
    """What to type is about the file's own folder alone: not about one above it, and not about a home."""
    place = tmp_path / "ann" / "etc" / "secrets"
    place.mkdir(parents=True, mode=0o755)
    file, above = place / "test.env", place.parent
    file.touch()
    for folder in (file, place):
        place.chmod(0o777)
        assert exchangeable(folder)[1] == f"chmod go-w {place}"
        place.chmod(0o755)
        above.chmod(0o777)
        assert exchangeable(folder) == (f"they may write in the folder {above}", ELSEWHERE)
        above.chmod(0o755)
    account = pwd.getpwuid(os.geteuid())
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: pwd.struct_passwd([*account[:5], str(place), account[6]]))
    place.chmod(0o777)
    assert exchangeable(file) == (f"they may write in the folder {place}", ELSEWHERE)


async def test_a_link_on_the_way_is_followed_step_by_step(origin):
    """A link in a folder where others write can be exchanged, though what it leads to cannot."""
    safe, loose = origin.root / "safe", origin.root / "loose"
    safe.mkdir(mode=0o700)
    loose.mkdir()
    (safe / "test.env").write_text(f"TOKEN={VALUE}\n")
    (safe / "test.env").chmod(0o600)
    (loose / "conf").symlink_to("../safe")
    place = EnvFile(loose / "conf" / "test.env")
    for mode, verdict in ((0o1777, Verdict.PASS), (0o777, Verdict.FAIL)):
        loose.chmod(mode)
        finding = await server_env(await origin.context(env_file=place))
        assert finding.verdict is verdict, finding


async def test_a_required_name_may_come_from_another_source(origin):
    """What a command prints counts as set; a placeholder it prints counts as none."""
    command = origin.root / "vault"
    for value, verdict in ((VALUE, Verdict.PASS), ("changeme", Verdict.FAIL)):
        command.write_text(f"#!/bin/sh\necho TOKEN={value}\n")
        command.chmod(0o700)
        known = ServerValues(Sources(secret_command=(str(command),)))
        finding = await server_env(await origin.context(env_file=known))
        assert finding.verdict is verdict, finding
        assert VALUE not in f"{finding}"


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", "changeme", "CHANGE_ME!", "change-me-in-production", "changeme123", "REPLACE_ME_BEFORE_DEPLOY"),
        *("replace_with_real_secret", "insert-token-here", "placeholder-value", "dummy", "TODO: set me", "fill me in"),
        *("<token>", "${TOKEN}", "$TOKEN", "{{x}}", "xxxx", "-----", "your-token", "https://example.com"),
        *("postgres://user:changeme@db/app", "enter-your-key", "insert-the-token-of-main-here"),
    ],
)
@pytest.mark.parametrize("name", ["SHOP_KEY", "PUBLIC_URL"])
def test_what_was_meant_to_be_replaced_is_no_value(name, value):
    """What templates of env files say, also as a part of a value, is found under any name."""
    assert is_unfilled(name, value)


@pytest.mark.parametrize("value", ["none", "password", "secret", "0000000000", "sk_test_xxxxxxxx", "vault:kv/x"])
def test_what_no_secret_is_may_be_a_setting(value):
    """`AUTH_MODE=none` is a value; `SHOP_TOKEN=none` is none."""
    assert is_unfilled("SHOP_TOKEN", value)
    assert not is_unfilled("AUTH_MODE", value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("DB_PASSWORD", "$ecretPass1"), ("DB_PASSWORD", "Kuchen" + "42x"), ("QUEUE", "exchangement-7")),
        *(("TLS_KEY_FILE", "/etc/rooms/tls.key"), ("PASSWORD_FILE", "/run/secrets/db"), ("WORKERS", "0")),
        *(("SSO_URL", "https://sso.company.example"), ("MAIL", "notexample.com"), ("LOG_LEVEL", "none")),
    ],
)
def test_a_real_value_is_taken(name, value):
    """A password with a dollar sign, a place, a number, a word that only holds a marker within another."""
    assert not is_unfilled(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("TLS_KEY", "/etc/ssl/private/app.key"), ("JWT_KEY", "/run/secrets/jwt.pem"), ("SESSION_KEY", "file:/srv/x")),
        *(("SHOP_SECRET", "op://vault/x"), ("KMS_KEY", "arn:aws:kms:eu:1:key/1"), ("CACHE_KEY", "redis://cache/0")),
        *(("REQUIRE_AUTH", "1"), ("USE_AUTH", "on"), ("SMTP_AUTH", "none"), ("USE_KEY", "true"), ("SORT_KEY", "id")),
        *(
            ("DB_PASSWORD", "x${y}z" + "7"),
            ("DB_PASSWORD", "a...b"),
            ("DB_PASSWORD", "K9***x"),
            ("DB_PASSWORD", "p4{{s"),
        ),
        ("DB_PASSWORD", "abc{name}def9"),
    ],
)
def test_what_is_no_secret_in_a_diff_may_be_a_real_value(name, value):
    """A place that the service looks up, a flag under a name like a secret's, template signs inside a password."""
    assert not is_unfilled(name, value)


@pytest.mark.parametrize("name", ["JWT_SECRET", "DB_PASSWORD", "SMTP_PASS", "PASSWORD_SALT"])
@pytest.mark.parametrize("value", ["0", "1", "on", "off", "no", "id"])
def test_a_flag_is_no_password(name, value):
    """A key or a token may be a setting by its name's end; what is called a password or a secret is none."""
    assert is_unfilled(name, value)
    assert not is_unfilled("USE_TOKEN", value)


@pytest.mark.parametrize(
    "value",
    [
        *("/etc/keys/changeme.pem", "https://example.com/key", "file:replace-me", "<%= key %>", "#{key}", "@@KEY@@"),
        *(
            "%(key)s",
            "%KEY%",
            "__KEY__",
            "{key}",
            "$(cat key)",
            "ENC[AES256,x]",
            "«key»",
            "ghp_xxxxxxxxxx",
            "sk_live_...",
        ),
        *("12345678", "aaaa", "todo-key", "dummy-key", "put-key"),
    ],
)
def test_a_secret_that_is_none_as_a_whole_is_unfilled(value):
    """A place with a marker in it, a template from end to end, the beginning of a token with nothing behind it."""
    assert is_unfilled("SHOP_KEY", value)


@pytest.mark.parametrize(
    "value",
    [
        *("todo-app", "placeholder.png", "Change it now", "put-object", "dummy.internal", "dummy-smtp", "Insert coin"),
        *("enter-room", "Put your coat here", "set it here", "Your rooms", "exchange-me"),
    ],
)
def test_a_setting_may_have_a_markers_word_in_it(value):
    """Titles, files, hosts and commands are called so."""
    assert not is_unfilled("TITLE", value)
