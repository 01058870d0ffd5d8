"""Secrets beside the env file: precedence, what is refused before anything is asked, and that no value is said."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
import time
from pathlib import Path

import msgspec
import pytest

from sluice.hosts import sources
from sluice.hosts.sources import ServerValues, Sources, beside_of, sources_from, sources_of
from sluice.model.errors import Refused
from sluice.model.secret import Redactor
from sluice.model.spec import HostEnvironment

VALUE = "s3ntinel-" + "of-a-source"
HOST_KEY = b"k" * 32


def program(path, script):
    """A small program of the operator's."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return path


@pytest.fixture
def folder(tmp_path):
    """An env file, a folder of secrets, and programs that play sops and age on the PATH."""
    (tmp_path / "test.env").write_text("A=file\nB=file\nC=file\nD=file\nE=file\n")
    (tmp_path / "test.env").chmod(0o600)
    for name, letters in (("sops", "BCDE"), ("age", "CDE"), ("command", "DE")):
        program(tmp_path / name, "".join(f"echo {letter}={name}\n" for letter in letters))
    for name in ("secrets.sops", "secrets.age"):
        (tmp_path / name).write_text("encrypted")
    (tmp_path / "secrets").mkdir(mode=0o700)
    (tmp_path / "secrets" / "E").write_text("files\n")
    return tmp_path


def everything(folder):
    """All sources at once."""
    return Sources(
        env_file=str(folder / "test.env"),
        sops_file=str(folder / "secrets.sops"),
        age_file=str(folder / "secrets.age"),
        secret_command=(str(folder / "command"),),
        secret_files=str(folder / "secrets"),
    )


def test_later_sources_go_over_earlier_ones(folder, monkeypatch):
    """The order of the documentation, each source giving one value that no later one has."""
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    known = ServerValues(everything(folder))
    known.check()
    got = {name: value.reveal() for name, value in known.values().items()}
    assert got == {"A": "file", "B": "sops", "C": "age", "D": "command", "E": "files"}
    assert known.names() == set("ABCDE")


def test_the_fingerprint_and_the_redactor_know_every_source(folder):
    """Another value of a command is another fingerprint, and is hidden like any other; the same is the same."""
    only = Sources(secret_command=(str(program(folder / "one", f"echo KEY={VALUE}")),))
    other = Sources(secret_command=(str(program(folder / "two", f"echo KEY={VALUE}2")),))
    prints = [ServerValues(one).fingerprint(HOST_KEY) for one in (only, only, other)]
    assert prints[0] == prints[1] != prints[2]
    assert VALUE not in Redactor(ServerValues(only).secrets())(f"said {VALUE}")


def test_a_command_is_asked_once(folder):
    """One run sees one set of values, however often it looks."""
    count = folder / "count"
    known = ServerValues(Sources(secret_command=(str(program(folder / "c", f"echo x >> {count}; echo KEY={VALUE}")),)))
    known.check()
    assert known.values() == known.values()
    assert known.secrets()
    assert count.read_text() == "x\n"


@pytest.mark.parametrize("broken", ["sops_file", "age_file", "secret_command"])
def test_a_source_that_cannot_be_read_leaves_the_others_hidden(folder, monkeypatch, broken):
    """Whichever fails, what every other one holds is in the redactor, and that one is missing is said."""
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    names = {"sops_file": "sops", "age_file": "age", "secret_command": "command"}
    for source, name in names.items():
        program(folder / name, "exit 1" if source == broken else f"echo {name.upper()}={VALUE}-{name}")
    (folder / "secrets" / "E").write_text(f"{VALUE}-files\n")
    known = ServerValues(everything(folder))
    got = {secret.reveal() for secret in known.secrets()}
    assert {value for value in got if VALUE in value} == {
        f"{VALUE}-{name}" for name in [*(name for source, name in names.items() if source != broken), "files"]
    }
    assert known.unread().startswith(broken)
    with pytest.raises(Refused, match=broken):
        known.values()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (f"echo {VALUE} >&2; echo KEY={VALUE}; exit 3", "ended with exit code 3"),
        (f"echo {VALUE}", "line 1 is not NAME=value"),
        ("printf 'KEY=\\377'", "did not print UTF-8"),
        (f"echo KEY={VALUE}; sleep 600 & sleep 600", "did not end within 0.3 s"),
        (f"echo KEY={VALUE}; exec >&-; sleep 600", "did not end within 0.3 s"),
    ],
)
def test_a_command_that_fails_is_told_without_what_it_printed(folder, monkeypatch, script, said):
    """Exit code, nonsense, bytes and a hang each have a sentence, and nothing printed is in it."""
    if "sleep" in script:
        monkeypatch.setattr(sources, "DEADLINE_S", 0.3)
    known = ServerValues(Sources(secret_command=(str(program(folder / "bad", script)),)))
    with pytest.raises(Refused, match=said) as refused:
        known.check()
    assert VALUE not in f"{refused.value}"
    assert known.secrets() == []
    with pytest.raises(Refused, match=said):
        known.fingerprint(HOST_KEY)


def gone(pidfile):
    """Whether the process that wrote its number there is no more; it is looked at again and again, as nobody tells."""
    place = Path("/proc", pidfile.read_text().strip())
    end, never = time.monotonic() + 10, threading.Event()
    while place.exists() and place.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "Z":
        if time.monotonic() > end:
            return False
        never.wait(0.01)
    return True


def test_a_command_that_floods_is_ended_at_the_limit(folder):
    """What is too much is never held: it is read to the limit, and the command is killed with all it started."""
    script = f"sh -c 'echo $$ > {folder}/pid; exec yes KEY={VALUE}' & wait"
    known = ServerValues(Sources(secret_command=(str(program(folder / "flood", script)),)))
    with pytest.raises(Refused, match="printed more than 262144 bytes"):
        known.check()
    assert gone(folder / "pid")


def test_an_interruption_leaves_no_command_behind(folder, monkeypatch):
    """Ctrl-C while a vault hangs ends what was started for it, and is no refusal."""

    def interrupted(child):
        assert os.read(child.stdout.fileno(), 100) == b"KEY=x\n"
        raise KeyboardInterrupt

    script = f"sh -c 'echo $$ > {folder}/pid; echo KEY=x; exec sleep 600' & wait"
    known = ServerValues(Sources(secret_command=(str(program(folder / "hangs", script)),)))
    monkeypatch.setattr(sources, "_read_to_the_end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        known.check()
    assert gone(folder / "pid")


def test_a_program_that_others_can_change_is_not_run(folder):
    """Whoever may write it, or in its folder, would get to run as Sluice."""
    ran = folder / "ran"
    place = folder / "open"
    place.mkdir()
    command = program(place / "c", f"touch {ran}; echo KEY={VALUE}")
    known = Sources(secret_command=(str(command),))
    command.chmod(0o722)
    with pytest.raises(Refused, match="can be changed by others"):
        ServerValues(known).values()
    command.chmod(0o700)
    for loose in (place, folder):
        mode = loose.stat().st_mode
        loose.chmod(0o707)
        with pytest.raises(Refused, match="may write in"):
            ServerValues(known).values()
        loose.chmod(mode)
    assert not ran.exists()


def test_a_failure_names_the_file_and_the_words_to_type(folder, monkeypatch):
    """Which encrypted file it was, with which identity, and how to see what is not shown; a bad identity is called one.

    Of a command of the operator's no argument is told.
    """
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    for name in ("sops", "age", "command"):
        program(folder / name, "exit 5")
    key = folder / "my key.txt"
    key.write_text("# the key\n")
    key.chmod(0o600)
    sops, age = (str(folder / f"secrets.{name}") for name in ("sops", "age"))
    command = (str(folder / "command"), f"--token={VALUE}")
    for source, named, typed in (
        ({"sops_file": sops}, sops, f"SOPS_AGE_KEY_FILE='{key}' sops --decrypt {sops} > /dev/null"),
        ({"age_file": age}, age, f"age --decrypt --identity '{key}' {age} > /dev/null"),
        ({"secret_command": command}, command[0], f"{command[0]} …"),
    ):
        known = ServerValues(Sources(**source, age_identity=str(key)))
        with pytest.raises(Refused, match="ended with exit code 5") as refused:
            known.check()
        assert refused.value.what.startswith(f"{next(iter(source))} {named} could not be read")
        assert refused.value.next.endswith(typed)
        assert VALUE not in str(refused.value)
    key.chmod(0o640)
    with pytest.raises(Refused, match=r"^age_identity .* has mode 0640"):
        ServerValues(Sources(age_file=age, age_identity=str(key))).check()


@pytest.mark.parametrize(("source", "name"), [("sops_file", "sops"), ("age_file", "age")])
def test_a_missing_program_is_named(folder, monkeypatch, source, name):
    """A file nobody can decrypt here is refused with what to install."""
    monkeypatch.setenv("PATH", "/nonexistent")
    known = ServerValues(Sources(**{source: str(folder / f"secrets.{name}")}))
    with pytest.raises(Refused, match=f"the program {name} that decrypts it is not installed") as refused:
        known.check()
    assert f"install {name}" in refused.value.next


def test_the_programs_get_the_file_and_the_key(folder, monkeypatch):
    """As sops and age document it: the key file by variable to one, by option to the other."""
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    program(folder / "sops", 'echo "SOPS=$* key=$SOPS_AGE_KEY_FILE"')
    program(folder / "age", 'echo "AGE=$*"')
    key = folder / "key.txt"
    key.write_text("# the key\n")
    key.chmod(0o600)
    place = {"sops_file": str(folder / "secrets.sops"), "age_file": str(folder / "secrets.age")}
    got = ServerValues(Sources(**place, age_identity=str(key))).values()
    assert got["SOPS"].reveal() == f"--decrypt {place['sops_file']} key={key}"
    assert got["AGE"].reveal() == f"--decrypt --identity {key} {place['age_file']}"
    key.chmod(0o644)
    with pytest.raises(Refused, match="mode 0644"):
        ServerValues(Sources(**place, age_identity=str(key))).values()


def test_a_folder_of_secrets_is_read_as_orchestrators_write_it(folder):
    """Values of several lines stay; hidden entries, by which all files are exchanged at once, are passed over."""
    place = folder / "secrets"
    (place / "..data").mkdir()
    (place / "KEY").write_text(f"{VALUE}\nsecond line\n")
    got = ServerValues(Sources(secret_files=str(place))).values()
    assert {name: value.reveal() for name, value in got.items()} == {"E": "files", "KEY": f"{VALUE}\nsecond line"}


@pytest.mark.parametrize(
    ("name", "mode", "said"),
    [("E", 0o644, "open to others"), ("E", 0o620, "open to others"), ("not-a-name", 0o600, "no variable's name")],
)
def test_a_folder_of_secrets_open_to_others_is_refused(folder, name, mode, said):
    """A file that others can read or write, in a folder they can enter, is no secret; a wrong name is said."""
    place = folder / "secrets"
    place.chmod(0o755)
    (place / "E").unlink()
    (place / name).write_text(VALUE)
    (place / name).chmod(mode)
    with pytest.raises(Refused, match=said) as refused:
        ServerValues(Sources(secret_files=str(place))).check()
    assert VALUE not in f"{refused.value}"


def test_what_the_launcher_is_told_holds_places_and_no_value(folder):
    """The sources go to the launcher as they stand in host.toml and come out the same; none given is nothing told."""
    bare = HostEnvironment(public_url="http://x", env_file="/e", ports=(1, 2))
    host = msgspec.structs.replace(bare, secret_command=("/bin/vault", "get"), secret_files="/run/secrets")
    assert beside_of(bare) == ""
    assert sources_from("/e", beside_of(host)) == sources_of(host)
    assert sources_from("/e", "") == Sources(env_file="/e")


def test_a_link_to_a_file_of_others_is_judged_by_the_file(folder):
    """The mode that counts is that of what is read."""
    target = folder / "elsewhere"
    target.write_text(VALUE)
    target.chmod(stat.S_IRUSR | stat.S_IWOTH)
    (folder / "secrets" / "KEY").symlink_to(target)
    with pytest.raises(Refused, match="open to others"):
        ServerValues(Sources(secret_files=str(folder / "secrets"))).check()


def test_a_link_out_of_a_closed_folder_is_judged_where_it_leads(folder):
    """That nobody enters the folder of links protects nothing outside it."""
    target = folder / "elsewhere"
    target.write_text(VALUE)
    target.chmod(0o644)
    (folder / "secrets" / "KEY").symlink_to(target)
    with pytest.raises(Refused, match="mode 0644, open to others"):
        ServerValues(Sources(secret_files=str(folder / "secrets"))).check()
    target.chmod(0o600)
    assert ServerValues(Sources(secret_files=str(folder / "secrets"))).names() == {"E", "KEY"}


def test_a_file_of_another_user_in_the_folder_is_refused(folder, monkeypatch):
    """Whose it is may change it after it was looked at."""
    euid = os.geteuid()
    if euid == 0:
        os.chown(folder / "secrets" / "E", 54321, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: euid + 1)
    with pytest.raises(Refused, match="belongs to user"):
        ServerValues(Sources(secret_files=str(folder / "secrets"))).check()


def test_a_folder_of_secrets_that_git_sees_is_refused(folder):
    """A committed folder is no place for secrets; one that is ignored, and of which nothing is tracked, is."""
    known = Sources(secret_files=str(folder / "secrets"))
    subprocess.run(["git", "init", "-q", folder], check=True)
    (folder / ".gitignore").write_text("secrets/\n")
    subprocess.run(["git", "add", "--force", "secrets/E"], check=True, cwd=folder)
    with pytest.raises(Refused, match="lies inside the git repository"):
        ServerValues(known).check()
    subprocess.run(["git", "rm", "-q", "--cached", "secrets/E"], check=True, cwd=folder)
    ServerValues(known).check()


@pytest.mark.parametrize(
    ("line", "said", "told"),
    [
        ("API_TOKENS=correct-horse-battery,other-horse-staple", "by other-horse-staple", "by [redacted]"),
        ("ADMIN_PASSWORDS=ann:correcthorsebattery;bob:otherhorsestaple", "otherhorsestaple", "[redacted]"),
        ('SIGNING_KEYS=["correct/horse/battery","other/horse/staple"]', "other/horse/staple", "[redacted]"),
        ("FEATURES=correct-horse-battery,other-horse-staple", "other-horse-staple", "other-horse-staple"),
        ("TOKEN_HOSTS=some.example.org,other.example.org", "other.example.org", "other.example.org"),
        ("API_TOKENS=some.example.org,other.example.org", "other.example.org", "other.example.org"),
        ('SA_CREDENTIALS={"type": "service_account", "a": 1}', "service_account", "service_account"),
    ],
)
def test_words_in_a_list_are_hidden_where_its_name_says_so(tmp_path, line, said, told):
    """A passphrase is made of words, as features are: only what the variable is called tells them apart."""
    (tmp_path / "test.env").write_text(f"{line}\n")
    (tmp_path / "test.env").chmod(0o600)
    assert Redactor(ServerValues(Sources(env_file=str(tmp_path / "test.env"))).secrets())(said) == told
