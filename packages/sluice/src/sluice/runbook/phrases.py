"""The sentences around the items: titles, labels, leads."""

from __future__ import annotations

from sluice.runbook.items import Kind
from sluice.runbook.words import Words

TITLE = Words("{service}: deploy runbook", "{service}: runbook деплоя")
CHECKLIST_TITLE = Words("{service}: pre-prod checklist", "{service}: pre-prod checklist")
MADE = Words(
    "Written by `sluice runbook` from the policy of `{ref}`. Change the policy, not this text; then write it again.",
    "Составлен командой `sluice runbook` из политики `{ref}`. Менять нужно политику, а не этот текст; потом составить "
    "заново.",
)
OF_RUN = Words(
    "Filled in from run `{run}`: {type} to `{env}` by {owner}, ended {ended} as {outcome}. A tick is a `pass` in the "
    "ledger; whatever was not run has none, and what failed is in bold. Criteria are those of today's policy.",
    "Заполнен по прогону `{run}`: {type} в `{env}`, ответственный: {owner}, закончен {ended}, итог {outcome}. "
    "Галочка — это `pass` в журнале; что не выполнялось, остаётся без галочки, а что не прошло, выделено. Критерии — "
    "по сегодняшней политике. Свидетельства приведены словами самой записи, а она ведётся по-английски.",
)

PRECONDITIONS = Words("Preconditions", "Предварительные условия (Preconditions)")
GIT = Words("Git hygiene", "Git-гигиена")
DEPLOY = Words("Deploy in {env}", "Деплой в {env}")
SMOKE = Words("Post-deploy smoke checklist", "Smoke-проверка после деплоя (Post-deploy smoke)")
SERVER = Words("The server", "Smoke: сервер")
END_TO_END = Words("End-to-end smoke", "End-to-end smoke")
SSO = Words("SSO-specific smoke", "SSO-specific smoke")
DOMAIN = Words("Domain checks", "Проверка домена (Domain checks)")
FOR_ENV = Words("For `{env}`:", "Для `{env}`:")
FOR_PROD = Words(
    "For `prod` (only after a separate confirmation):", "Для `prod` (только после отдельного подтверждения):"
)
QUICK = Words("Server smoke: quick check", "Smoke сервера: быстрая проверка")
ROLLBACK = Words("Rollback criteria", "Критерии отката (Rollback criteria)")
PROMOTION = Words("Promotion to prod", "Продвижение в prod (Promotion)")
ITEMS = Words("Pre-prod checklist", "Pre-prod checklist")
AUDIT = Words("Audit trail", "Аудит (Audit trail)")
SECURITY = Words("Security reminders", "Напоминания о безопасности (Security)")
EXIT_CODES = Words("Exit codes", "Коды выхода")

LOGS_OF_PROCESSES = Words("The logs are without critical errors.", "В логах нет критических ошибок.")
GATES_LEAD = Words("All gates at once, without changing anything:", "Все гейты сразу, ничего не меняя:")
WAIVE = Words(
    "A gate is passed over only by name and with a reason: `--waive GATE='REASON'`; recorded, and shown ever after. "
    "Never these: {gates_never_waive}.",
    "Через гейт можно перешагнуть только поимённо и с причиной: `--waive GATE='ПРИЧИНА'`; это записывается и потом "
    "показывается всегда. Никогда — через эти: {gates_never_waive}.",
)
GIT_LEAD = Words("Judged by the same command:", "Проверяется той же командой:")
DEPLOY_LEAD = Words(
    "On the server, by the scripts of `sluice shims install` or by Sluice itself; from a laptop over SSH:",
    "На сервере — штатными скриптами (`sluice shims install`) или самим Sluice; с ноутбука — через SSH:",
)
DEPLOY_PROD = Words(
    "Nothing is rolled out to `prod`: it takes only what was promoted.",
    "В `prod` ничего не выкатывают напрямую: туда попадает только то, что продвинуто.",
)
DEPLOY_STEPS = Words(
    "Sluice does it in this order, and undoes it where a step fails:",
    "Sluice выполняет по порядку, а при сбое шага возвращает всё назад:",
)
SMOKE_LEAD = Words(
    "Sluice asks all of this by itself, on the private address and again through the public URL; once more by hand:",
    "Всё это Sluice проверяет сам: сначала по внутреннему адресу, затем через публичный URL; ещё раз вручную:",
)
QUICK_LEAD = Words("Everything on this server at once:", "Всё на этом сервере сразу:")
ROLLBACK_LEAD = Words("Rollback is mandatory if:", "Rollback обязателен, если:")
ROLLBACK_FILLED = Words(
    "Rollback criteria; a tick: the threshold was kept, and no rollback is due:",
    "Критерии отката; галочка — порог не превышен, отката не требуется:",
)
ROLLBACK_HOW = Words(
    "During the watch Sluice rolls back by itself. Later by a command; then no rollout is taken until `sluice unlock`:",
    "Во время наблюдения Sluice откатывает сам. Позже — командой; после неё до `sluice unlock` новые rollout не "
    "принимаются:",
)
ALWAYS = Words("Without exception:", "Без исключений:")
REASON = Words("'REASON'", "'ПРИЧИНА'")
PROMOTION_LEAD = Words("Only when all conditions are met:", "Только при выполнении всех условий:")
PROMOTION_HOW = Words("In this order:", "По порядку:")
PROMOTION_ITEMS_LEAD = Words(
    "Items of the checklist: {count}; as a document of its own: `sluice runbook --checklist`.",
    "В checklist пунктов: {count}; отдельным документом: `sluice runbook --checklist`.",
)
SIGNERS = Words("May sign items of the checklist: {names}.", "Подписывать пункты checklist вправе: {names}.")
NOBODY = Words("nobody in [signers]", "никто ([signers] никого не называет)")
AUDIT_LEAD = Words("Recorded for every rollout/rollback:", "Для каждого rollout/rollback фиксируется:")
AUDIT_HOW = Words(
    "To read it, and to prove that nobody edited it:", "Прочитать и доказать, что никто ничего не правил:"
)
CHECKLIST_LEAD = Words(
    "Before `sluice promote --env prod`. A machine item is a command on the server; a human item is signed by name, "
    "over exactly the plan that `sluice plan --env prod` shows.",
    "Перед `sluice promote --env prod`. Машинный пункт — команда на сервере; человеческий подписывают поимённо под "
    "именно тем планом, который показывает `sluice plan --env prod`.",
)
MACHINE = Words("Machine items", "Машинные пункты")
HUMAN = Words("Human items", "Пункты для людей")
CONFIRM = Words("Approval", "Подтверждение")
NO_ITEMS = Words("The policy names none.", "Политика таких пунктов не называет.")
CODE = Words("`{code}`: {meaning}", "`{code}`: {meaning}")

COMMAND = Words("Command", "Команда")
CRITERION = Words("Criterion", "Критерий")
LIMIT = Words("Limit", "Порог")  # of a rollback criterion whose text says what holds
BY = Words("Checked by", "Проверяет")
EVIDENCE = Words("Evidence", "Свидетельство")

WHO: dict[Kind, Words] = {
    Kind.GATE: Words("gate `{id}`", "гейт `{id}`"),
    Kind.CHECK: Words("check `{id}`", "проверка `{id}`"),
    Kind.PLUGIN: Words("plug-in's check `{id}`", "проверка плагина `{id}`"),
    Kind.HOST: Words("`sluice quick-check`, `{id}`", "`sluice quick-check`, `{id}`"),
    Kind.CRITERION: Words("criterion `{id}`", "критерий `{id}`"),
    Kind.RULE: Words("Sluice, by the policy of `{ref}`", "Sluice, по политике `{ref}`"),
}
BY_MACHINE = Words("a command on the server, `{id}`", "команда на сервере, `{id}`")
MACHINE_DONE = Words("the command ends with code 0", "команда завершилась с кодом 0")
HUMAN_DONE = Words(
    "a signature by somebody who may, under exactly this plan; may sign: {names}",
    "подпись того, кто вправе, под именно этим планом; вправе подписать: {names}",
)
BY_PERSON = Words("a person's signature, `{id}`", "подпись человека, `{id}`")
NO_WINDOWS = Words(
    "no windows are set ({rules}): not checked beyond what an operator froze (`sluice freeze`)",
    "окна не заданы ({rules}): не проверяется ничего, кроме заморозки оператором (`sluice freeze`)",
)
NO_RULE = Words("not checked: no rule is set ({rules})", "не проверяется: правило не задано ({rules})")
NOT_REQUIRED = Words("not required by the policy", "политикой не обязательно")
_NO_CANARY = Words("not measured: the service has no [smoke] canary", "не измеряется: у сервиса нет [smoke] canary")
NO_SOURCE: dict[str, Words] = {
    "ws-disconnects": _NO_CANARY,
    "messages": _NO_CANARY,
    "call-setup": Words("not measured: the service has no [smoke] calls", "не измеряется: у сервиса нет [smoke] calls"),
    "auth": Words(
        "not measured: the service has no [smoke] refusals, and [watch] names no metrics",
        "не измеряется: у сервиса нет [smoke] refusals, а [watch] не называет метрик",
    ),
}
NO_CONTAINERS = Words("not checked: runtime `process`", "не проверяется: runtime `process`")
NO_WEBSOCKET = Words(
    "not checked: the policy names no WebSocket ([checks] websocket_path)",
    "не проверяется: политика не называет WebSocket ([checks] websocket_path)",
)
NO_TLS = Words("not applicable: the public URL is without TLS", "не применимо: публичный URL без TLS")
NO_NAME = Words(
    "not applicable: the public URL has an address, no name", "не применимо: в публичном URL адрес, а не имя"
)
NO_PLAIN_PORT = Words(
    "not applicable: the public URL names a port, and host.toml no `redirect_http`",
    "не применимо: в публичном URL указан порт, а `redirect_http` в host.toml не задан",
)
DRY = Words("dry run: recorded, no veto", "без права вето: только записывается")

# Before the text of a step; what was not run has neither tick nor mark.
FAILED = Words("**FAILED:** ", "**НЕ ПРОЙДЕНО:** ")
BROKEN = Words("**BROKEN:** ", "**НАРУШЕН:** ")
UNCLEAR = Words("**NOT PROVEN:** ", "**НЕ ДОКАЗАНО:** ")

NOT_RUN = Words("not run in this run", "в этом прогоне не выполнялось")
NOT_RECORDED = Words("the ledger does not say", "журнал об этом не говорит")
EMPTY = Words("empty", "пусто")
NO_PART = Words("no part of a {type}", "не относится к {type}")
ALL_PASSED = Words("passed: the run ended as done", "пройден: прогон завершён успешно")
PASSED_BY = Words("passed: the run went on to later steps", "пройден: прогон дошёл до следующих шагов")
THIS_RECORD = Words("this record is in the ledger, ended {ended}", "эта запись и есть в журнале, закончена {ended}")
