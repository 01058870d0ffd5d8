"""Whether a value looks like a secret, by itself. Pure. What holds the place of a value is in placeholder.py."""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
from collections import Counter

from sluice.gates.placeholder import is_known, is_stand_in, is_words
from sluice.model.words import are_words

DIGEST_DIGITS = 16  # of SHA-256, hex: enough to tell finds apart, and what [[gates.allowed_secrets]] names
LONGEST = 1000  # a key of 512 bytes in hex fits; a longer text is looked at by the rules that know its shape
SPOKEN = 16  # letters of what is no word of a sentence, however few kinds of them it has
TURNS = 4  # from a letter to a digit or back, in words with numbers: `sha256base64url`
_TURN = re.compile(r"(?<=[0-9])[A-Za-z]|(?<=[A-Za-z])[0-9]")
_ONE_WORD = re.compile(r"[!-~]+")
_WORD = r"(?:[A-Z]{0,4}[a-z_]{2,}(?:[A-Z]{1,4}[a-z_]+)*|[A-Z_]{2,})\d{0,2}"
# What stands beside a name like `token` and is none: code, places, dates, colours, digests, files, addresses of chains.
_NO_VALUE = tuple(
    re.compile(shape)
    for shape in (
        rf"!{{0,2}}{_WORD}(?:(?:\.|->|::){_WORD})+$",
        rf"\w+={_WORD}$",
        r"(?:[a-z]\w*\.)?(?:[A-Z]\w*|_)?(?:Private|Public|Secret)Keys?(?:Types?)?[,;]?$",  # a type: X25519PrivateKey
        # The hash of a password: what is stored of one, so that nobody has it.
        r"\$(?:2[abxy]?|argon2\w*|scrypt|pbkdf2\S*?|[1567]|y|apr1)\$|(?:pbkdf2|argon2|bcrypt|scrypt)\w*\$|\{S?SHA\d*\}",
        r"Ag[AB][A-Za-z0-9+/]{200,}=*$",  # sealed for a cluster (Bitnami)
        r"!{0,2}[A-Za-z_$][\w.:>$-]*[(\[].*[)\]][;,]?$",
        r"(?:https?://|\.{0,2}/|~/|[A-Z]:\\|data:|sha\d+[-:]|www\.)",
        r"#[0-9a-fA-F]{3,8}$|0x[0-9a-fA-F]{40}$|[\d.:/TZ+-]+$",
        r"\w+:[x*!]?:\d+:",  # a line of a passwd file
        r".*\.(?:js|css|json|html|png|svg|txt|md|py|ts|go|ya?ml|toml|pem|key|crt|conf|log|sock|com|net|org)$",
    )
)
_CODE = re.compile(r"[(){}\[\]|$\\]|->|::")
# A run of base64 that no dots cut short, however its lines are joined.
_KEY_RUN = re.compile(r"(?<![\w+/.…<])[A-Za-z0-9+/]{32,}={0,2}(?![\w.…<>])")
_NO_KEY = re.compile(r"x{8}|example", re.IGNORECASE)
_CUT = re.compile(r"^[^A-Za-z0-9+/\n]*(?:\.\.\.|…|<[^<>@]*>)\s*$", re.MULTILINE)  # a manual shows the first lines
_FLAG = re.compile(r"true|false|yes|no|on|off|\d{1,5}", re.IGNORECASE)


def digest_of(value: str) -> str:
    """How a value is named where it must not be shown."""
    return hashlib.sha256(value.encode()).hexdigest()[:DIGEST_DIGITS]


def entropy(value: str) -> float:
    """Shannon's, in bits a letter."""
    return -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())


def looks_random(value: str) -> bool:
    """Whether a value without a shape looks as a generator makes it, and not as a name, a path or a word."""
    if not 8 <= len(value) <= LONGEST or not _ONE_WORD.fullmatch(value) or is_stand_in(value) or is_words(value):
        return False
    if any(shape.match(value) for shape in _NO_VALUE):
        return False
    bits = entropy(value)
    if not re.search("[0-9]", value):  # a name, a heading: below; twelve random letters: above
        return bits >= 3.5 and bool(re.search("[a-z][A-Z]|[A-Z]{12}|[A-Za-z][^A-Za-z._:/-]+[A-Za-z]", value))
    return bool(re.search("[A-Za-z]", value)) and bits >= (2.6 if len(value) < 16 else 3.0)


def assigned(value: str) -> bool:
    """Whether a value that a name like `password` is given is one; one in base64 is judged by what is in it too."""
    if not looks_random(value):
        return False
    inner = decoded(value)
    return not inner or not (is_stand_in(inner) or is_words(inner))


def unquoted(value: str) -> bool:
    """As `assigned`, where code may stand as well as a value."""
    return not _CODE.search(value) and assigned(value)


def spoken(value: str) -> bool:
    """As `unquoted`, in a sentence or a table: there words with a number in them stand, and sequences as a sample."""
    letters = re.sub("[^A-Za-z]", "", value)
    turns, words = len(_TURN.findall(value)), are_words(letters)
    mixed = not (letters.islower() or letters.isupper() or words)
    generated = mixed or turns > TURNS or (turns >= TURNS - 1 and not words)
    return (len(value) >= SPOKEN or (generated and not is_stand_in(letters))) and unquoted(value)


def chosen(value: str) -> bool:
    """Where the name leaves no doubt (an env file, a TURN server's own key), a weak value is a secret all the same."""
    return len(value) >= 4 and not is_stand_in(value) and not _FLAG.fullmatch(value)


def typed(value: str) -> bool:
    """As `chosen`, where examples are written with words."""
    return len(value) >= 6 and chosen(value) and not is_words(value)


def pair(value: str) -> bool:
    """Whether it is base64 of user:password, as HTTP and container registries write it."""
    user, colon, password = decoded(value).partition(":")
    return bool(colon and user) and len(password) >= 4 and not is_stand_in(password) and not is_words(password)


def drawn(value: str) -> bool:
    """Whether letters alone are a generator's and no words: too many pairs of them hardly stand in words."""
    letters = re.sub("[^a-z]", "", value.lower())
    return len(letters) >= 12 and not is_stand_in(value) and not is_known(letters) and not are_words(letters)


def key_body(value: str) -> bool:
    """Whether what begins as a private key has the body of one, and not the dots of a manual.

    Only the body counts: what headers and comments say (`Comment: Ann <ann@…>`) is no matter.
    """
    runs = [run for run in _KEY_RUN.findall(value) if entropy(run) >= 3.5 and not _NO_KEY.search(run)]
    return len(runs) > (2 if _CUT.search(value) else 0)


def decoded(value: str) -> str:
    """The text that a value is the base64 of; empty when it is of none."""
    bare = value.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        inner = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
    return inner if all(letter.isprintable() or letter in "\t\r\n" for letter in inner) else ""
