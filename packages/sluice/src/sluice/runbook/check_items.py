"""The checks of a smoke and of the server in words."""

from __future__ import annotations

from sluice.runbook.items import Item, Kind, Part
from sluice.runbook.words import Words

SMOKE = (Part.SMOKE,)


def _check(id_: str, text: Words, criterion: Words, said: str, command: str = "") -> Item:
    return Item(Kind.CHECK, id_, text, criterion, said, SMOKE, command)


def _plugin(id_: str, text: Words, criterion: Words, said: str) -> Item:
    return Item(Kind.PLUGIN, id_, text, criterion, said, SMOKE)


# In the order of a runbook: containers first, then what they say, then what users see.
CHECK_ITEMS: dict[str, Item] = {
    one.id: one
    for one in (
        _check(
            "containers-up",
            Words("The containers are `Up`.", "Контейнеры в состоянии `Up`."),
            Words(
                "each runs, is healthy or has no healthcheck, and its restarts do not grow",
                "каждый работает, здоров или без healthcheck, число перезапусков не растёт",
            ),
            r"контейнер\w* .*\bup\b|containers? .*\bup\b",
            "docker compose ps",
        ),
        _check(
            "compose-complete",
            Words("`docker compose ps` without degraded services.", "`docker compose ps` без деградации сервисов."),
            Words(
                "every expected service is there and nothing else; none restarted within a minute; none differs from "
                "what was started",
                "есть все ожидаемые сервисы и ничего лишнего; за минуту никто не перезапускался; всё так, как было "
                "запущено",
            ),
            r"docker compose ps|деградаци\w* сервис|degraded services",
            "docker compose ps --all",
        ),
        _check(
            "logs",
            Words(
                "`docker compose logs --tail={lines} <service>` without critical errors.",
                "`docker compose logs --tail={lines} <service>` без критических ошибок.",
            ),
            Words(
                "no critical error in the newest lines of any service; {checks_log_lines}",
                "в последних строках ни одного сервиса нет критических ошибок; {checks_log_lines}",
            ),
            r"compose logs|критическ\w* ошиб\w+|critical errors?",
            "docker compose logs --tail={lines} SERVICE",
        ),
        _check(
            "http-health",
            Words("The HTTP health endpoint answers 200.", "HTTP health endpoint отвечает 200."),
            Words("GET and HEAD of `{health}` answer 200", "GET и HEAD `{health}` отвечают 200"),
            r"health(?!y|check)",
            "curl -I {url}{health} && curl {url}{health}",
        ),
        _check(
            "served-release",
            Words(
                "What answers is this very release.",
                "Отвечает именно этот релиз.",
            ),
            Words(
                "commit and tree, read back through the public URL, are those that were rolled out",
                "commit и tree, прочитанные обратно через публичный URL, те самые, что выкачены",
            ),
            r"(this|very) release|read back|именно эт\w+ релиз",
            "curl {url}{version}",
        ),
        _check(
            "websocket",
            Words("The WS handshake succeeds.", "WS handshake успешен."),
            Words(
                "the handshake at `{websocket}` answers {ws_status}; a switch of protocols must prove the key",
                "рукопожатие на `{websocket}` отвечает {ws_status}; смена протокола должна доказать ключ",
            ),
            r"\b(WS|WebSocket)\b|handshake",
        ),
        _check(
            "domain-dns",
            Words("The public URL's name resolves (DNS).", "Имя публичного URL разрешается (DNS)."),
            Words(
                "at least one address; a broken resolver is no verdict",
                "есть хотя бы один адрес; сломанный резолвер — не вердикт",
            ),
            r"\bDNS\b|curl .*https://",
        ),
        _check(
            "domain-tls",
            Words("The certificate (TLS) verifies.", "Сертификат (TLS) проходит проверку."),
            Words(
                "the chain is good for this host, and long enough: {checks_certificate_days}",
                "цепочка верна для этого хоста и действует достаточно долго: {checks_certificate_days}",
            ),
            r"\bTLS\b|сертификат|certificate|curl .*https://",
            "curl -I {url}{health}",
        ),
        _check(
            "domain-redirect",
            Words("Plain HTTP redirects to https.", "Обычный HTTP даёт redirect на https."),
            Words(
                "301, 302, 307 or 308 to the same host by https",
                "301, 302, 307 или 308 на тот же хост по https",
            ),
            r"plain HTTP|обычн\w+ HTTP|redirect\w* (на|to) https",
        ),
    )
}

# What the project's own plug-in reports; another service's checks are told by their names alone.
PLUGIN_ITEMS: dict[str, Item] = {
    one.id: one
    for one in (
        _plugin("login", Words("login,", "login,"), Words("a session is given", "сессия выдана"), r"(?<![\w/])login\b"),
        _plugin(
            "rooms",
            Words("the room list is there,", "доступен список комнат,"),
            Words("the rooms of the signed-in user are told", "комнаты вошедшего пользователя видны"),
            r"room list|list of rooms|список комнат",
        ),
        _plugin(
            "room-join",
            Words("room join,", "room join (вход в комнату),"),
            Words("the snapshot of the room comes", "приходит снимок комнаты"),
            r"room join|join (a|the) room|вход\w* в (`|комнат)",
        ),
        _plugin(
            "presence",
            Words("presence in the room,", "presence: кто в комнате,"),
            Words("each sees the other", "оба видят друг друга"),
            r"\bpresence\b",
        ),
        _plugin(
            "message",
            Words("text message send/receive,", "text message send/receive (отправка и приём),"),
            Words(
                "stored, and heard on both sockets in realtime",
                "сохранено и пришло на оба сокета в realtime",
            ),
            r"text message|message send|сообщени\w* (видн|доставл|отправ|прин)|messages? (is|are) (seen|visible)",
        ),
        _plugin(
            "message-retry",
            Words(
                "a message sent again is stored once (retry),",
                "повторно отправленное сообщение (retry) сохраняется один раз,",
            ),
            Words("the same id gives the same message", "тот же id даёт то же сообщение"),
            r"\bretry\b|sent again|повторн\w* отправ",
        ),
        _plugin(
            "voice",
            Words("voice connect/disconnect.", "voice connect/disconnect."),
            Words(
                "two WebRTC peers hear each other; who leaves frees the seat",
                "два участника WebRTC слышат друг друга; ушедший освобождает место",
            ),
            r"\bvoice\b|голос",
        ),
        _plugin(
            "ws-ticket",
            Words("a WS ticket is given,", "выдаётся WS-ticket,"),
            Words("for one use", "на одно использование"),
            r"WS[- ]ticket",
        ),
        _plugin(
            "ws-handshake",
            Words("the socket opens with a ticket,", "сокет открывается по ticket,"),
            Words("the first frame is accepted", "первый кадр принят"),
            r"socket opens|сокет открывается",
        ),
        _plugin(
            "ticket-replay",
            Words("a used ticket is refused,", "использованный ticket отклоняется,"),
            Words("the socket is closed with the contract's code", "сокет закрыт с кодом из контракта"),
            r"used ticket|использованн\w+ ticket",
        ),
        _plugin(
            "sso-mode",
            Words("`GET /v1/auth/mode` tells `mode=sso`.", "`GET /v1/auth/mode` возвращает `mode=sso`."),
            Words("the mode is sso", "режим — sso"),
            r"\bmode=\w+|/auth/mode",
        ),
        _plugin(
            "sso-only",
            Words(
                "`POST /v1/auth/register` and `POST /v1/auth/login` answer `410 SsoOnly`.",
                "`POST /v1/auth/register` и `POST /v1/auth/login` возвращают `410 SsoOnly`.",
            ),
            Words("status 410, code `SsoOnly`", "статус 410, код `SsoOnly`"),
            r"SsoOnly|/auth/register|/auth/login",
        ),
        _plugin(
            "sso-redirect",
            Words(
                "`GET /v1/auth/sso/start?provider=google&returnUrl={url}/` redirects to `{sso}`.",
                "`GET /v1/auth/sso/start?provider=google&returnUrl={url}/` даёт redirect на `{sso}`.",
            ),
            Words(
                "the host is the one the operator named in `expect_sso_host`",
                "хост — тот, что оператор назвал в `expect_sso_host`",
            ),
            r"/sso/start",
        ),
        _plugin(
            "sso-session",
            Words(
                "After the SSO login, `Complete SSO Session` makes a local JWT session.",
                "После SSO login `Complete SSO Session` создаёт локальную JWT-сессию.",
            ),
            Words("the SSO's session becomes the service's", "сессия SSO становится сессией сервиса"),
            r"SSO session|SSO[- ]сесси",
        ),
    )
}

HOST_ITEMS: dict[str, Item] = {
    id_: Item(Kind.HOST, id_, text, criterion, said, SMOKE, wanted=False)
    for id_, text, criterion, said in (
        (
            "serving",
            Words(
                "What is remembered as serving runs.", "То, что записано как работающий релиз, действительно работает."
            ),
            Words("commit, tree, branch and slot are shown", "показаны commit, tree, ветка и слот"),
            "",
        ),
        (
            "runs",
            Words("No run was left half-way.", "Ни один прогон не брошен на полпути."),
            Words(
                "there is an unfinished run only if it is under way now",
                "незавершённый прогон есть, только если он идёт прямо сейчас",
            ),
            "",
        ),
        (
            "ledger",
            Words("The chain of the audit trail holds.", "Цепочка журнала аудита цела."),
            Words("every hash and every signature is right", "верны каждый хеш и каждая подпись"),
            "",
        ),
        (
            "ingress",
            Words("The ingress is as Sluice wrote it.", "Ingress такой, каким его записал Sluice."),
            Words("nobody edited it by hand", "никто не правил его руками"),
            "",
        ),
        (
            "disk",
            Words("The disks have room.", "На дисках есть место."),
            Words(
                "{min_free_mb} MB are free on each (`min_free_mb` in host.toml)",
                "на каждом свободно не меньше {min_free_mb} МБ (`min_free_mb` в host.toml)",
            ),
            "",
        ),
        (
            "clock",
            Words("The clock is right.", "Часы идут верно."),
            Words("synchronised, and within 5 s", "синхронизированы, расхождение до 5 с"),
            "",
        ),
    )
}
