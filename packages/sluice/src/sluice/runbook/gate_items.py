"""The gates in words."""

from __future__ import annotations

from sluice.runbook.items import Item, Kind, Part
from sluice.runbook.words import Words

BEFORE = (Part.PRECONDITIONS, Part.GIT, Part.DEPLOY, Part.OTHER)


def _gate(
    id_: str, text: Words, criterion: Words, said: str, *, rules: str = "", git: bool = False, command: str = ""
) -> Item:
    parts = (Part.GIT, *(part for part in BEFORE if part is not Part.GIT)) if git else BEFORE
    return Item(Kind.GATE, id_, text, criterion, said, parts, command, rules)


GATE_ITEMS: dict[str, Item] = {
    one.id: one
    for one in (
        _gate(
            "branch-policy",
            Words("The change is in a feature branch: `{branch}`.", "Изменения находятся в feature-ветке: `{branch}`."),
            Words(
                "the branch's name matches {gates_branch}; {ref} itself may go to `test` again",
                "имя ветки подходит под {gates_branch}; сама {ref} тоже может пройти `test` ещё раз",
            ),
            r"feature[- ]?(ветк|branch)|имя ветки|branch'?s? name",
            command="git branch --show-current",
        ),
        _gate(
            "checks-passed",
            Words(
                "The local checks passed for this very commit (lint, test, build).",
                "Локально пройдены базовые проверки именно этого коммита (lint, test, build).",
            ),
            Words(
                "{gates_checks_proof}; proof of: {checks}",
                "{gates_checks_proof}; доказательство для: {checks}",
            ),
            r"локальн\w* .*(проверк|тест)|local\w* .*check|базов\w* проверк|lint/test|unit[- ]tests?|юнит-тест"
            r"|(tests?|lint|build)\b.*passed|тест\w* .*(пройден|зелён)",
            rules="[gates] checks",
            command="sluice check --record --push",
        ),
        _gate(
            "no-secrets",
            Words("There are no secrets in the git diff.", "Нет секретов в git diff."),
            Words(
                "no added line of any commit of `{ref}..BRANCH` holds a secret, also one that a later commit took away",
                "ни одна добавленная строка ни одного коммита `{ref}..ВЕТКА` не содержит секрета, даже если его потом "
                "убрали",
            ),
            r"секрет\w* в (git|diff|репозит|коммит)|secrets? in (the )?(git|diff|repo|commit)"
            r"|credentials (в репозит|in the repo)",
        ),
        _gate(
            "server-env",
            Words(
                "The environment variables are prepared on the server, outside git: {required_env}.",
                "Подготовлены переменные окружения на сервере, вне git: {required_env}.",
            ),
            Words(
                "the env file is 0600 and outside git, and every name has a real value, no placeholder; values are "
                "never shown",
                "env-файл с правами 0600 лежит вне git, у каждого имени настоящее значение, а не заглушка; значения "
                "нигде не показываются",
            ),
            r"переменн\w* окружени|environment variables|env[- ]?(файл|file)|серверн\w* env|server'?s? env",
        ),
        _gate(
            "host-isolation",
            Words(
                "The release shares nothing with another environment of the host.",
                "Релиз не делит ничего с другим окружением этого сервера.",
            ),
            Words(
                "no common project, port, volume, network, env file or database",
                "нет общих проекта, порта, тома, сети, env-файла и базы данных",
            ),
            r"shares? nothing|не дел[ия]т|изоляци|isolat",
        ),
        _gate(
            "disk-space",
            Words("There is room on the disk for a release.", "На диске хватает места для релиза."),
            Words(
                "{min_free_mb} MB are free (`min_free_mb` in host.toml), and there is room for 20000 files",
                "свободно не меньше {min_free_mb} МБ (`min_free_mb` в host.toml) и есть место для 20000 файлов",
            ),
            r"room on the disk|disk space|мест\w* на диске|на диске .*мест|свободн\w* мест",
        ),
        _gate(
            "bad-release",
            Words(
                "This tree did not fail here before with the same settings.",
                "Это дерево с теми же настройками ещё не падало в этом окружении.",
            ),
            Words(
                "no run in the ledger blames it; after a repair: `--override 'REASON'`, recorded",
                "ни один прогон в журнале не признал его плохим; после починки: `--override 'ПРИЧИНА'`, с записью",
            ),
            r"did not fail .*before|failed before|known[- ]bad|не падал|плох\w* релиз",
        ),
        _gate(
            "way-back",
            Words(
                "What serves now could be started again: there is a way back.",
                "То, что работает сейчас, можно запустить снова: путь назад есть.",
            ),
            Words(
                "every variable that the old release needs is still in the env file",
                "каждая переменная, нужная старому релизу, всё ещё есть в env-файле",
            ),
            r"way back|started again|путь назад|запустить снова",
        ),
        _gate(
            "freeze",
            Words("No freeze window is open.", "Сейчас нет окна заморозки."),
            Words(
                "windows: {windows}; by the host's clock; deny wins over allow; named people are exempt",
                "окна: {windows}; по часам сервера; запрет важнее разрешения; исключения поимённо",
            ),
            r"freeze|заморозк|запрет на релиз",
            rules="[[gates.freeze]]",
        ),
        _gate(
            "contains-main",
            Words("The branch is up to date with `{ref}`.", "Рабочая ветка актуальна с `{ref}`."),
            Words("it contains the present tip of {ref}", "она содержит нынешнюю вершину {ref}"),
            r"up[- ]to[- ]date with|актуальн\w* с\b|rebased on",
            git=True,
            command="git fetch && git rebase origin/{ref}",
        ),
        _gate(
            "pr-summary",
            Words(
                "A PR is open, with a short change summary.",
                "PR открыт и содержит краткое описание изменений (change summary).",
            ),
            Words(
                "looked for in {sources}; {gates_summary_letters} at least",
                "ищется в {sources}; не короче {gates_summary_letters}",
            ),
            r"\bPR\b|pull request|merge request|change summary|описани\w* изменени",
            rules="[gates] summary",
            git=True,
        ),
        _gate(
            "docs-changed",
            Words(
                "The docs that tell of the change are updated in the same repository.",
                "Релевантные docs обновлены в этом же репозитории.",
            ),
            Words(
                "where code changed, something of its documentation changed too: {docs_rules}",
                "если изменился код, изменилась и его документация: {docs_rules}",
            ),
            r"\bdocs\b.*(обновл|updated|change)|документаци\w* .*обновл|documentation .*(updated|change)",
            rules="[[gates.docs]]",
            git=True,
        ),
    )
}
