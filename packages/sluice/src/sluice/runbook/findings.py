"""What the lint says, in both languages: a sentence of what is wrong, and what to do about it."""

from __future__ import annotations

from sluice.runbook.items import Item, Kind, Part
from sluice.runbook.standing import CONTAINERS, Standing
from sluice.runbook.words import Words

AS_IT_IS = Words("{do}", "{do}")  # a command to type

# ---------------------------------------------------------------- what is asked for

NAMED: dict[Kind, Words] = {
    Kind.GATE: Words("gate", "гейт"),
    Kind.CHECK: Words("check", "проверка"),
    Kind.PLUGIN: Words("plug-in's check", "проверка плагина"),
    Kind.CRITERION: Words("criterion", "критерий"),
    Kind.RULE: Words("rule", "правило"),
    Kind.FIELD: Words("field of the ledger", "поле журнала"),
}
UNCHECKED = Words(
    "The prose demands what {kind} `{id}` would judge, and {why}.",
    "Текст требует того, о чём судит {kind} `{id}`, а {why}.",
)
UNCHECKED_HERE = Words(
    "The prose demands what {kind} `{id}` would judge; here it is {why}.",
    "Текст требует того, о чём судит {kind} `{id}`; здесь это {why}.",
)
WHY: dict[Standing, Words] = {
    Standing.OFF: Words("the policy does not look at it", "политика на это не смотрит"),
    Standing.OPTIONAL: Words(
        "the policy does not require it: a release whose plug-in is silent would pass",
        "политика этого не требует: релиз, плагин которого промолчал, пройдёт",
    ),
    Standing.DRY: Words(
        "it is a dry run in the policy: recorded, without a veto",
        "в политике это dry run: записывается, но без права вето",
    ),
}
FIX: dict[Kind, Words] = {
    Kind.PLUGIN: Words(
        "add {id!r} to [watch] required_checks in the policy, or take the line out",
        "добавьте {id!r} в [watch] required_checks политики или уберите строку",
    ),
    Kind.CRITERION: Words(
        "add {id!r} to [watch] required_criteria in the policy, or say that it is not required",
        "добавьте {id!r} в [watch] required_criteria политики или напишите, что это не обязательно",
    ),
    Kind.GATE: Words(
        "set {rules} in the policy, or say that it is not checked",
        "задайте {rules} в политике или напишите, что это не проверяется",
    ),
    Kind.RULE: Words(
        "set it in [promotion] of the policy, or take the line out",
        "задайте это в [promotion] политики или уберите строку",
    ),
}
FIX_DRY = Words(
    "take {id!r} out of [watch] dry_run, or say that it has no veto",
    "уберите {id!r} из [watch] dry_run или напишите, что это без права вето",
)
FIX_WEBSOCKET = Words(
    "set websocket_path in [checks] of the policy, or take the line out",
    "задайте websocket_path в [checks] политики или уберите строку",
)
FIX_CONTAINERS = Words(
    'set runtime = "compose" for this environment in host.toml, or say that it is not checked',
    'задайте для этого окружения runtime = "compose" в host.toml или напишите, что это не проверяется',
)
FIX_DOMAIN = Words(
    "give this environment a public_url with https:// and a name in host.toml, or say that it is not applicable",
    "дайте этому окружению в host.toml public_url с https:// и именем или напишите, что это не применимо",
)
CHECKED = Words(
    "The prose says that `{id}` is not checked, and the policy does check it.",
    "В тексте сказано, что `{id}` не проверяется, а политика это проверяет.",
)
FIX_CHECKED = Words(
    "say what it demands, or write the runbook anew",
    "напишите, чего она требует, или составьте runbook заново",
)
NO_DUTY = Words(
    "The prose says that a rollback is not mandatory here; the policy rolls back by {ids}.",
    "В тексте сказано, что откат здесь не обязателен, а политика откатывает: {ids}.",
)
FIX_NO_DUTY = Words(
    "say that it is mandatory, or make the criteria a dry run in the policy ([watch] dry_run)",
    "напишите, что он обязателен, или сделайте критерии dry run в политике ([watch] dry_run)",
)
UNMENTIONED = Words(
    "The policy enforces the {kind} `{id}` ({text}); the prose never says so.",
    "Политика требует: {kind} `{id}` ({text}); в тексте об этом ничего нет.",
)
FIX_UNMENTIONED = Words(
    "add a line about it, or write the runbook anew", "добавьте об этом строку или составьте runbook заново"
)
# An entry of a closed list that is none.
NO_ENTRY: dict[Part, tuple[Words, Words]] = {
    Part.ROLLBACK: (
        Words(
            "No criterion of the watch judges this: {said}.", "Об этом не судит ни один критерий наблюдения: {said}."
        ),
        Words(
            "take it out, or measure it: a counter in `auth` of [watch], or a check of the plug-in in required_checks",
            "уберите или измеряйте: счётчиком в `auth` из [watch] или проверкой плагина в required_checks",
        ),
    ),
    Part.PROMOTION: (
        Words("No rule of the promotion judges this: {said}.", "Об этом не судит ни одно правило продвижения: {said}."),
        Words(
            "make it an item of [[promotion.checklist]] in the policy, or take it out",
            "сделайте это пунктом [[promotion.checklist]] политики или уберите",
        ),
    ),
    Part.AUDIT: (
        Words("The ledger has no such field: {said}.", "В журнале нет такого поля: {said}."),
        Words(
            "take it out; docs/reference/ledger.md lists the fields there are",
            "уберите; поля, которые есть, перечислены в docs/reference/ledger.md",
        ),
    ),
}
NOBODY = Words(
    "The prose counts on an approval; [signers] names {people} of the {needed} people it takes.",
    "Текст рассчитывает на подтверждение; [signers] называет людей: {people}, а нужно: {needed}.",
)
FIX_NOBODY = Words(
    'add [signers.NAME] with may = ["approve"] to the policy',
    'добавьте в политику [signers.NAME] с may = ["approve"]',
)

# ---------------------------------------------------------------- what is written literally

NO_SETTING = Words("sluice.toml has no `{key}` in [{table}].", "В sluice.toml нет `{key}` в [{table}].")
DIFFERS = Words(
    "The prose has {said} for {what}; the policy has {now}.", "В тексте {said} для {what}; в политике {now}."
)
FIX_DIFFERS = Words("write {now}, or change the policy", "напишите {now} или измените политику")
OR = Words(" or ", " или ")
OF_CHECK = Words("the check `{id}`", "проверки `{id}`")
OF_BRANCH = Words("the branch's name", "имени ветки")
NO_COUNTER = Words(
    "The prose limits the counter `{metric}`; the policy does not.",
    "Текст ограничивает счётчик `{metric}`, а политика — нет.",
)
FIX_NO_COUNTER = Words(
    "add it to `auth` of [watch] in the policy, or take it out", "добавьте его в `auth` из [watch] политики или уберите"
)
NO_HOST = Words("host.toml names no {host!r}: {told}.", "В host.toml нет {host!r}: {told}.")
ONE_HOST = Words("{what} is {host}", "{what} — {host}")
OF_ENVIRONMENTS = Words("{key} of {names}", "{key} в {names}")
AND = Words(" and ", " и ")
FIX_NO_HOST = Words("use one of these, or correct host.toml", "возьмите один из этих или исправьте host.toml")
NO_PATH = Words("No check of the policy asks {path}.", "Ни одна проверка политики не спрашивает {path}.")
FIX_NO_PATH = Words(
    "let the plug-in check it and name that check in [watch] required_checks, or take it out",
    "пусть это проверяет плагин, а проверка названа в [watch] required_checks; или уберите",
)
NO_ENVIRONMENT = Words("Sluice has no environment {name!r}.", "В Sluice нет окружения {name!r}.")
NO_ENVIRONMENT_HERE = Words("This host has no environment {name!r}.", "На этом сервере нет окружения {name!r}.")
FIX_NO_ENVIRONMENT = Words("use {known}", "возьмите {known}")
NO_VARIABLE = Words(
    "The prose asks for the variable {name}; the policy does not.",
    "Текст требует переменную {name}, а политика — нет.",
)
FIX_NO_VARIABLE = Words(
    "add it to required_env of [gates], or take it out", "добавьте её в required_env из [gates] или уберите"
)
NO_FILE = Words("There is no file {target}.", "Нет файла {target}.")
FIX_NO_FILE = Words("correct the link, or add the file", "исправьте ссылку или добавьте файл")

# ---------------------------------------------------------------- commands

NO_NPM = Words("package.json has no script {name!r}.", "В package.json нет скрипта {name!r}.")
FIX_NO_NPM = Words("use one of: {known}", "возьмите один из: {known}")
NO_GLOBAL = Words("sluice has no option {name}.", "У sluice нет параметра {name}.")
NO_COMMAND = Words("There is no `sluice {name}`.", "Нет команды `sluice {name}`.")
NO_SCRIPT = Words("`sluice shims` writes no script {name!r}.", "`sluice shims` не создаёт скрипта {name!r}.")
NO_VERB = Words("{script} has no command {name!r}.", "У {script} нет команды {name!r}.")
FIXED = Words("{script} is for {fixed} only, not for {name!r}.", "{script} — только для {fixed}, не для {name!r}.")
NO_OPTION = Words("`{command}` has no option {name}.", "У `{command}` нет параметра {name}.")
NEAR = Words("did you mean {near}?", "возможно, {near}?")
KNOWN = Words("known: {known}", "есть: {known}")
NEVER_TO_PROD = Words(
    "Sluice refuses to roll anything out to prod: only a promotion reaches it.",
    "Sluice отказывается выкатывать что-либо прямо в prod: туда ведёт только продвижение.",
)

# ---------------------------------------------------------------- the document

STALE = Words(
    "This was written from the policy {then}; the policy now is {now}.",
    "Составлено по политике {then}; сейчас политика {now}.",
)
TOO_LONG = Words(
    "This is longer than {limit} letters; the rest of it was not read.",
    "Здесь больше {limit} знаков; дальше не прочитано.",
)
FIX_TOO_LONG = Words("make it several paragraphs", "разбейте на несколько абзацев")
NOT_UNDERSTOOD = Words("No rule understands: {shown}", "Ни одно правило не понимает: {shown}")
FIX_NOT_UNDERSTOOD = Words("compare it with the policy yourself", "сравните с политикой сами")
AGREES = Words("agrees with the policy", "расхождений с политикой нет")
DISAGREES = Words("disagreements with the policy: {count}", "расхождений с политикой: {count}")
UNREAD = Words("lines that no rule understands: {count}", "строк, которых не понимает ни одно правило: {count}")


def fix_of(item: Item) -> Words:
    """What makes the policy look at an item it does not look at."""
    if item.kind is not Kind.CHECK:
        return FIX[item.kind]
    if item.id in CONTAINERS:
        return FIX_CONTAINERS
    return FIX_WEBSOCKET if item.id == "websocket" else FIX_DOMAIN
