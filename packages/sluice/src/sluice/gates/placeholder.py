"""What stands where a value belongs: no secret in a diff, no value in an env file. Pure."""

from __future__ import annotations

import re

# What example files and documentation put where a value belongs.
_PLACEHOLDER = re.compile(
    r"<.*>|\{\{.*\}\}|\$\{?[A-Za-z_]\w*\}?|x{3,}|\*{3,}|\.{3,}|…|-{3,}|_{3,}|\?{3,}|#{3,}"
    r"|(?:please[-_ ]?)?(?:change|replace|fill|set)[-_ ]?(?:me|this|it)?[-_ ]?(?:in|now|please)?"
    r"|todo|tbd|fixme|none|null|nil|undefined|secret|password|passwd|example|placeholder|redacted|\[redacted\]"
    r"|your[-_ ].*",
    re.IGNORECASE,
)
# Another program fills these in: shells, Compose, Helm, Jinja, ERB, Ansible, SOPS, Windows, Make, CI systems.
_TEMPLATE = re.compile(
    r"\$\{|\$\(|\{\{|\}\}|<%|%>|\{%|#\{|@@\w+@@|%\(\w+\)s|^%\w+%$|^\$[A-Za-z_]\w*$|^__\w+__$|\{[A-Za-z_][\w.:]*\}|^<[^<>]*>$"
    r"|^\{\}|^ENC\[|^!vault|^\$ANSIBLE_VAULT|^(?:vault|op|file|env|secret|ssm|awskms|arn|keyring):|^/(?:run|etc|var)/"
    r"|«[^»]*»?|\*{3,}|x{6,}|•{3,}|\.{3,}|…",
    re.IGNORECASE,
)
# Nobody's generator makes these eight letters and more by chance.
_SAYS_SO = re.compile(
    r"^(?:my|some|any|insert|enter|put|generate)[-_ ]"
    r"|example|placeholder|change[-_]?me|replace[-_]?(?:me|with|this)|dummy|redacted|not[-_]?a?[-_]?real"
    r"|do[-_]?not[-_]?use|for[-_]?tests?[-_]?only|test[-_]?only|insecure|your[-_](?:\w+[-_])?(?:key|token|secret|pass)",
    re.IGNORECASE,
)
DRAWN, DRAWN_KINDS = 16, 9  # letters, and different ones, of what is a value beside a word that says it is none
# Printed in the manuals of widely used servers: whoever left one of these in place has another problem than this diff.
_PRINTED = frozenset(
    """
    foobared minioadmin SW2YcwTIb9zpOOhoPsMm admin123 password123 123456789
    wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY
    """.split()  # noqa: SIM905 - a table, kept readable
)
# Beginnings of the tokens that documentation shows: the sample of jwt.io, and the demo keys of Supabase.
_SAMPLE_JWT = re.compile(
    r"eyJ[\w-]+\.eyJ(?:zdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6Ikpva|pc3MiOiJzdXBhYmFzZS1kZW1v)[\w-]*\.[\w-]*"
)
_RUNS = (
    "0123456789abcdefghijklmnopqrstuvwxyz",
    "1234567890",
    "1234567890abcdef",
    "abcdef0123456789",
    "qwertyuiopasdfghjklzxcvbnm",
)
# Of these are passwords made that are typed into tests, tutorials and documented defaults.
_WORDS = frozenset(
    """
    abc access account admin alice anna ann any api app auth backup bad bar basic battery baz bearer bob
    boltorezka cache canary carol changeit chat client code cookie correct credential credentials database dave
    db debug default demo dev development dummy else empty expired fake first fixture foo forged foreign fresh
    good guest hello here hidden hmac horse host hunter hush id in integration invalid is it jwt key known
    letmein local localhost login long master me minio mock mongo my mysql name nats new nobody not number of
    old only open other pass passphrase password passwd plain postgres postgresql private prod production public
    pw pwd quite qux qwerty rabbit rabbitmq random real redis refresh rest right room rooms root same sample
    sandbox second secret secrets sentinel server service session shared sign signing sluice smoke something
    some staging staple static stranger string super svc system test tester testing tests the this ticket tiger
    token tokens top turn unit unknown user username users valid value very web webhook welcome with word world
    wrong xyz you your zero
    """.split()  # noqa: SIM905 - a table of words, kept readable
)
_LONGEST_WORD = max(map(len, _WORDS))
_LEET = str.maketrans("013457@$!", "oieastasi")
_IDENTIFIER = re.compile(
    r"[A-Za-z]+(?:[-_ ./:|][A-Za-z]+)+[-_.]?\d{0,4}|_?[A-Za-z]+(?:\$\d)*|"
    r"[a-z]+\d{0,4}|[A-Z]?[a-z]+(?:[A-Z][a-z]+)+\d{0,2}"
)


def is_placeholder(value: str) -> bool:
    """Whether a value only holds the place of one: empty, `changeme`, `<…>`, `xxx` and their kin."""
    return not value.strip() or _PLACEHOLDER.fullmatch(value.strip()) is not None


def is_stand_in(value: str) -> bool:
    """Whether what a scanner took for a secret holds the place of one: also templates, and what says so itself."""
    return bool(_TEMPLATE.search(value.strip())) or says_so(value)


def says_so(value: str) -> bool:
    """Whether a value itself says that it is none: a placeholder, a manual's sample, keys pressed in a row."""
    value = value.strip()
    if value in _PRINTED or _SAMPLE_JWT.fullmatch(value):
        return True
    if is_placeholder(value) or _SAYS_SO.search(value):
        return not _holds_more(value)
    bare = value.lower().replace("-", "").replace("_", "")
    return len(set(bare)) <= 2 or any(bare in run * 4 for run in _RUNS)


def _holds_more(value: str) -> bool:
    """Whether beside the words that say so something drawn stands: `changeme-` before a real value excuses nothing."""
    for part in re.split(r"[^A-Za-z0-9+/=]+", _SAYS_SO.sub(" ", value)):
        mixed = re.search("[0-9]", part) and re.search("[A-Za-z]", part) and len(set(part)) >= DRAWN_KINDS
        if len(part) >= DRAWN and mixed and not is_words(part) and not any(part.lower() in run * 4 for run in _RUNS):
            return True
    return False


def is_words(value: str) -> bool:
    """Whether a value is made of words, as people type them into tests: `correct-horse-1`, `Passw0rd!`, `tokenFor`."""
    letters = re.sub(r"[^a-z]", "", value.lower())
    leet = re.sub(r"[^a-z]", "", value.lower().rstrip("0123456789!").translate(_LEET))
    typed = len(letters) * 2 >= len(value) and is_known(letters)
    return typed or is_known(leet) or _is_spoken(value, letters)


def is_known(letters: str) -> bool:
    """Whether small letters are nothing but words of our list."""
    ends = {0}  # where a word may end; each place is tried once, so a long text costs no more than its length
    for end in range(1, len(letters) + 1):
        if any(end - size in ends and letters[end - size : end] in _WORDS for size in range(2, _LONGEST_WORD + 1)):
            ends.add(end)
    return bool(letters) and len(letters) in ends


def _is_spoken(value: str, letters: str) -> bool:
    if not _IDENTIFIER.fullmatch(value):
        return False
    # Of random letters every fifth is a vowel and every fourth begins with a capital; of words, a third and a fifth.
    vowels = sum(letters.count(vowel) for vowel in "aeiouy")
    return len(letters) < 8 or (vowels * 4 >= len(letters) and len(re.findall("[a-z][A-Z]", value)) * 5 <= len(value))
