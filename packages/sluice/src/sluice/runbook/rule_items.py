"""Criteria of a rollback, rules of a promotion and reminders in words."""

from __future__ import annotations

from sluice.engine import State
from sluice.model.errors import ExitCode
from sluice.runbook.items import Item, Kind, Part
from sluice.runbook.words import Words


def _criterion(id_: str, text: Words, good: Words, criterion: Words, said: str) -> Item:
    return Item(Kind.CRITERION, id_, text, criterion, said, (Part.ROLLBACK,), good=good)


CRITERION_ITEMS: dict[str, Item] = {
    one.id: one
    for one in (
        _criterion(
            "health",
            Words("the health endpoint is unstable,", "health endpoint нестабилен,"),
            Words("the health endpoint is stable,", "health endpoint стабилен,"),
            Words(
                "bad answers: {watch_health_failures} of the last {watch_health_window}",
                "плохих ответов: {watch_health_failures} из последних {watch_health_window}",
            ),
            r"health",
        ),
        _criterion(
            "ws-disconnects",
            Words("mass WS disconnects,", "массовые WS disconnect,"),
            Words("no mass WS disconnects,", "нет массовых WS disconnect,"),
            Words(
                "more than {share} of the canary's sockets cut without notice: {watch_cut_share}",
                "оборвано без предупреждения больше {share} сокетов канарейки: {watch_cut_share}",
            ),
            r"disconnect|обрыв|разрыв",
        ),
        _criterion(
            "call-setup",
            Words("call setup is degraded,", "деградация call setup,"),
            Words("call setup is as it should be,", "call setup без деградации,"),
            Words(
                "failed calls: {watch_call_failures} of {watch_call_window}; or slower than {watch_call_setup_ms}, or "
                "than the old slot times {watch_call_slower}",
                "неудачных звонков: {watch_call_failures} из {watch_call_window}; или дольше {watch_call_setup_ms}, "
                "или дольше старого слота во столько раз: {watch_call_slower}",
            ),
            r"call[- ]setup|установк\w* звонк|звонк",
        ),
        _criterion(
            "auth",
            Words("critical authz/authn errors,", "критичные ошибки authz/authn,"),
            Words("no critical authz/authn errors,", "нет критичных ошибок authz/authn,"),
            Words(
                "something forbidden was let in: {watch_refusal_failures} of {watch_refusal_window}; or a counter "
                "grows faster than its limit: {counters}",
                "пропущено запрещённое: {watch_refusal_failures} из {watch_refusal_window}; или счётчик растёт "
                "быстрее своего предела: {counters}",
            ),
            r"auth[zn]|авторизац|аутентификац|authenticat|authori[sz]ation",
        ),
        _criterion(
            "messages",
            Words(
                "message loss or duplication over the threshold.",
                "потеря/дублирование сообщений выше допустимого порога.",
            ),
            Words(
                "message loss and duplication within the threshold.",
                "потеря/дублирование сообщений в пределах допустимого порога.",
            ),
            Words(
                "lost: more than {watch_lost_messages}; doubled: more than {watch_duplicated_messages}; out of order: "
                "any",
                "потеряно: больше {watch_lost_messages}; задвоено: больше {watch_duplicated_messages}; не по порядку: "
                "любое",
            ),
            r"(потер|дубл)\w*.*сообщени|сообщени\w* .*(потер|дубл)|message.* (loss|lost|duplicat)"
            r"|(lost|duplicat)\w* message",
        ),
    )
}


def _rule(id_: str, text: Words, criterion: Words, said: str, command: str = "", *, wanted: bool = True) -> Item:
    return Item(Kind.RULE, id_, text, criterion, said, (Part.PROMOTION, Part.OTHER), command, wanted=wanted)


PLAN = "sluice plan --env prod --service {service}"
APPROVE = "sluice approve --env prod --service {service} --key KEY"
PROMOTE = "sluice promote --env prod --service {service}"

PROMOTION_ITEMS: dict[str, Item] = {
    one.id: one
    for one in (
        _rule(
            "proof",
            Words("the smoke test in `test` is successful,", "smoke test в `test` успешен,"),
            Words(
                "the newest attempt of this very tree; an older success does not count: {promotion_proof_ttl_s}",
                "последняя попытка именно этого дерева; более старый успех не в счёт: {promotion_proof_ttl_s}",
            ),
            r"smoke.*(успеш|passed|successful)|proven in .?test",
            PLAN,
        ),
        _rule(
            "merged",
            Words("the feature is merged into `{ref}`,", "feature merged в `{ref}`,"),
            Words(
                "the commit is the tip of `{ref}`; where a merge changed the tree, `{ref}` goes to `test` again",
                "коммит — вершина `{ref}`; если merge изменил дерево, `{ref}` ещё раз проходит `test`",
            ),
            r"\bmerged\b|влит|смержен",
            PLAN,
        ),
        _rule(
            "artifact",
            Words(
                "the very artifact that passed `test` is the one that runs,",
                "в prod идёт тот самый артефакт, который прошёл `test`,",
            ),
            Words("the same key and the same digests", "тот же ключ и те же digest"),
            r"very artifact|same artifact|тот (же|самый) артефакт",
            PLAN,
            wanted=False,
        ),
        _rule(
            "checklist",
            Words("the pre-prod checklist is done,", "пройден pre-prod checklist,"),
            Words(
                "each item: its command ended with 0, or a person's signature over exactly this plan",
                "каждый пункт: команда завершилась с 0 или подпись человека под именно этим планом",
            ),
            r"checklist|чек-?лист",
            "sluice sign-off --env prod --service {service} --item ITEM --key KEY",
        ),
        _rule(
            "approval",
            Words(
                "an explicit approval of the prod rollout is there,", "получено явное подтверждение на prod rollout,"
            ),
            Words(
                "signatures of different people over exactly this plan: {promotion_approvals}; each holds "
                "{promotion_approval_ttl_s}; may sign: {approvers}",
                "подписи разных людей под именно этим планом: {promotion_approvals}; срок каждой "
                "{promotion_approval_ttl_s}; вправе подписать: {approvers}",
            ),
            r"approval|подтвержд|одобрен",
            APPROVE,
        ),
        _rule(
            "approver-not-author",
            Words("whoever approves wrote none of its commits,", "подтверждает не автор изменений,"),
            Words(
                "by key and by name: {promotion_approver_not_author}",
                "по ключу и имени: {promotion_approver_not_author}",
            ),
            r"not .*author|wrote none|не автор",
            APPROVE,
        ),
        _rule(
            "refs",
            Words("meanwhile `{ref}` did not move.", "тем временем `{ref}` не сдвинулась."),
            Words("looked at again after the approvals", "проверяется ещё раз после подтверждений"),
            r"did not move|не сдвинул",
            PROMOTE,
            wanted=False,
        ),
        _rule(
            "never-from-a-branch",
            Words(
                "Never deploy `prod` directly from a feature branch.",
                "Никогда не деплоить `prod` напрямую из feature-ветки.",
            ),
            Words("refused as `FeatureBranch`, and recorded", "попытка получает отказ `FeatureBranch` и записывается"),
            r"never .*prod|никогда .*prod",
            PROMOTE,
        ),
    )
}

# How a rollback is done by hand; by which criteria Sluice does it itself is said above.
ROLLBACK_ITEMS: dict[str, Item] = {
    "release-script": Item(
        Kind.RULE,
        "release-script",
        Words(
            "Rollback only by the release script, recorded in the release log.",
            "Rollback выполняется только штатным release-script с записью в release log.",
        ),
        Words(
            "the old release serves and passed its smoke; the ledger has the decision `rollback`",
            "старый релиз работает и прошёл smoke; в журнале есть решение `rollback`",
        ),
        r"release[- ](script|log)|штатн\w* скрипт",
        (Part.ROLLBACK,),
        "sluice rollback --env {env} --service {service}",
    )
}

SECURITY_ITEMS: dict[str, Item] = {
    one.id: one
    for one in (
        Item(
            Kind.RULE,
            "redaction",
            Words("No secrets in the logs.", "Не выводить секреты в логи."),
            Words(
                "everything that Sluice prints and records is redacted by exact value and by its derived forms",
                "всё, что Sluice печатает и записывает, очищено от секретов: по точному значению и производным формам",
            ),
            r"secrets? .*\blogs?\b|секрет\w* .*лог",
            (Part.SECURITY,),
        ),
        Item(
            Kind.RULE,
            "turn-credentials",
            Words("No TURN credentials in the repository.", "Не хранить TURN credentials в репозитории."),
            Words("the gate `no-secrets` looks for them", "их ищет гейт `no-secrets`"),
            r"TURN",
            (Part.SECURITY,),
            "{check}",
        ),
        Item(
            Kind.RULE,
            "server-secrets",
            Words(
                "Keys and tokens only from a secret store or the server's env.",
                "Любые ключи/токены только через секрет-хранилище/серверные env.",
            ),
            Words(
                "the gate `server-env`; the env file is outside git and never shown",
                "гейт `server-env`; env-файл вне git и нигде не показывается",
            ),
            r"secret store|секрет-хранил|server'?s? env|серверн\w* env",
            (Part.SECURITY,),
            "{check}",
        ),
    )
}


STEP_WORDS: dict[State, Words] = {
    State.PLANNING: Words("plan: commit, policy, what serves now", "план: коммит, политика, что работает сейчас"),
    State.GATING: Words("gates", "гейты"),
    State.BUILDING: Words(
        "artifact: built once, reused after", "артефакт: собирается один раз, дальше берётся готовый"
    ),
    State.MIGRATING: Words("migrations, once per release", "миграции, один раз на релиз"),
    State.STARTING: Words(
        "start the new slot beside the old: three good answers in a row",
        "старт нового слота рядом со старым: три хороших ответа подряд",
    ),
    State.SMOKING_PRIVATE: Words(
        "smoke on the private address: users see nothing of it",
        "smoke по внутреннему адресу: пользователи его не видят",
    ),
    State.SWITCHING: Words("switch, and read back commit and tree", "переключение и чтение обратно: commit и tree"),
    State.SMOKING_PUBLIC: Words("smoke through the public URL", "smoke через публичный URL"),
    State.DRAINING: Words("drain: users move over, staggered", "drain: пользователи переходят постепенно"),
    State.WATCHING: Words(
        "watch, with the old slot as control group: {watch_duration_s}",
        "наблюдение, старый слот служит контролем: {watch_duration_s}",
    ),
    State.RETIRING: Words("stop the old slot", "остановка старого слота"),
    State.RECORDING: Words("record in the ledger", "запись в журнал"),
}

EXIT_WORDS: dict[ExitCode, Words] = {
    ExitCode.DONE: Words("done", "готово"),
    ExitCode.REFUSED: Words(
        "refused, or aborted before the switch: users saw nothing",
        "отказ или отмена до переключения: пользователи ничего не видели",
    ),
    ExitCode.USAGE: Words("usage or configuration", "ошибка в команде или настройке"),
    ExitCode.ROLLED_BACK: Words("rolled back; the old release serves", "откат выполнен; работает старый релиз"),
    ExitCode.DEGRADED: Words(
        "the old release serves, but does not pass its own smoke",
        "старый релиз работает, но не проходит собственный smoke",
    ),
    ExitCode.ROLLBACK_FAILED: Words("the rollback failed: a person is needed", "откат не удался: нужен человек"),
    ExitCode.LOCKED: Words(
        "another run, or a lock, holds the environment", "окружение занято другим прогоном или заперто"
    ),
    ExitCode.NONE_SERVING: Words(
        "the first rollout failed; nothing serves", "первый rollout не удался; ничего не работает"
    ),
    ExitCode.CONNECTION_LOST: Words(
        "the connection is lost; the run goes on there", "связь потеряна; прогон на сервере продолжается"
    ),
}
