"""Rules about what is written literally: settings, numbers, statuses, addresses, environments, branches."""

from __future__ import annotations

import re
import tomllib
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

from sluice.model.spec import EnvironmentName
from sluice.runbook import findings as say
from sluice.runbook.facts import settings_of
from sluice.runbook.items import Kind
from sluice.runbook.page import Code, Page
from sluice.runbook.prose import Block, Shape
from sluice.runbook.words import Words

SETTING = re.compile(r"^(?:\[(\w+)\]\s*)?([a-z][a-z0-9_]*)\s*=\s*(.+)$")
NUMBER = r"(\d+(?:[.,]\d+)?)"
TAIL = re.compile(r"--tail[= ](\d+)|(?:последни\w+|newest|last)\s+(\d+)\s+(?:строк\w*|lines?)", re.IGNORECASE)
OF = re.compile(rf"\b{NUMBER}\s+(?:из|of(?: the last)?)\s+(?:последних\s+)?{NUMBER}\b", re.IGNORECASE)
PERCENT = re.compile(rf"{NUMBER}\s*%")
COUNTS = {
    1: "one|од(?:ин|но|на|ного|ной)",
    2: "two|дв(?:а|е|ух)",
    3: "three|тр(?:и|ёх|ех)",
    4: "four|четыр(?:е|ёх|ех)",
    5: "five|пят(?:ь|и)",
}
COUNTED = "|".join(COUNTS.values())
# What may stand between: not "72 hours after the approval".
ADJECTIVES = r"explicit|separate|independent|different|written|явн\w+|отдельн\w+|независим\w+|разн\w+|письменн\w+"
APPROVALS = re.compile(
    rf"\b(\d+|{COUNTED})\s+(?:(?:{ADJECTIVES})\s+)*(?:approvals?|подтвержден\w*|подпис\w*)", re.IGNORECASE
)
COUNTER = re.compile(
    r"`([a-z_:][\w:]*(?:\{[^`}]*\})?)`\s*(?:≤|<=|до|at most)\s*([\d.,]+)\s*(?:/s|/с|per second|в секунду)",
    re.IGNORECASE,
)
STATUS = re.compile(r"(?<![\d.:/-])([1-5]\d\d)(?![\d:%-]|\.\d|\s*(?:ms|мс|s\b|с\b|MB|МБ|строк|lines))")
URL = re.compile(r"https?://[^\s`'\"<>)\]]+")
HOST = re.compile(r"^[a-z0-9-]+(?:\.[a-z0-9-]+)+$")
FILES = re.compile(r"\.(md|sh|toml|ya?ml|py|json|txt|env|service|conf|key|pub|log|jsonl)$")
ENDPOINT = re.compile(r"\b(?:GET|HEAD|POST|PUT|PATCH|DELETE)\s+(?:и\s+\w+\s+)?`?(/[\w/.{}-]*)")
BRANCH = re.compile(r"^[a-z]+/(?:[\w.-]*<[^>]+>|[\w.-]+)$")
ENVIRONMENTS = ("staging", "stage", "dev", "development", "production", "qa", "uat", "preprod", "pre-prod", "live")
IN_ENVIRONMENT = re.compile(
    rf"`(?P<quoted>{'|'.join(ENVIRONMENTS)})`"
    r"|\b(?:to|in|on|в|на)\s+(?P<there>staging|qa|uat|preprod)\b"
    rf"|(?:environment|окружени\w*|сред[аеуы])\s+(?P<after>{'|'.join(ENVIRONMENTS)})\b"
    rf"|\b(?P<before>{'|'.join(ENVIRONMENTS)})[\s-]+(?:environment|окружени\w*|сред[аеуы])\b",
    re.IGNORECASE,
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
VARIABLE = re.compile(r"^[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+$")
MODE = re.compile(r"\bmode\s*=\s*[\"']?(\w+)", re.IGNORECASE)
NEARLY = 1e-9  # 0.2 * 100 is not quite 20
EXPECTED = {"http-health": (200,), "sso-only": (410,), "domain-redirect": (301, 302, 307, 308)}


def settings(page: Page, block: Block) -> None:
    """`[table] key = value` in backticks, against the policy."""
    known = settings_of(page.facts.policy)
    for offset, span in block.spans:
        match = SETTING.match(span)
        if match is None:
            continue
        table, key, text = match.groups()
        names = [f"{table}.{key}"] if table else [name for name in known if name.endswith(f".{key}")]
        if not table and len(names) != 1:
            continue  # `mode=sso` is no setting of ours
        value, name = _parsed(text), names[0]
        page.read(block)
        if name not in known:
            values = {"key": key, "table": table, "do": "sluice config example"}
            page.say(block.line_at(offset), Code.UNKNOWN_SETTING, say.NO_SETTING, say.AS_IT_IS, **values)
        elif value is not None and not _same(value, known[name]):
            _differs(page, block, offset, f"`{name}`", text, str(known[name]))


def _parsed(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return None


def _same(one: Any, other: Any) -> bool:
    if isinstance(other, list | tuple):
        return isinstance(one, list) and list(one) == list(other)
    return bool(one == other)


def _differs(page: Page, block: Block, offset: int, what: str | Words, said: str, now: str) -> None:
    page.say(block.line_at(offset), Code.DIFFERS, say.DIFFERS, say.FIX_DIFFERS, said=said, what=what, now=now)


def _compare(page: Page, block: Block, place: tuple[int, str], key: str, unit: str = "") -> None:
    offset, said = place
    value = settings_of(page.facts.policy)[key] * (100 if unit else 1)
    if abs(_number(said) - value) > NEARLY:
        _differs(page, block, offset, f"`{key}`", said + unit, f"{value:g}{unit}")


def _number(said: str) -> float:
    """As digits, or as one of the small words."""
    words = (count for count, word in COUNTS.items() if re.fullmatch(word, said, re.IGNORECASE))
    return next(words, None) or float(said.replace(",", "."))


def numbers(page: Page, block: Block) -> None:
    """Lines of logs, k of n, per cent, approvals, counters."""
    for match in TAIL.finditer(block.text):
        group = 1 if match.group(1) else 2
        page.read(block)
        _compare(page, block, (match.start(group), match.group(group)), "checks.log_lines")
    mentioned = {name for (kind, name), where in page.mentions.items() if kind is Kind.CRITERION and block in where}
    windows = {"health": "health", "call-setup": "call", "auth": "refusal"}
    for name in mentioned & windows.keys():
        for match in OF.finditer(block.text):
            for group, key in ((1, "failures"), (2, "window")):
                _compare(page, block, (match.start(group), match.group(group)), f"watch.{windows[name]}_{key}")
    if "ws-disconnects" in mentioned:
        for match in PERCENT.finditer(block.text):
            _compare(page, block, (match.start(1), match.group(1)), "watch.cut_share", " %")
    if block in page.mentions.get((Kind.RULE, "approval"), []):
        for match in APPROVALS.finditer(block.text):
            _compare(page, block, (match.start(1), match.group(1)), "promotion.approvals")
    _counters(page, block)


def _counters(page: Page, block: Block) -> None:
    limits = {one.metric: one.max_per_s for one in page.facts.policy.watch.auth}
    for match in COUNTER.finditer(block.text):
        metric, said = match.groups()
        page.read(block)
        if metric not in limits:
            line = block.line_at(match.start(1))
            page.say(line, Code.UNCHECKED, say.NO_COUNTER, say.FIX_NO_COUNTER, metric=metric)
        elif abs(_number(said) - limits[metric]) > NEARLY:
            _differs(page, block, match.start(2), f"`{metric}`", said, f"{limits[metric]:g}")


def statuses(page: Page, block: Block) -> None:
    """The status a line expects, where it speaks of one check alone."""
    if block.shape is Shape.CODE:
        return
    expected = {**EXPECTED, "websocket": (page.facts.policy.checks.websocket_expect,)}
    mentioned = {name for (_, name), where in page.mentions.items() if block in where and name in expected}
    if len(mentioned) != 1:
        return
    (name,) = mentioned
    plain = URL.sub(lambda match: " " * len(match.group()), block.text)
    for match in STATUS.finditer(plain):
        if int(match.group(1)) not in expected[name]:
            wanted = say.OR.say(page.lang).join(map(str, expected[name]))
            _differs(page, block, match.start(1), _of_check(page, name), match.group(1), wanted)


def modes(page: Page, block: Block) -> None:
    """The way of signing in that a line expects of the plug-in's check."""
    if block in page.mentions.get((Kind.PLUGIN, "sso-mode"), []):
        for match in MODE.finditer(block.text):
            if match.group(1).lower() != "sso":
                _differs(page, block, match.start(), _of_check(page, "sso-mode"), match.group(), "mode=sso")


def _of_check(page: Page, name: str) -> str:
    return say.OF_CHECK.say(page.lang, {"id": name})


def addresses(page: Page, block: Block) -> None:
    """Every host is one of host.toml, every path one that somebody asks."""
    text = block.text
    for match in URL.finditer(text):
        page.read(block)
        parts = urllib.parse.urlsplit(match.group().rstrip(".,;"))
        _host(page, block, match.start(), parts.hostname or "")
        if _ours(page, parts.hostname or ""):
            _path(page, block, match.start(), parts.path)
    for offset, span in block.spans:
        if (
            block.shape is not Shape.CODE
            and HOST.match(span)
            and not FILES.search(span)
            and not span.replace(".", "").isdigit()
        ):
            page.read(block)
            _host(page, block, offset, span)
    for match in ENDPOINT.finditer(text):
        page.read(block)
        _path(page, block, match.start(1), match.group(1))


def _hosts(page: Page) -> dict[str, dict[str, list[str]]]:
    """Host -> what host.toml has it for -> in which environments: one host may be several things."""
    known: dict[str, dict[str, list[str]]] = {}
    for name, one in page.facts.environments.items():
        public = urllib.parse.urlsplit(one.public_url).hostname or ""
        for key, host in (("public_url", public), ("expect_sso_host", one.expect_sso_host.partition(":")[0])):
            if host:
                known.setdefault(host.lower(), {}).setdefault(key, []).append(name.value)
    return known


def _ours(page: Page, host: str) -> bool:
    return not page.facts.environments or host in _hosts(page)


def _host(page: Page, block: Block, offset: int, host: str) -> None:
    known = _hosts(page)
    if known and host and host.lower() not in known:
        line, told = block.line_at(offset), "; ".join(_told(page, name, known[name]) for name in sorted(known))
        page.say(line, Code.UNKNOWN_HOST, say.NO_HOST, say.FIX_NO_HOST, host=host, told=told)


def _told(page: Page, host: str, keys: dict[str, list[str]]) -> str:
    joined = say.AND.say(page.lang)
    what = ", ".join(
        say.OF_ENVIRONMENTS.say(page.lang, {"key": key, "names": joined.join(names)}) for key, names in keys.items()
    )
    return say.ONE_HOST.say(page.lang, {"what": what, "host": host})


def _path(page: Page, block: Block, offset: int, path: str) -> None:
    policy = page.facts.policy
    known = {"", "/", policy.run.health_path, policy.run.version_path, policy.checks.websocket_path}
    known.add(policy.watch.metrics_path)
    if path in known or any(i.kind is Kind.PLUGIN and i.pattern.search(path) for i in page.items):
        return
    page.say(block.line_at(offset), Code.UNCHECKED, say.NO_PATH, say.FIX_NO_PATH, path=path)


def environments(page: Page, block: Block) -> None:
    """Names of environments that the model does not have."""
    for match in IN_ENVIRONMENT.finditer(block.text):
        name = next(text for text in match.groups() if text)
        no_environment(page, block.line_at(match.start()), name)


def no_environment(page: Page, line: int, name: str) -> None:
    """Say that there is none of that name, and which there are."""
    known = say.OR.say(page.lang).join(one.value for one in page.facts.environments or EnvironmentName)
    sentence = say.NO_ENVIRONMENT_HERE if page.facts.environments else say.NO_ENVIRONMENT
    page.say(line, Code.UNKNOWN_ENVIRONMENT, sentence, say.FIX_NO_ENVIRONMENT, name=name, known=known)


def branches(page: Page, block: Block) -> None:
    """A branch's name as the policy would take it."""
    if not re.search(r"ветк|branch", block.text, re.IGNORECASE):
        return
    pattern = page.facts.policy.gates.branch
    for offset, span in block.spans:
        if block.shape is not Shape.CODE and BRANCH.match(span) and not FILES.search(span):
            page.read(block)
            if not re.fullmatch(pattern, re.sub(r"<[^>]+>", "x", span)):
                _differs(page, block, offset, say.OF_BRANCH, f"`{span}`", f"`{pattern}`")


def variables(page: Page, block: Block) -> None:
    """A variable the server must have, where the policy asks for another."""
    policy = page.facts.policy
    known = {*policy.run.required_env, *policy.gates.required_env, *policy.run.environment, policy.watch.metrics_token}
    known |= {*policy.compose.environment}
    for offset, span in block.spans:
        if block.shape is Shape.CODE or not VARIABLE.match(span):
            continue
        page.read(block)
        if span not in known and not span.startswith("SLUICE_"):
            page.say(block.line_at(offset), Code.UNCHECKED, say.NO_VARIABLE, say.FIX_NO_VARIABLE, name=span)


def links(page: Page, block: Block) -> None:
    """Files that are linked to."""
    for match in LINK.finditer(block.text):
        target = urllib.parse.unquote(match.group(1).partition("#")[0])
        page.read(block)
        if not target or "://" in target or target.startswith(("mailto:", "/")) or page.around.exists(target):
            continue
        words = say.AS_IT_IS if re.search(r"check-?list", target, re.IGNORECASE) else say.FIX_NO_FILE
        do = f"sluice runbook --checklist --output {target}"
        page.say(block.line_at(match.start(1)), Code.MISSING_FILE, say.NO_FILE, words, target=target, do=do)


def value_rules() -> Iterator[Callable[[Page, Block], None]]:
    """In the order they are asked."""
    yield from (settings, numbers, statuses, modes, addresses, environments, branches, variables, links)
