"""The rules of the lint, one line of prose each, Russian or English: what they find, and what they leave alone."""

from __future__ import annotations

import pytest

from sluice.runbook import Around, Code, lint
from sluice.runbook.prose import Shape, blocks_of
from sluice.runbook.shell import commands_in

from .conftest import HOST, ROOT, TEST, facts_of, found

# section, line -> the codes it must be given, without what the rest of the document lacks
WRONG = {
    ("Deploy", "- `./scripts/hotfix.sh --now`"): ["unknown-script"],
    ("Deploy", "- `release-command.sh deploy --env test`"): ["unknown-command"],
    ("Deploy", "- `ssh a@b 'cd x && ./scripts/release-command.sh rollout --env test --brnch f'`"): ["unknown-option"],
    ("Deploy", "- `sluice rolout --env test`"): ["unknown-command"],
    ("Deploy", "- `sluice log prove --env test`"): ["unknown-command"],
    ("Deploy", "- `sluice rollout --env test --branch feature/x --force`"): ["unknown-option"],
    ("Deploy", "- `sluice rollout --env staging --branch feature/x`"): ["unknown-environment"],
    ("Deploy", "- `sluice rollout --env=prod --branch main`"): ["refused-command"],
    ("Deploy", "- `gitops-deploy.sh --env prod --branch main`"): ["refused-command"],
    ("Deploy", "- `test-smoke.sh --env prod`"): ["unknown-environment"],
    ("Деплой", "- Выкатить в среду staging."): ["unknown-environment"],
    ("Deploy", "- Deploy to staging first."): ["unknown-environment"],
    ("Deploy", "- `npm run smoke:all`"): ["unknown-script"],
    ("Deploy", "- Follow [the steps](steps.md)."): ["missing-file"],
    ("Deploy", "- Пройди [чек-лист](PREPROD_CHECKLIST.md)."): ["missing-file"],
    ("Preconditions", "- Ветка называется `fix/<name>`."): ["differs"],
    ("Preconditions", "- The branch is `release/1`."): ["differs"],
    ("Preconditions", "- Заданы `REDIS_URL` и `BOLTOREZKA_JWT_SECRET`."): ["unchecked"],
    ("Smoke", "- `docker compose logs --tail=50 server` без критических ошибок"): ["differs"],
    ("Smoke", "- No critical errors in the last 300 lines"): ["differs"],
    ("Smoke", "- HTTP health endpoint отвечает 204"): ["differs"],
    ("Smoke", "- HTTP health endpoint отвечает 204."): ["differs"],
    ("Smoke", "- WS handshake отвечает 401"): ["differs"],
    ("Smoke", '- `GET /v1/auth/mode`: {"mode": "x"}, mode=password'): ["differs"],
    ("Smoke", "- `GET /v1/ping` отвечает"): ["unchecked"],
    ("Smoke", "- `curl https://test.boltorezka.gismalink.art/ready`"): ["unchecked"],
    ("Smoke", "- `curl https://chat.example.org/health`"): ["unknown-host"],
    ("Smoke", "- redirect на `sso.example.org`"): ["unknown-host"],
    ("Smoke", "- presence works"): ["unchecked"],
    ("Smoke", "- `POST /v1/auth/login` возвращает 404"): ["differs"],
    ("Smoke", "- `[checks] log_lines = 100`"): ["differs"],
    ("Smoke", "- `log_lines = 100`"): ["differs"],
    ("Smoke", "- `[checks] loglines = 100`"): ["unknown-setting"],
    ("Smoke", '- `[watch] required_criteria = ["health"]`'): ["differs"],
    ("Rollback", "Rollback обязателен, если:\n\n- CPU выше 90 %"): ["unchecked"],
    ("Rollback", "Rollback is mandatory if:\n\n- the dashboard looks odd"): ["unchecked"],
    ("Rollback", "- health fails 5 of 10 times"): ["differs", "differs"],
    ("Rollback", "- оборвано больше 50 % WS: массовый disconnect"): ["differs"],
    ("Rollback", "- authz: `boltorezka_odd_total` ≤ 5/s"): ["unchecked"],
    ("Rollback", "No rollback if:\n\n- health fails"): ["checked-all-the-same"],
    ("Promotion to prod", "- 3 подтверждения на prod rollout"): ["differs"],
    ("Promotion to prod", "- three explicit approvals"): ["differs"],
    ("Promotion to prod", "Только при выполнении всех условий:\n\n- QA подписал отчёт"): ["unchecked"],
    ("Audit", "Фиксировать:\n\n- номер тикета"): ["unchecked"],
    ("Git hygiene", "- The branch is up to date with `main` (not checked, see `contains-main`)"): [
        "checked-all-the-same"
    ],
}
RIGHT = {
    "Deploy": [
        "- `sluice log verify --env test --offline`",
        "- `sluice --host ssh://deploy@server --debug status --env test`",
        "- `SLUICE_STATE=/x sluice status --env test > status.txt`",
        "- `release-command.sh --help`, `./scripts/release-command.sh`",
        "- `sluice rollout --env <env> --branch <branch>`",
        "- `npm run smoke:sso`",
        "- `docker ps`, `git fetch --all --prune` and `make test`",
        "- Новый релиз в `test` и `prod`.",
        "- [Docs](../README.md), [section](#deploy), [mail](mailto:ops@example.org)",
    ],
    "Preconditions": [
        "- Ветка: `feature/<short-name>`, например `feature/voice-2`.",
        "- `SLUICE_HOST_CONFIG` задан, `BOLTOREZKA_METRICS_TOKEN` тоже.",
        "- The file `src/app.py` has a branch.",
    ],
    "Smoke": [
        "- `docker compose logs --tail=120 <service>` без критических ошибок за 200 строк текста",
        "- health отвечает 200 за 300 ms",
        "- `GET /v1/auth/mode` возвращает `mode=sso`",
        "- voice (не обязательно)",
        "- presence: not required",
        "- `curl -I https://boltorezka.gismalink.art/health`",
        "- redirect на `test.auth.gismalink.art`, see `notes.md` and `1.2.3.4`",
    ],
    "Rollback": [
        "Rollback обязателен, если:\n\n- health: 3 из 5\n  - по графику",
        "Звонили трижды:\n\n- деградация call setup",
    ],
    "Audit": ["Мы фиксируем:\n\n- commit\n- кто owner", "To read it:\n\n- ask around"],
}


def codes(section: str, line: str, policy) -> list[str]:
    """What this line is found to have, beside the rest of the document."""
    text = f"# Runbook\n\n## {section}\n\n{line}\n"
    missing = lambda path: path not in {"steps.md", "PREPROD_CHECKLIST.md", "./scripts/hotfix.sh"}  # noqa: E731
    return [code for at, code in found(text, policy, exists=missing) if code != "unmentioned" and at > 3]


@pytest.mark.parametrize(("section", "line"), list(WRONG))
def test_it_is_found(full, section: str, line: str) -> None:
    """Each thing that is not so is named, with its code, and nothing beside it."""
    assert codes(section, line, full) == WRONG[section, line]


@pytest.mark.parametrize(("section", "line"), [(section, line) for section, lines in RIGHT.items() for line in lines])
def test_it_is_left_alone(full, section: str, line: str) -> None:
    """What is so, or is nobody's business, is no finding."""
    assert codes(section, line, full) == []


def test_the_line_is_that_of_the_word(full) -> None:
    """In a paragraph of several lines each finding has its own."""
    text = "# R\n\n## Deploy\n\nFirst `sluice status --env test`,\nthen `sluice statsu`,\nat last `hotfix.sh`.\n"
    said = lint(text, facts_of(full), Around(lambda _path: False))
    assert [(one.line, one.code.value) for one in said if one.line > 4] == [
        (6, "unknown-command"),
        (7, "unknown-script"),
    ]


def test_what_no_rule_understands_is_said_and_fails_nothing(full) -> None:
    """Silence is no praise: such lines are shown at level info."""
    said = lint("# R\n\n## Smoke\n\n- The moon is full.\n\n```\nfrobnicate --all\n```\n", facts_of(full), Around())
    info = [(one.line, one.level.value) for one in said if one.code.value == "not-understood"]
    assert info == [(5, "info"), (8, "info")]


def test_a_paragraph_without_end_is_read_in_part_and_said_so(full) -> None:
    """Patterns that look for two words in one paragraph stay quick, whatever somebody pasted into it."""
    text = "## Rollback\n\n" + "потеря health ` " * 12_000
    said = lint(text, facts_of(full), Around())
    assert "longer than 4000 letters" in next(one.sentence for one in said if one.line == 3)


def test_an_empty_document_lacks_everything(full) -> None:
    """Every enforced thing is missing, each once, and nothing else is found."""
    said = lint("", facts_of(full), Around())
    assert {one.code.value for one in said} == {"unmentioned"}
    assert len({one.sentence for one in said}) == len(said) > 30


def test_without_npm_scripts_nothing_is_said_of_them(full) -> None:
    """Where there is no package.json nobody knows."""
    assert found("- `npm run odd`\n", full, npm=None)[-1:] != [(1, "unknown-script")]
    assert (1, "unknown-script") not in found("- `npm run odd`\n", full, npm=None)


def test_a_host_without_prod(full) -> None:
    """An environment that host.toml does not have is unknown, even if the model has it."""
    hosts = {TEST: HOST[TEST]}
    assert (1, "unknown-environment") in found("- `sluice smoke --env prod`\n", full, hosts=hosts)


def test_blocks_have_lines_sections_and_leads() -> None:
    """Headings nest, lists know what they stand under, quotes and boxes are read, code is read line by line."""
    text = (
        "# Test deploy (GitOps)\n\n## Post-deploy smoke\n\nIf:\n\n1. [x] one\n   goes on\n   - two\n\n"
        "### Domain\n\n> quoted\n\n```sh\nls\n\nls -l\n```\n\n## Other\n<!-- note -->\n| a | b |\n|---|---|\n"
    )
    blocks = [(one.shape, one.line, one.part.value, one.text) for one in blocks_of(text)]
    assert blocks == [
        (Shape.HEADING, 1, "other", "Test deploy (GitOps)"),
        (Shape.HEADING, 3, "smoke", "Post-deploy smoke"),
        (Shape.PARAGRAPH, 5, "smoke", "If:"),
        (Shape.ITEM, 7, "smoke", "one goes on"),
        (Shape.ITEM, 9, "smoke", "two"),
        (Shape.HEADING, 11, "smoke", "Domain"),
        (Shape.PARAGRAPH, 13, "smoke", "quoted"),
        (Shape.CODE, 16, "smoke", "ls"),
        (Shape.CODE, 18, "smoke", "ls -l"),
        (Shape.HEADING, 21, "other", "Other"),
        (Shape.COMMENT, 22, "other", "<!-- note -->"),
        (Shape.PARAGRAPH, 23, "other", "| a | b |"),
    ]
    one, two = [block for block in blocks_of(text) if block.shape is Shape.ITEM]
    assert one.lead is not None
    assert one.lead.text == "If:"
    assert two.parent is one


@pytest.mark.parametrize(
    ("code", "programs"),
    [
        ("sluice status --env test | less", [["sluice", "status", "--env", "test"], ["less"]]),
        ("A=1 B='2 3' make x", [["make", "x"]]),
        ("ssh <server> 'cd x && ls'", [["ssh", "‹server›", "cd x && ls"], ["cd", "x"], ["ls"]]),
        (
            "ssh host \"ssh other 'ls -l'\"",
            [["ssh", "host", "ssh other 'ls -l'"], ["ssh", "other", "ls -l"], ["ls", "-l"]],
        ),
        ("cat < in > out", [["cat"]]),
        ("it's open", []),
        ("$ ls", [["ls"]]),
    ],
)
def test_commands_as_people_write_them(code: str, programs: list[list[str]]) -> None:
    """Pipes, redirections, variables, placeholders, prompts, and what is handed to ssh."""
    assert commands_in(code) == programs


def test_the_reference_names_every_code() -> None:
    """docs/reference/runbook.md says what each finding means."""
    page = (ROOT / "docs" / "reference" / "runbook.md").read_text()
    assert [code.value for code in Code if f"`{code.value}`" not in page] == []
