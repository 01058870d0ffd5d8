"""What is signed for a server: the text that was asked for, read and agreed to, and nothing else."""

from __future__ import annotations

import io
import os

import pytest

from sluice.cli.main import main
from sluice.cli.remote_sign import Wanted, read_text, without_key
from sluice.model.errors import Refused
from sluice.model.policy import Role

APPROVAL = "Sluice approval\nservice: shop\nenvironment: prod\nplan: abc\nexpires: 2026-01-01T00:00:00Z\n"
ITEM = "Sluice checklist item\nservice: shop\nenvironment: prod\nitem: backup\nplan: abc\n"
APPROVE = Wanted(Role.APPROVE, "shop", "prod", "")
SIGN_OFF = Wanted(Role.CHECKLIST, "shop", "prod", "backup")


@pytest.mark.parametrize(
    ("wanted", "printed"),
    [
        (APPROVE, ITEM),
        (SIGN_OFF, APPROVAL),
        (SIGN_OFF, ITEM.replace("backup", "told")),
        (APPROVE, APPROVAL.replace("shop", "bank")),
        (APPROVE, APPROVAL.replace("prod", "test")),
        (APPROVE, APPROVAL.replace("service: shop\n", "")),
        (APPROVE, "service: shop\n" + APPROVAL),
        (APPROVE, "Sluice approval\nservice: bank\nservice: shop\nenvironment: prod\n"),
        (APPROVE, "Sluice approval\n\x1b[8mservice: bank\x1b[0m\nservice: shop\nenvironment: prod\n"),
        (APPROVE, APPROVAL.replace("abc", "abc\x1b[8m")),
        (APPROVE, APPROVAL.replace("abc", "abc\rservice: bank")),
        (APPROVE, APPROVAL.replace("abc", "abc\N{RIGHT-TO-LEFT OVERRIDE}")),
        (APPROVE, APPROVAL.replace("plan", "\n" * 200 + "plan")),
        (APPROVE, APPROVAL.removesuffix("\n")),
        (APPROVE, APPROVAL + "x" * 200_000 + "\n"),
        (APPROVE, "\n"),
        (APPROVE, ""),
    ],
)
def test_another_text_than_was_asked_for_is_not_signed(wanted, printed):
    """Another role, service, environment or item, what a terminal hides, and what is no text."""
    with pytest.raises(Refused, match="the server printed") as refused:
        read_text(printed.encode(), wanted)
    assert refused.value.world == "Nothing was signed."
    assert refused.value.what.isprintable()


def test_bytes_that_are_no_text_are_not_signed():
    """What cannot be read is not what will be judged."""
    with pytest.raises(Refused, match="printed"):
        read_text(APPROVAL.encode() + b"\xff\x00\n", APPROVE)


@pytest.mark.parametrize("service", ["shop", ""])
def test_the_text_that_was_asked_for_is_read_as_it_is(service):
    """Who named no service gets that of the server."""
    assert read_text(APPROVAL.encode(), Wanted(Role.APPROVE, service, "prod", "")) == APPROVAL
    assert read_text(ITEM.encode(), Wanted(Role.CHECKLIST, service, "prod", "backup")) == ITEM


def test_the_key_and_the_answer_stay_here():
    """Neither is for the server."""
    assert without_key(("approve", "--yes", "--env", "prod", "--key", "k", "--key=k")) == ["approve", "--env", "prod"]


@pytest.fixture
def key(tmp_path):
    """A path that no key is at: signing with it is refused, so whoever gets there is seen to have got there."""
    return str(tmp_path / "nobody")


def test_without_a_terminal_only_yes_signs(fake_ssh, key, capsys, monkeypatch):
    """A script says --yes; else nothing is signed, and what would have been is shown. With --json stdout is JSON."""
    fake_ssh.plays({"says": APPROVAL.splitlines()})
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    command = ["--host", "ssh://server", "approve", "--env", "prod", "--key", key]
    assert main(command) == 2
    shown = capsys.readouterr()
    assert "there is no terminal to ask at" in shown.err
    assert APPROVAL in shown.out
    assert main([*command, "--yes", "--json"]) == 1
    shown = capsys.readouterr()
    assert APPROVAL in shown.err
    assert shown.out.startswith('{"event":"error"')
    assert "does not sign" in shown.out
    assert "--yes" not in str(fake_ssh.calls())


@pytest.mark.parametrize(("answer", "said"), [("n\n", "not signed."), ("\n", "not signed."), ("y\n", "does not sign")])
def test_on_a_terminal_somebody_is_asked(fake_ssh, key, capsys, monkeypatch, answer, said):
    """No is the answer that Return gives."""
    fake_ssh.plays({"says": APPROVAL.splitlines()})
    ours, its = os.openpty()
    os.write(ours, answer.encode())
    with os.fdopen(its) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        assert main(["--host", "ssh://server", "approve", "--env", "prod", "--key", key]) == 1
    os.close(ours)
    shown = capsys.readouterr()
    assert "sign this? [y/N]" in shown.err
    assert said in shown.err
