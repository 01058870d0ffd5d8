"""Commands as people write them in a runbook: which there are in a piece of code, and whether they exist."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sluice.runbook import findings as say
from sluice.runbook.facts import Surface
from sluice.runbook.words import NOTHING, Words

OPEN, CLOSE = "‹", "›"  # stand for the brackets of <placeholders>, which a shell would take for redirections
PLACEHOLDER = re.compile(r"<([^<>`'\"\s](?:[^<>`'\"\n]{0,60}[^<>`'\"\s])?)>")
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
PUNCTUATION = frozenset("();<>|&")
# Global options of sluice that take a value, and those that do not.
GLOBAL = {"--host": 1, "--host-config": 1, "--debug": 0, "--help": 0, "-h": 0, "--version": 0}
HELP = frozenset({"--help", "-h"})
# What a runbook may use besides, and no rule judges.
FOREIGN = frozenset(
    {"ssh", "curl", "docker", "git", "npm", "cd", "make", "cat", "ls", "cp", "mv", "echo", "export", "sudo", "bash"}
    | {"sh", "ssh-keygen", "journalctl", "systemctl", "tail", "grep", "openssl", "dig", "watch", "less", "diff"}
)


@dataclass(frozen=True)
class Wrong:
    """What is wrong with a command. `values` fill both texts."""

    code: str
    sentence: Words
    fix: Words = NOTHING
    values: Mapping[str, str] = field(default_factory=dict)


def hidden(text: str) -> str:
    """The text with its placeholders made harmless to a shell's reading."""
    return PLACEHOLDER.sub(rf"{OPEN}\1{CLOSE}", text)


def commands_in(code: str) -> list[list[str]]:
    """Simple commands, also those handed to `ssh` in quotes; variables set before a command are left out."""
    found: list[list[str]] = []
    try:
        lexer = shlex.shlex(hidden(code).removeprefix("$ "), posix=True, punctuation_chars=True)
        lexer.whitespace_split, lexer.commenters = True, "#"
        words = list(lexer)
    except ValueError:  # a quote that is not closed: prose
        return []
    current: list[str] = []
    redirected = False
    for word in [*words, ";"]:
        if set(word) <= PUNCTUATION:
            redirected = ">" in word or "<" in word
            if not redirected:
                found += _nested(current)
                current = []
        elif redirected:
            redirected = False
        else:
            current.append(word)
    return found


def _nested(words: list[str]) -> list[list[str]]:
    while words and ASSIGNMENT.fullmatch(words[0]):
        words = words[1:]
    if not words:
        return []
    inner = [one for one in words[1:] if words[0] == "ssh" and " " in one]
    return [words, *(command for one in inner for command in commands_in(one))]


def is_command(code: str) -> bool:
    """Whether code in the middle of a sentence is meant to be typed."""
    return any(known_program(words[0]) for words in commands_in(code))


def known_program(word: str) -> bool:
    """One of ours, one of the runbook's scripts, or a tool everybody has."""
    return word == "sluice" or word.endswith(".sh") or word in FOREIGN


def judge(
    words: Sequence[str], surface: Surface, npm: Collection[str] | None, local: Collection[str]
) -> Iterator[Wrong]:
    """What is wrong with one command. `npm`: scripts of package.json (None: not known); `local`: files there are."""
    program = words[0]
    if program == "sluice":
        yield from _sluice(words[1:], surface)
    elif program.endswith(".sh"):
        yield from _script(program, words[1:], surface, local)
    elif program == "npm" and npm is not None and list(words[1:2]) == ["run"] and not {*words[2:3]} <= {*npm}:
        values = {"name": words[2], "known": ", ".join(sorted(npm)) or "—"}
        yield Wrong("unknown-script", say.NO_NPM, say.FIX_NO_NPM, values)


def environment_in(words: Sequence[str]) -> str:
    """The value of --env, or ""; a placeholder is no name."""
    for number, word in enumerate(words):
        name, _, value = word.partition("=")
        if name == "--env":
            chosen = value or (words[number + 1] if number + 1 < len(words) else "")
            return "" if chosen.startswith((OPEN, "$")) else chosen.strip("'\"")
    return ""


def verb_of(words: Sequence[str], surface: Surface) -> str:
    """The command of Sluice that this comes to, or ""."""
    name = words[0].rsplit("/", 1)[-1]
    if words[0] == "sluice":
        rest = _after_globals(words[1:])
        return _path(rest, surface)[0] if rest else ""
    verbs = surface.scripts.get(name, {})
    return words[1] if len(words) > 1 and words[1] in verbs else ""


def _after_globals(words: Sequence[str]) -> Sequence[str]:
    while words and words[0].partition("=")[0] in GLOBAL:
        name, equals, _ = words[0].partition("=")
        words = words[1 if equals else 1 + GLOBAL[name] :]
    return words


def _path(words: Sequence[str], surface: Surface) -> tuple[str, Sequence[str]]:
    if len(words) > 1 and f"{words[0]} {words[1]}" in surface.commands:
        return f"{words[0]} {words[1]}", words[2:]
    return words[0], words[1:]


def _sluice(words: Sequence[str], surface: Surface) -> Iterator[Wrong]:
    rest = _after_globals(words)
    if not rest:
        return
    if rest[0].startswith("-"):
        yield Wrong("unknown-option", say.NO_GLOBAL, say.AS_IT_IS, {"name": rest[0], "do": "sluice --help"})
        return
    if rest[0].startswith(OPEN) or rest[0].isupper():  # `sluice COMMAND --help`
        return
    command, words = _path(rest, surface)
    options = surface.commands.get(command)
    if options is None:
        yield _near("unknown-command", say.NO_COMMAND, command, surface.commands)
        return
    group = any(known.startswith(f"{command} ") for known in surface.commands)
    if group and words and not words[0].startswith(("-", OPEN)):
        values = {"name": f"{command} {words[0]}", "do": f"sluice {command} --help"}
        yield Wrong("unknown-command", say.NO_COMMAND, say.AS_IT_IS, values)
        return
    yield from _options(f"sluice {command}", words, options)


def _script(program: str, words: Sequence[str], surface: Surface, local: Collection[str]) -> Iterator[Wrong]:
    name = program.rsplit("/", 1)[-1]
    verbs = surface.scripts.get(name)
    if verbs is None:
        if program not in local:
            yield _near("unknown-script", say.NO_SCRIPT, name, surface.scripts)
        return
    verb = ""
    if "" not in verbs:
        if not words or words[0].startswith((OPEN, "-h", "--help")):
            return
        verb, words = words[0], words[1:]
        if verb not in verbs:
            yield _near("unknown-command", say.NO_VERB, verb, verbs, script=name)
            return
    yield from _options(f"{name} {verb}".strip(), words, verbs[verb])
    chosen, fixed = environment_in(words), surface.fixed.get(name, "")
    if fixed and chosen and chosen != fixed:
        values = {"script": name, "fixed": fixed, "name": chosen, "do": f"--env {fixed}"}
        yield Wrong("unknown-environment", say.FIXED, say.AS_IT_IS, values)


def _options(what: str, words: Sequence[str], options: Collection[str]) -> Iterator[Wrong]:
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("-") and name not in ("-", "--") and name not in options and name not in HELP:
            yield _near("unknown-option", say.NO_OPTION, name, options, command=what)


def _near(code: str, sentence: Words, name: str, known: Collection[str], **more: str) -> Wrong:
    """There is none of that name; what was meant, or what there is."""
    near = difflib.get_close_matches(name, list(known), n=1)
    values = {**more, "name": name, "near": "".join(near), "known": ", ".join(sorted(known)) or "—"}
    return Wrong(code, sentence, say.NEAR if near else say.KNOWN, values)
