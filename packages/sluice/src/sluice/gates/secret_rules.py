"""Our own rules for secrets, beside the scanner's: what a server of rooms has, and what is known by where it stands.

Pure. A rule names the field's usual kinds (docs/reference/secrets.md). The scanner knows the tokens of several hundred
providers by their shape; these know values without a shape by their name: TURN credentials, JWT and HMAC secrets,
passwords in connection strings, in configuration and in code, and an env file that is no example.

A rule looks at a line, or at a piece of a long one: so the work grows with the text and not with its square.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from sluice.gates.placeholder import is_stand_in
from sluice.gates.secret_values import LONGEST, assigned, chosen, drawn, looks_random, pair, spoken, typed, unquoted

PIECE = 4000  # of a longer line (minified code) so much is looked at at once,
OVERLAP = 1300  # and so much of it twice: a name and the longest value
WORDS_OF_NAMES = ("pass", "pwd", "secret", "token", "key", "credential", "fernet", "pw", "psk")
NAME = (
    r"(?:(?:(?<![a-z])(?:pass|pw|psk)|password|passwd|passphrase|passwort|pwd|secret|(?<!publickey)(?<![cx]srf)(?<![cx]srf[_-])token|api[_-]?key|access[_-]?key"
    r"|(?:auth|signing|sign|encryption|private|secret|master|session|cookie|hmac|jwt|app|account|storage|shared|webhook)"
    r"[_-]?key|secret[_-]?key[_-]?base|credential|fernet)"
    r"(?:[_-]?(?:\d{1,2}|old|new|current|previous|prod|production|test|staging|primary|b64|base64|hex))?)"
)
_ENDS = r"[\"'`\]\\]{0,4}"  # what closes the name: quotes, an index
_BEFORE = r"(?:\s{0,8}:\s{0,2}[A-Za-z&][\w<>\[\]. |&?]{0,30})?"  # a declared type
_IS = r"\s{0,80}(?:=>|:=|\|\|=?|\?\?=?|==|[:=])\s{0,80}"  # columns are aligned
# What makes bytes or a secret of a text, and no other call: what `get("...")` is given is a name.
_MADE = (
    r"(?:[\w.]{0,40}(?:from_?hex|unhexlify|b64decode|a2b_base64|atob|from_?base64string|Secret(?:Str|Bytes)?|Field)"
    r"|new TextEncoder\(\)\.encode|Buffer\.from|\[\]byte)\(\s?(?:default\s?=\s?)?"
)
_WRAP = rf"(?:{_MADE}){{0,2}}(?:[@$]?[brfu]{{1,2}})?"
_VALUE = rf"(?P<value>[^\s\"'`<>]{{4,{LONGEST}}})"
_BARE = rf"(?P<value>[^\s\"'`,;<>\\]{{8,{LONGEST}}})"
# Within a text, as in notebooks, quotes have a backslash.
_QUOTED = rf"{_WRAP}\\{{0,2}}[\"'`](?P<value>[^\"'`\n]{{8,{LONGEST}}}?)\\{{0,2}}[\"'`]"
_SPOKEN = r"(?:(?:(?<![a-z])(?:pass|pw|psk)|password|passwd|passphrase|passwort|pwd|secret)(?:[_-]?\d)?)"


@dataclass(frozen=True)
class Found:
    """A value that looks like a secret; `line` counts from one. The value must not leave the process that scans.

    `column` is where it begins in its line, from zero.
    """

    line: int
    rule: str
    value: str
    column: int


@dataclass(frozen=True)
class Rule:
    """`pattern` finds the group `value`; `accept` says whether it is a secret.

    One of `words` and one of `signs` must stand there, or the pattern is not tried: most lines of most files are free.
    """

    name: str
    words: tuple[str, ...]
    pattern: re.Pattern[str]
    accept: Callable[[str], bool] = assigned
    signs: tuple[str, ...] = ("",)


def _rule(
    name: str,
    words: str,
    pattern: str,
    accept: Callable[[str], bool] = assigned,
    signs: str | tuple[str, ...] = "",
) -> Rule:
    compiled = re.compile(pattern, re.IGNORECASE)
    some = tuple(signs.split()) if isinstance(signs, str) else signs
    return Rule(name, tuple(words.split()) or WORDS_OF_NAMES, compiled, accept, some or ("",))


RULES = (
    _rule("turn-credential", "static-auth-secret", rf"static-auth-secret\s{{0,4}}[=: ]\s{{0,4}}[\"']?{_VALUE}", chosen),
    _rule("turn-credential", "cli-password", rf"^\s*(?:-\s*|--)?cli-password\s{{0,4}}=\s{{0,4}}{_VALUE}", chosen),
    _rule("turn-credential", "userdb", rf"^\s*\w{{3,8}}-userdb\s{{0,4}}=.{{0,200}}?password={_VALUE}", chosen),
    _rule(
        "turn-credential",
        "turnserver turnadmin turnutils",
        rf"\bturn(?:server|admin|utils)\w*\b.*?\s(?:--?user?[= ]\S{{1,80}}?:|-p\s{{1,4}}|--password[= ]){_VALUE}",
        chosen,
    ),
    _rule(
        "turn-credential",
        "turn",
        rf"(?<![a-z])(?:co)?turn[\w.-]{{0,40}}(?:secret|password|credential|key){_ENDS}\s{{0,4}}[:=]\s{{0,4}}[\"'`]?"
        rf"(?P<value>[^\s\"'`<>,;(){{}}]{{6,{LONGEST}}})[\"'`]?\s*[,;}}]?\s*$",
        typed,
    ),
    _rule(
        "hmac-secret",
        "secret key salt",
        r"(?:jwt|jws|hmac|hs256|session|cookie|csrf|signing|sign|app|flask|django|rails|nextauth)[\w.-]{0,40}?"
        rf"(?:secret|key|key[_-]base|salt){_ENDS}{_BEFORE}{_IS}{_QUOTED}",
        signs="\" ' `",
    ),
    _rule(
        "hmac-secret",
        "jwt. hmac",
        r"(?:jwt\.(?:encode|decode|sign|verify)|hmac\.new|createHmac)\([^\"'`]{0,200}?(?:[\"'][\w-]{1,10}[\"'],)?\s{0,4}"
        rf"b?[\"'`]{_VALUE}[\"'`]",
    ),
    _rule("private-key", "age-secret-key", r"(?P<value>AGE-SECRET-KEY-1[0-9A-Z]{58})"),
    _rule(
        "connection-string",
        "password pwd",
        r"(?:server|host|source|user|uid|user id|dbname|database|port)\s?=.{0,200}[;\s?&\"'](?:password|pwd)\s?="
        r"\s?(?P<value>[^;\s\"'&]{6,200})",
        unquoted,
    ),
    _rule("webhook", "webhooks", r"discord(?:app)?\.com/api/webhooks/\d{10,}/(?P<value>[\w-]{40,100})"),
    _rule("http-basic", "basic", r"\bbasic\s{1,4}(?P<value>[A-Za-z0-9+/]{12,400}={0,2})", pair),
    _rule(
        "http-basic",
        "curl wget http",
        r"\b(?:curl|wget|http)\b.*?\s(?:-u|--user)[= ]?[\"']?[\w.@-]{1,80}:(?P<value>[^\s\"'@]{6,200})",
        typed,
    ),
    _rule("http-bearer", "bearer", r"\bbearer\s{1,4}(?P<value>[\w.~+/-]{16,400}=*)", unquoted),
    _rule("registry-auth", '"auth"', r"\"auth\"\s*:\s*\"(?P<value>[A-Za-z0-9+/]{8,400}={0,2})\"", pair),
    _rule("netrc", "password", r"\blogin\s{1,8}\S{1,100}\s{1,80}password\s{1,8}(?P<value>\S{4,200})", typed),
    _rule("password", "", rf"{NAME}{_ENDS}{_BEFORE}{_IS}{_QUOTED}", signs="\" ' `"),
    _rule("password", "", rf"\(\s?[\"'][\w.-]{{0,60}}?{NAME}[\"']\s?,\s{{0,4}}{_QUOTED}", signs="\" ' `"),
    _rule("password", "", rf"[\[,]\s?[\"'][\w.-]{{0,60}}?{NAME}[\"']\s?,\s{{0,4}}{_QUOTED}", unquoted, "\", ',"),
    # What is taken when nothing else is there, and one of two.
    _rule(
        "password",
        "",
        rf"{NAME}{_ENDS}{_BEFORE}{_IS}[^\n]{{1,80}}?(?:\sor\s|\?\?|\|\||\s\?\s|\selse\s|default\()\s?{_QUOTED}",
        signs=(" or ", "??", "||", " ? ", " else ", "default("),
    ),
    # Letters alone, as providers of mail make them, also in groups.
    _rule(
        "password",
        "pass secret pwd pw psk",
        rf"{_SPOKEN}{_ENDS}{_BEFORE}{_IS}{_WRAP}\\?[\"'`]?"
        r"(?P<value>[a-z]{12,64}|[a-z]{3,8}(?:[ -][a-z]{3,8}){2,4})(?:\\?[\"'`]|\s*(?:[#;,].*)?$)",
        drawn,
        signs=": =",
    ),
    _rule(
        "password", "", rf"^\s*(?:ENV|ARG)\s{{1,8}}\w{{0,60}}?{NAME}\s{{1,8}}{_BARE}\s*$", unquoted, ("env ", "arg ")
    ),
    _rule("password", "identified", rf"\bidentified\s(?:with\s\S{{1,40}}\s)?by\s(?:password\s)?{_QUOTED}"),
    _rule("password", "--user", rf"--user[\"']?[\s,=]\s?[\"']?[\w.-]{{1,80}}:{_BARE}(?=[\s\"'\]]|$)", unquoted),
    _rule(
        "password",
        "",
        rf"\|\s*[`*]{{0,2}}\w{{0,60}}?{NAME}[`*]{{0,2}}\s*\|\s*`?(?P<value>[^\s|`]{{8,{LONGEST}}})`?\s*\|",
        spoken,
        "|",
    ),
    _rule(
        "password",
        "",
        rf"{NAME}[`*]{{0,2}}\s(?:is|ist)\s[\"'`]?(?P<value>[\w+=!#$%^&*.]{{10,{LONGEST}}})(?=[\s\"'`.)]|$)",
        spoken,
        (" is ", " ist "),
    ),
    _rule("password", "", rf"{NAME}{_ENDS}\s{{0,80}}[:=]\s{{0,80}}{_BARE}\s*(?:[#;,].*)?$", unquoted, signs=": ="),
    _rule(
        "password", "", rf"(?:^|[\s;&|\"'-])[\w-]{{0,60}}?{NAME}[= ]{_BARE}(?=[\s\"'`;)]|$)", unquoted, signs="= - &"
    ),
    _rule("password", "", rf"{NAME}\s{{1,8}}{_QUOTED}", signs="\" ' `"),
    _rule(
        "password",
        "pass pwd secret token key credential hmac getbytes",
        rf"(?:{NAME}|hmac(?:sha)?\d{{3}}|key\(\s?[\w.]{{0,40}}getbytes)\(\s?{_QUOTED}",
        signs="(\" (' (` (b",
    ),
    _rule(
        "password",
        "auth login credential",
        rf"(?:auth|login|credentials?)\w{{0,20}}[\"']?\s?[=:]?\s?[(\[{{]\s?[\"'][^\"']{{0,100}}[\"']\s?,\s?{_QUOTED}",
        signs="\" ' `",
    ),
    _rule("password", "login", rf"\blogin\b.*?\s(?:-p|--password)[= ][\"']?{_BARE}", unquoted),
    _rule("password", "<key>", rf"<key>\w{{0,60}}?{NAME}</key>\s{{0,80}}<string>(?P<value>[^<>\s]{{8,{LONGEST}}})</"),
    _rule("password", "${", rf"\$\{{\w{{0,60}}?{NAME}:?[-=](?P<value>[^}}\s]{{4,{LONGEST}}})\}}"),
    _rule(
        "password",
        "</",
        rf"<[\w:-]{{0,60}}?{NAME}(?:\s[^<>]{{0,200}})?>\s{{0,80}}(?P<value>[^<>\s]{{8,{LONGEST}}})\s*</",
    ),
    _rule(
        "password",
        "value",
        rf"(?:name|key)[\"']?\s{{0,4}}[:=]\s{{0,4}}[\"']?\w{{0,60}}?{NAME}[\"']?\s{{0,80}},?\s{{0,80}}"
        rf"[\"']?value[\"']?\s{{0,4}}[:=]\s{{0,4}}[\"']?(?P<value>[^\s\"'<>]{{8,{LONGEST}}})",
        unquoted,
    ),
    _rule(
        "password",
        "requirepass masterauth sasl_passwd auth-pass rootpw",
        r"^\s*(?:requirepass|masterauth|sasl_passwd|auth-pass|rootpw)\s{1,8}[\"']?(?P<value>[^\s\"']{6,200})",
    ),
    _rule(
        "password",
        "redis-cli sshpass mysql",
        r"\b(?:redis-cli\b.*?\s-a\s|sshpass\s+-p\s?|mysql(?:dump)?\b.*?\s-p)[\"']?(?P<value>[^\s\"'-][^\s\"']{6,200})",
    ),
)
# Of two lines that follow each other: the name in the first, and the value in the second.
_OPENS = rf"{NAME}{_ENDS}{_BEFORE}\s{{0,80}}(?:=>|:=|[:=])\s?(?:\(|\[|\\|[>|][+-]?|[brfu]?\"\"\")?\s*\n\s*"
_ACROSS = tuple(rule for rule in RULES if rule.words in (("value",), ("password",), ("<key>",)))
_ACROSS_WORDS = tuple(rule.words[0] for rule in _ACROSS)
_OPENERS = '=:([\\>|+-"'  # with one of these the first line ends, and the second is the value alone:
_BEGINS = re.compile(r"[@$]?[brfu]{0,2}[\"'`]", re.IGNORECASE)
_BELOW = (
    _rule(
        "password",
        "",
        rf"{_OPENS}{_WRAP}[\"'`](?P<value>[^\"'`\n]{{8,{LONGEST}}})[\"'`]\s?[),;\]}}]{{0,4}}\s*(?:[#/].*)?$",
        signs="= :",
    ),
    # Without quotes it is the only thing of its line, and the name is of the line before.
    _rule(
        "password",
        "",
        rf"^\s*(?:-\s|export\s|set\s)?[\"']?[\w.-]{{0,60}}?{NAME}[\"']?\s?(?::\s*(?:[>|][+-]?)?|=\s?(?:\\|\"\"\"))\s*\n"
        rf"\s*(?P<value>[^\s\"'`,;<>\\]{{7,{LONGEST}}}[^\s\"'`,;<>\\:])(?:\"\"\")?\s*$",
        unquoted,
        "= :",
    ),
    _rule("password", "", rf"<[\w:-]{{0,60}}?{NAME}>\s*\n\s*(?P<value>[^<>\s]{{8,{LONGEST}}})\s*$", signs="<"),
)
# What stands before a value that everybody may know: a checksum, whatever the module beside it is called
# (`golang.org/x/oauth2 v0.2.0 h1:…`), Helm's `checksum/secret:`, and keys that are made for the page.
_PUBLIC = re.compile(
    r"(?:(?:h1|zh|md5|sha\d+|integrity|checksum|hash|digest)[\"']?\s*[:=-]|checksum/[\w./-]{1,60}:"
    r"|(?:site[_-]?key|publishable[_-]?key|search(?:[_-]?only)?[_-]?(?:api[_-]?)?key|[cx]srf[\w-]{0,12})[\"']?\s*[:=])"
    r"\s*[\"']?$",
    re.IGNORECASE,
)
BEFORE = 90  # letters in which such a name ends
_URI = re.compile(
    r"://(?P<user>[^\s:/@\"'<>`]{0,100}):(?P<value>[^\s\"'<>`]{3,200}?)@(?P<host>\[[0-9a-f:]+\]|[A-Za-z0-9_.-]+)",
    re.IGNORECASE,
)
# Known by the name of the file alone.
_BY_FILE = {
    ".pgpass": re.compile(r"^[^:\s#]+:(?:\d+|\*):[^:\s]+:[^:\s]+:(?P<value>\S{4,200})"),
    "passwd.client": re.compile(r"^[^:\s#]+:[^:\s]+:(?P<value>\S{4,200})"),
}
_TURN_USER = Rule(
    "turn-credential",
    ("user",),
    re.compile(r"(?:^\s*|--)user[\"']?\s*[=,]\s*[\"']?[^\s:\"']{1,80}:(?P<value>[^\s\"']{4,200})"),
    chosen,
)
# A name with one of these words anywhere, but for what only tells of a secret: where it is, how long, its public half.
_SETTING = Rule(
    "committed-env-file",
    ("=", ":"),
    re.compile(
        r"^\s*(?:export\s+)?(?!\w*(?:public|publishable))"
        r"(?!\w*_(?:file|path|dir|url|uri|ttl\w*|id|name|header|len|length|min\w*|max\w*|alg\w*|type|issuer|host|port)\s*[:=])"
        r"\w*(?:pass(?!ive|age|enger|port)|pwd|secret|token|credential|fernet|signing|salt"
        r"|(?<![a-z])(?:pw|psk|keys?)(?![a-z])|(?:api|access|private|shared|auth)keys?)\w*\s*[:=]\s*[\"']?(?P<value>[^\s\"'#]+)",
        re.IGNORECASE,
    ),
    chosen,
)
_WORDS = sorted({word for rule in RULES for word in rule.words})
_TRIGGER = re.compile("|".join(map(re.escape, _WORDS)) + "|://")
_SIGNS = sorted({sign for rule in RULES for sign in rule.signs} - {""})
# Also with a suffix of an editor or of an environment, but for programs: `config.env.ts`.
_ENV = re.compile(
    r"(?:\.env(?:[._-].+|rc|~)?|\.flaskenv|dotenv|.+\.env(?:[._-][\w-]+|~)?|env\.(?:local|prod|production|staging|test))"
    r"(?<!\.ts)(?<!\.js)(?<!\.py)(?<!\.md)(?<!\.go)(?<!\.rb)(?<!\.tsx)(?<!\.mjs)",
    re.IGNORECASE,
)
_EXAMPLE = re.compile(r"example|sample|template|dist|default|skel|tmpl|tpl|schema|\.j2$", re.IGNORECASE)
_LOCAL = re.compile(
    r"(?:localhost|127\.[\d.]+|\[::1\]|0\.0\.0\.0|[A-Za-z0-9_-]+|.*\b(?:example|test|invalid|local|localhost)(?:\.\w+)?)",
    re.IGNORECASE,
)


def is_env_file(path: str) -> bool:
    """Whether a path is that of an env file and not of an example of one."""
    name = PurePosixPath(path).name
    return bool(_ENV.fullmatch(name)) and not _EXAMPLE.search(name)


def find(path: str, text: str, old: frozenset[int] = frozenset()) -> Iterator[Found]:
    """What our rules find in one line of a file's text, or in two. A find in `old` lines alone (from one) is none."""
    more = _more(path, text)
    before, hot_before = "", False
    for number, line in enumerate(text.split("\n"), 1):
        hot = _TRIGGER.search(line.lower()) is not None
        if (hot or more) and number not in old:
            yield from _in_line(number, line, more)
        short = len(line) + len(before) <= PIECE
        if (hot or hot_before) and before and short and not (number in old and number - 1 in old):
            yield from _over_two_lines(number, line, before)
        before, hot_before = line, hot


def _more(path: str, text: str) -> list[Rule]:
    name = PurePosixPath(path).name
    more = [_SETTING] if is_env_file(path) else []
    if "lt-cred-mech" in text or "turn" in name.lower():
        more.append(_TURN_USER)
    if by_file := _BY_FILE.get(name):
        more.append(Rule("password", ("",), by_file, chosen))
    return more


def _in_line(number: int, line: str, more: list[Rule]) -> Iterator[Found]:
    for start, piece in _pieces(line) if len(line) > PIECE else ((0, line),):
        whole = start + len(piece) == len(line)
        low = piece.lower()
        if "://" in low:
            for match in _URI.finditer(piece):
                if is_login(match["user"], match["value"], match["host"]):
                    yield Found(number, "connection-string", match["value"], start + match.start("value"))
        for rule in (*_applicable(tuple([part for part in (*_WORDS, *_SIGNS) if part in low])), *more):
            for match in rule.pattern.finditer(piece):
                # What ends where the piece ends may go on; the next piece has all of it.
                at = match.start("value")
                public = rule.name == "password" and is_public(piece[max(0, at - BEFORE) : at])
                if (whole or match.end() < len(piece)) and not public and rule.accept(match["value"]):
                    yield Found(number, rule.name, match["value"], start + at)


@functools.lru_cache(maxsize=4096)  # lines use few of the combinations there are
def _applicable(present: tuple[str, ...]) -> tuple[Rule, ...]:
    there = {*present, ""}
    return tuple(rule for rule in RULES if there.intersection(rule.words) and there.intersection(rule.signs))


def _over_two_lines(number: int, line: str, before: str) -> Iterator[Found]:
    alone = line.strip()
    below = before.rstrip()[-1:] in _OPENERS and len(alone) >= 8 and (" " not in alone or _BEGINS.match(alone))
    both = f"{before}\n{line}"
    low = both.lower()
    if not below and not any(word in low for word in _ACROSS_WORDS):
        return
    for rule in (*_ACROSS, *_BELOW) if below else _ACROSS:
        if any(word in low for word in rule.words) and any(sign in low for sign in rule.signs):
            for match in rule.pattern.finditer(both):
                if match.start() < len(before) < match.start("value") and rule.accept(match["value"]):
                    yield Found(number, rule.name, match["value"], match.start("value") - len(before) - 1)


def _pieces(line: str) -> Iterator[tuple[int, str]]:
    for start in range(0, max(len(line) - OVERLAP, 1), PIECE - OVERLAP):
        yield start, line[start : start + PIECE]


def is_public(before: str) -> bool:
    """Whether what ends so is the name of a value that is no secret."""
    return _PUBLIC.search(before) is not None


def is_login(user: str, password: str, host: str) -> bool:
    """Whether what stands in `scheme://user:password@host` lets somebody in."""
    if "/" in password and (re.match(r"\d*/", password) or not looks_random(password)):
        return False  # a port and a path, with a sign in it
    if is_stand_in(password) or password.lower() == user.lower() or re.search(r"^[%{$]|[(){}]", password):
        return False
    # Where nobody but this machine listens a word is a documented default; elsewhere it is somebody's password.
    if _LOCAL.fullmatch(host):
        return assigned(password)
    return password.lower() not in {
        "password",
        "pass",
        "passwd",
        "pw",
        "pwd",
        "secret",
        "token",
        "guest",
        "user",
        "admin",
    }
