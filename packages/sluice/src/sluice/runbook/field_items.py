"""Fields of the audit trail in words."""

from __future__ import annotations

from sluice.runbook.items import Item, Kind, Part
from sluice.runbook.words import Words


def _field(id_: str, text: Words, criterion: Words, said: str, *, wanted: bool = False) -> Item:
    return Item(Kind.FIELD, id_, text, criterion, said, (Part.AUDIT,), wanted=wanted)


TIME = Words("ISO 8601, UTC", "ISO 8601, UTC")

# The ledger's fields; the six of every runbook are wanted, and come first.
FIELD_ITEMS: dict[str, Item] = {
    one.id: one
    for one in (
        _field(
            "commit",
            Words("commit SHA", "commit SHA"),
            Words("all 40 digits of what was rolled out", "все 40 знаков того, что выкачено"),
            r"\bcommit\b|коммит",
            wanted=True,
        ),
        _field(
            "environment",
            Words("environment", "environment (окружение)"),
            Words("`{env}`", "`{env}`"),
            r"\benvironment\b|окружени|\bсреда\b",
            wanted=True,
        ),
        _field(
            "version",
            Words("service version/tag", "service version/tag (версия сервиса)"),
            Words("`git describe --tags --always` of the commit", "`git describe --tags --always` этого коммита"),
            r"\bversion\b|\btag\b|верси",
            wanted=True,
        ),
        _field(
            "smoke_result",
            Words("smoke result", "smoke result (итог smoke)"),
            Words(
                "the worst verdict of the public smoke, else of the private one",
                "худший вердикт публичного smoke, а без него — внутреннего",
            ),
            r"\bsmoke\b",
            wanted=True,
        ),
        _field(
            "decision",
            Words("decision (go/rollback)", "decision (go/rollback)"),
            Words("`go`, `rollback` or `refused`", "`go`, `rollback` или `refused`"),
            r"\bdecision\b|решени",
            wanted=True,
        ),
        _field(
            "owner",
            Words("owner", "owner (кто отвечает)"),
            Words("a name; `owner_source` says how it is known", "имя; откуда оно известно, сказано в `owner_source`"),
            r"\bowner\b|ответственн",
            wanted=True,
        ),
        _field(
            "tree",
            Words("tree", "tree (дерево)"),
            Words("that of the commit", "то, что у этого коммита"),
            r"\btree\b|дерев",
        ),
        _field(
            "artifact_digests",
            Words("digests of the artifact", "digest артефакта"),
            Words(
                "one for each part, in `prod` the same as in `test`", "по одному на часть, в `prod` те же, что в `test`"
            ),
            r"\bdigest|артефакт",
        ),
        _field(
            "migration_head",
            Words("head of the schema", "head схемы базы"),
            Words("what the service tells of its schema", "что сервис сообщил о своей схеме"),
            r"schema|схем|migration|миграци",
        ),
        _field(
            "plan",
            Words("hash of the plan", "хеш плана"),
            Words("in `prod` the one that was signed", "в `prod` тот, под которым подписались"),
            r"\bplan\b|план",
        ),
        _field(
            "waived",
            Words("waivers", "послабления (waivers)"),
            Words("every gate that was passed over, by name", "каждый гейт, через который перешагнули, поимённо"),
            r"waive|послаблен",
        ),
        _field(
            "approvals",
            Words("approvals and sign-offs", "подтверждения и подписи"),
            Words("of a promotion: who signed what", "у продвижения: кто что подписал"),
            r"approv|sign-off|подтвержд|подпис",
        ),
        _field(
            "reason",
            Words("reason", "причина"),
            Words("why it ended so, where it did not end as done", "почему так закончилось, если не завершено успешно"),
            r"\breason\b|причин",
        ),
        _field("started", Words("time of the beginning", "время начала"), TIME, r"\bbeg[ai]n|\bstart|начал"),
        _field(
            "ended",
            Words("time of the end", "время окончания"),
            TIME,
            r"\bend(ed)?\b|\btime\b|оконч|\bврем|\bдат",
        ),
        _field(
            "hash",
            Words("hash and signature", "хеш и подпись записи"),
            Words("`sluice log verify` finds no problem", "`sluice log verify` не находит нарушений"),
            r"\bhash\b|signature|хеш",
        ),
    )
}
