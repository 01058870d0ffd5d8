"""How policies differ, in the words that people sign."""

from __future__ import annotations

import msgspec
import pytest

from sluice.model.changes import LINE, VALUE, policy_changes
from sluice.model.policy import AllowedSecret, FreezeWindow, GatesSpec, Role, Signer
from sluice.model.spec import WatchSpec
from sluice.model.text import one_line, told_apart
from sluice.testing import SPEC

LATER = FreezeWindow("later", zone="Europe/Berlin", days=("sat",))
BOB = Signer(("ssh-ed25519 bob", "ssh-rsa old"), (Role.APPROVE,), ("Bobby",))


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ({"watch": WatchSpec(duration_s=900)}, {"watch": WatchSpec(duration_s=5)}, {"watch.duration_s": "900 -> 5"}),
        (
            {"gates": GatesSpec(never_waive=("no-secrets", "freeze"))},
            {"gates": GatesSpec(never_waive=("no-secrets",))},
            {"gates.never_waive": 'without "freeze"'},
        ),
        (
            {"gates": GatesSpec(freeze=(LATER,))},
            {},
            {
                "gates.freeze": 'without {"name":"later","kind":"deny","zone":"Europe/Berlin","days":["sat"],'
                '"start":"00:00","end":"24:00","environments":["test","prod"]}'
            },
        ),
        (
            {"signers": {"bob": BOB}},
            {"signers": {"bob": Signer(("ssh-ed25519 bob",), (Role.APPROVE, Role.CHECKLIST), ())}},
            {"signers.bob": 'keys: without "ssh-rsa old"; may: with "checklist"; authors: without "Bobby"'},
        ),
        (
            {},
            {"signers": {"bob": Signer(("ssh-ed25519 bob",), (Role.APPROVE,))}},
            {"signers.bob": 'none -> {"keys":["ssh-ed25519 bob"],"may":["approve"]}'},
        ),
        (
            {"signers": {"bob": BOB}},
            {"signers": {}},
            {"signers.bob": '{"keys":["ssh-ed25519 bob","ssh-rsa old"],"may":["approve"],"authors":["Bobby"]} -> none'},
        ),
        (
            {"gates": GatesSpec(never_waive=("freeze", "no-secrets"))},
            {"gates": GatesSpec(never_waive=("no-secrets", "freeze"))},
            {"gates.never_waive": '["freeze","no-secrets"] -> ["no-secrets","freeze"]'},
        ),
        ({}, {}, {}),
    ],
    ids=["a number", "a list", "a window", "a signer", "a new signer", "a lost signer", "an order", "nothing"],
)
def test_a_change_is_told_with_what_was_and_what_would_be(was, now, told):
    """Of a list what was taken out and put in, of a table its keys, of anything else both values."""
    old, new = (msgspec.structs.replace(SPEC, **{"signers": {}, **parts}) for parts in (was, now))
    assert policy_changes(new, old) == told


def test_a_long_value_is_told_by_its_first_letters_and_its_digest():
    """Two that begin alike are told apart, and a hundred new entries do not make a line of a book."""
    end = "x" * VALUE
    specs = [
        msgspec.structs.replace(
            SPEC, gates=GatesSpec(allowed_secrets=(AllowedSecret(end + last, "0" * 16, "r", "ann"),))
        )
        for last in "ab"
    ]
    told = policy_changes(*specs)["gates.allowed_secrets"]
    assert told.count("x" * 100) == 2
    assert told.count("SHA-256") == 2
    assert len({part.partition("SHA-256")[2].strip(") ")[:16] for part in told.split(", with")}) == 2
    many = tuple(AllowedSecret(f"{end}{n}", "0" * 16, "r", "ann") for n in range(100))
    long = policy_changes(msgspec.structs.replace(SPEC, gates=GatesSpec(allowed_secrets=many)), SPEC)
    assert len(long["gates.allowed_secrets"]) < LINE + 100
    assert "SHA-256" in long["gates.allowed_secrets"][LINE:]


@pytest.mark.parametrize(
    "letter", ["\x1b", "\n", "\u2028", "\x85", "\u202e", "\u2066", "\u200f", "\u061c", "\x00", "\u200b"]
)
def test_what_is_not_printable_is_a_blank(letter):
    """Escapes, line ends, marks of direction and of no width."""
    assert one_line(f"a{letter}b{letter}") == "a b"


def test_what_is_short_is_told_as_it_is():
    """Nothing is added where nothing is cut off; what is cut off has another digest."""
    assert told_apart("short  text", 20) == "short text"
    assert told_apart("a" * 30 + "b", 30) != told_apart("a" * 30 + "c", 30)
