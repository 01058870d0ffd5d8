"""What is critical in a log and what only looks so, line by line."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.checks.levels import Level, level_of, plain
from sluice.checks.logs import judge_logs, records
from sluice.model.logs import Logs, quotable
from sluice.model.secret import Redactor, Secret
from sluice.model.spec import ChecksSpec, Harmless
from sluice.model.verdict import Verdict


def judge(*lines: str, **checks):
    """The finding over one service's lines."""
    return judge_logs(Logs({"api": list(lines)}), ChecksSpec(**checks))


CRITICAL = [
    # levels in JSON
    '{"level":"error","msg":"x"}',
    '{"ts":1,"level":"ERROR","logger":"app","message":"x"}',
    '{"severity":"CRITICAL","message":"x"}',
    '{"levelname": "CRITICAL", "msg": "x"}',
    '{"lvl":"fatal","msg":"x"}',
    '{"log":{"level":"error"},"message":"ecs"}',
    '{"log.level":"error","message":"ecs"}',
    '{"@l":"Fatal","@mt":"serilog"}',
    '{"level":50,"msg":"pino"}',
    '{"name":"x","level":60,"msg":"bunyan","v":0}',
    '{"version":"1.1","short_message":"gelf","level":3}',
    '{"severity_number":17,"body":"otel"}',
    '{"t":{"$date":"2026"},"s":"F","c":"CONTROL","msg":"mongod"}',
    '{"message":"Traceback (most recent call last):\\n  File"}',
    # logfmt
    'time="2026-01-01T00:00:00Z" level=error msg="x"',
    "ts=2026-01-01 lvl=fatal msg=x",
    'level="critical" msg=x',
    # plain records
    "ERROR:root:could not connect",
    "ERROR:    Exception in ASGI application",
    "CRITICAL: disk gone",
    "error: could not bind",
    "2026-01-01 12:00:00,123 ERROR app.db: gone",
    "2026-01-01 12:00:00,123 - app.db - ERROR - gone",
    "2026-01-01T12:00:00Z ERR could not start entryPoint=web",
    "2026-01-01T12:00:00.123Z [ERROR] gone",
    "12:00:00.123 [main] ERROR com.example.App - gone",
    "[2026-01-01 00:00:00 +0000] [7] [ERROR] Exception in worker process",
    "[2026-01-01T00:00:00Z ERROR app::db] gone",
    "[1] 2026/01/01 00:00:00.000000 [ERR] JetStream failed",
    "[1] 2026/01/01 00:00:00.000000 [FTL] out",
    "2026-01-01 00:00:00.000 | ERROR    | app:main:7 - gone",
    "\x1b[31m2026-01-01T00:00:00Z ERROR\x1b[0m app: gone",
    "0: (1): ERROR: cannot bind local socket",
    "2026-01-01 00:00:00 0 [ERROR] [MY-010119] Aborting",
    "[Nest] 1  - 01/01/2026, 0:00:00 AM   ERROR [Bootstrap] gone",
    "E0102 15:04:05.123456       1 main.go:12] gone",
    "E, [2026-01-01T00:00:00.000000 #1] ERROR -- : gone",
    "api-1  | 2026-01-01T00:00:00Z ERROR gone",
    # servers
    "2026-01-01 00:00:00.000 UTC [71] FATAL:  password authentication failed for user x",
    "2026-01-01 00:00:00.000 UTC [1] PANIC:  could not write to file",
    "2026/01/01 00:00:00 [emerg] 1#1: bind() to 0.0.0.0:80 failed",
    "2026/01/01 00:00:00 [crit] 7#7: *1 SSL_do_handshake() failed",
    "2026/01/01 00:00:00 [alert] 1#1: worker process 7 exited on signal 11",
    # crashes
    "panic: runtime error: index out of range [5] with length 3",
    "fatal error: all goroutines are asleep - deadlock!",
    "thread 'main' panicked at src/main.rs:4:5:",
    "Traceback (most recent call last):",
    '  File "/app/x.py", line 3, in <module>',
    'Exception in thread "main" java.lang.NullPointerException',
    "java.lang.OutOfMemoryError: Java heap space",
    "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory",
    "terminate called after throwing an instance of 'std::bad_alloc'",
    "Segmentation fault (core dumped)",
    "(node:1) UnhandledPromiseRejectionWarning: Error: x",
    "[UnhandledPromiseRejection: This error originated either by throwing inside of an async function]",
    "unhandled promise rejection: boom",
    "PHP Fatal error:  Uncaught TypeError: x",
    "Killed process 7 (oom-kill)",
    "MemoryError",
    "*** stack smashing detected ***: terminated",
]


@pytest.mark.parametrize("line", CRITICAL)
def test_a_critical_line_fails_and_is_quoted_with_its_service(line):
    """Whatever the format, the evidence names the service."""
    finding = judge("starting", line)
    assert finding.verdict is Verdict.FAIL, line
    assert finding.detail.startswith("1 critical: api: ")


FINE = [
    "0 errors, 0 warnings",
    "processed 12 requests, 0 errors",
    "error_rate=0",
    "errors=0 fatal=0",
    'level=info msg="level=error in a message"',
    "level=warn msg=slow",
    '{"level":"info","message":"fatal: user typed panic: Traceback (most recent call last)"}',
    '{"level":"warning","message":"out of memory soon"}',
    '{"level":30,"msg":"{\\"level\\":\\"error\\"}"}',
    '{"level":40,"msg":"pino warns"}',
    '{"event":"message","text":"level=error and panic: at the disco"}',
    '{"short_message":"gelf","level":6}',
    '{"severity_number":9,"body":"fatal"}',
    '{"level":true}',
    '{"level":1e400}',
    'INFO:     127.0.0.1:1 - "GET /?q=panic:+Traceback HTTP/1.1" 200 OK',
    '1.2.3.4 - - [01/Jan/2026:00:00:00 +0000] "GET /out of memory HTTP/1.1" 404 153 "-" "segfault"',
    "bob said ERROR and then FATAL: hello",
    "2026-01-01 12:00:00 the ERROR page was rendered",
    "2026-01-01 12:00:00,123 INFO app.chat: bob: panic: fatal error: Traceback (most recent call last)",
    "2026-01-01 12:00:00,123 WARNING app: out of memory is near",
    "2026-01-01T12:00:00Z DBG error handler installed",
    "2026-01-01T12:00:00Z INF Traefik version 3.7 built on Error day",
    "W0102 15:04:05.123456       1 main.go:12] fatal flaw",
    '2026/01/01 00:00:00 [error] 7#7: *1 open() "/x" failed (2: No such file or directory)',
    "2026/01/01 00:00:00 [notice] 1#1: signal process started",
    '2026-01-01 00:00:00.000 UTC [71] ERROR:  duplicate key value violates unique constraint "x"',
    "2026-01-01 00:00:00.000 UTC [71] LOG:  database system is ready to accept connections",
    "2026-01-01 00:00:00.000 UTC [71] FATAL:  the database system is starting up",
    "error",
    "no error",
    "Failed login attempts: 0",
    "",
    "{",
    "{}",
    "[]",
    "{not json} level of errors",
    "\x1b[0m",
    "errors: none",
]


@pytest.mark.parametrize("line", FINE)
def test_a_false_friend_does_not_trip(line):
    """Counters, sentences, what users type, and the levels below error."""
    finding = judge("starting", line, "started")
    assert finding.verdict is Verdict.PASS, finding.detail


TRACES = {
    "python": (
        "INFO:     started\nERROR:    Exception in ASGI application\nTraceback (most recent call last):\n"
        "  File \"/app/x.py\", line 1, in f\n    g()\n    ~^^\nKeyError: 'x'\n\n"
        "During handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n"
        '  File "/app/x.py", line 3, in f\n    h()\napp.errors.Gone: no such room\nINFO:     still here'
    ),
    "go": (
        "panic: runtime error: invalid memory address or nil pointer dereference\n"
        "[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x1]\n\ngoroutine 1 [running]:\n"
        "main.(*Server).Run(0xc000010000)\n\t/src/main.go:12 +0x1d\nmain.main()\n\t/src/main.go:5 +0x2\nexit status 2"
    ),
    "java": (
        'Exception in thread "main" java.lang.IllegalStateException: x\n\tat a.B.c(B.java:1)\n\tat a.B.d(B.java:2)\n'
        "Caused by: java.io.IOException: y\n\t... 12 more"
    ),
    "node": ("Error: boom\n    at f (/app/x.js:1:1)\n    at g (/app/x.js:2:2) {\n  code: 'E'\n}\n\nNode.js v20.1.0"),
    "rust": "thread 'main' panicked at src/main.rs:4:5:\n  boom\nstack backtrace:\n   0: main\nnote: run with `RUST",
}


@pytest.mark.parametrize("language", TRACES)
def test_a_stack_trace_is_one_error_with_its_last_word(language):
    """However many lines it has; and what follows it is not swallowed."""
    finding = judge(*TRACES[language].split("\n"))
    assert finding.metrics == {"critical": 1, "services": ["api"]}, finding.detail
    if language == "python":
        assert "app.errors.Gone: no such room" in finding.detail


def test_two_errors_in_a_row_are_two():
    """A new record ends a trace."""
    finding = judge(*TRACES["python"].split("\n"), *TRACES["python"].split("\n"))
    assert finding.metrics["critical"] == 2


def test_the_beginning_of_a_trace_may_be_cut_off():
    """The newest lines begin anywhere; a frame is enough to know."""
    assert judge('  File "/app/x.py", line 3, in f', "    h()", "ValueError: x").verdict is Verdict.FAIL


def test_what_the_operator_calls_critical_is():
    """Beside the built-in rules, and over levels."""
    assert judge("level=info msg=quota_exceeded", critical=("quota_exceeded",)).verdict is Verdict.FAIL


def test_what_is_known_to_be_harmless_is_counted_and_named_and_the_rest_still_fails():
    """The reason is in the evidence, so nobody forgets what is passed over."""
    known = (Harmless("peer reset", "phones go to sleep"),)
    passed = judge("ERROR: peer reset", "ERROR: peer reset", harmless=known)
    assert passed.verdict is Verdict.PASS
    assert "2 harmless (phones go to sleep)" in passed.detail
    failed = judge("ERROR: peer reset", "ERROR: disk gone", harmless=known)
    assert failed.verdict is Verdict.FAIL
    assert "1 critical: api: ERROR: disk gone; 1 harmless (phones go to sleep)" in failed.detail


def test_evidence_is_redacted_short_and_says_how_much_more_there_is():
    """A secret that a service wrote into its own log goes no further; a long line is cut."""
    redactor = Redactor([Secret("hunter2-hunter2")])
    lines = [f"ERROR: {n} password hunter2-hunter2 {'x' * 5000}" for n in range(9)]
    finding = judge_logs(Logs({"api": lines}), ChecksSpec(), redactor)
    assert "hunter2" not in finding.detail
    assert "and 6 more" in finding.detail
    assert len(finding.detail) < 700


def test_every_replica_of_a_service_counts():
    """The runtime gives the newest lines of each, one replica after the other."""
    assert judge("ERROR: in the first replica", *(f"fine {n}" for n in range(300)), log_lines=120).metrics


def test_no_log_at_all_is_no_pass_and_a_silent_service_is_one():
    """Nothing to read is inconclusive; a server that says nothing says nothing critical."""
    assert judge_logs(Logs({}), ChecksSpec()).verdict is Verdict.INCONCLUSIVE
    silent = judge_logs(Logs({"api": [], "db": ["LOG:  ready"]}), ChecksSpec())
    assert silent.verdict is Verdict.PASS
    assert "0 of api, 1 of db" in silent.detail


VALUES = st.one_of(st.integers(), st.floats(), st.text(max_size=20), st.none(), st.booleans(), st.just({"level": 7}))
KEYS = st.sampled_from(["level", "severity", "s", "l", "log", "msg", "short_message", "severity_number", "x"])
ANY_LINE = st.one_of(
    st.text(max_size=300), st.sampled_from(CRITICAL + FINE), st.builds(json.dumps, st.dictionaries(KEYS, VALUES))
)


@given(st.lists(ANY_LINE, max_size=30))
def test_no_log_breaks_the_judgement(lines):
    """Any lines give a verdict; every line is in exactly one record."""
    finding = judge_logs(Logs({"api": lines}), ChecksSpec())
    assert finding.verdict in {Verdict.PASS, Verdict.FAIL}
    kept = [line for record in records(lines) for line in record.lines]
    assert [line for line in kept if line] == [plain(line) for line in lines if plain(line)]


@given(
    st.sampled_from(
        ["[", "(", '"', "'", "level=", "a.", "a::", " ", "\t", "main.(", "{", '{"a":', "\x1b[", "0 ", "- ", "File "]
    ),
    st.sampled_from(["", "panic:", "Traceback", "thread '", "goroutine ", '  File "', "E0102 "]),
    st.sampled_from(["", "]", "x", '"', "\0"]),
)
def test_no_line_takes_long(unit, begin, end):
    """Repetition does not make a pattern slow: a line of 20 kB is judged in milliseconds."""
    line = begin + unit * (20_000 // len(unit)) + end
    began = time.process_time()
    judge_logs(Logs({"api": ["panic: x", "  y", *[line] * 4]}), ChecksSpec())
    assert time.process_time() - began < 0.5  # a few milliseconds; a pattern that backtracks takes minutes


@given(st.text())
def test_every_line_has_a_level_or_none(line):
    """Nothing is raised, whatever is in it."""
    assert isinstance(level_of(plain(line))[0], Level)


def test_a_log_that_is_withheld_is_counted_and_not_quoted():
    """What may hold a secret that nobody knows any more fails the check by its number, beside what may be quoted."""
    why = "it was started with other values than today's (/logs/api.log)"
    said = Logs({"api": ["ERROR: old-value", "ERROR: old-value again"], "db": ["FATAL:  gone"]}, {"api": why})
    finding = judge_logs(said, ChecksSpec())
    assert finding.verdict is Verdict.FAIL
    assert finding.detail == f"3 critical: db: FATAL: gone; api: 2 not shown: {why}"
    assert quotable(said, 5) == ["db: FATAL:  gone", f"api: 2 lines not shown: {why}"]
    assert judge_logs(Logs({"api": ["fine"]}, {"api": why}), ChecksSpec()).verdict is Verdict.PASS
