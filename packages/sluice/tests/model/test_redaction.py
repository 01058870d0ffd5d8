"""The redactor: every spelling of a secret is found, nothing else is touched, and no cut goes through a secret."""

from __future__ import annotations

import base64
import re
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sluice.model.secret import REDACTED, RedactedLines, Redactor, Secret
from sluice.testing.spelling import SPELLINGS

AWKWARD = (
    "p@ss!w0rd(x)*y",
    "tok/en+with=pad&x",
    'pä"ss\\wörd',
    "it's a 'quoted' one",
    "abc<def>&ghij",
    "50%41\\x\\u0041&amp;",
    "six 6!",
    "first-line\nsecond-li\nthird-line!",
    "😀 and 'so' on \\\\ \"",
    "s" * 70 + "/" * 30,
)
LETTERS = st.characters(
    codec="utf-8", exclude_categories=["Cc", "Cf", "Zl", "Zp", "Zs", "Cn", "Co"], exclude_characters="~"
)
SECRETS = st.text(LETTERS | st.sampled_from(" \n\t\"'\\%&+/=<>u0x4n"), min_size=6, max_size=120)


def leak(text: str, secret: str) -> str:
    """What of a secret can still be read in a text: four bytes of it in a row, also out of base64."""
    raw, runs = secret.encode(), re.findall(r"[A-Za-z0-9+/_-]{4,}", text)
    read = [text.replace(REDACTED, "").encode()]
    for run in runs:
        letters = run.translate(str.maketrans("-_", "+/"))
        read += [base64.b64decode(letters[skip : skip + (len(letters) - skip) // 4 * 4]) for skip in range(4)]
    windows = {raw[at : at + 4] for at in range(len(raw) - 3)}
    return next((f"{window!r} in {text!r}" for window in windows for one in read if window in one), "")


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("secret", AWKWARD)
def test_awkward_secrets_are_found_in_every_spelling(secret, spelling):
    """The whole of it is hidden, and what stands around it stays."""
    text = Redactor([Secret(secret)])(f"~ {SPELLINGS[spelling](secret)} ~")
    assert text.startswith("~ ")
    assert text.endswith(" ~")
    assert REDACTED in text
    assert leak(text, secret) == ""
    if "base64" not in spelling:
        assert text == f"~ {REDACTED} ~"


@given(SECRETS, st.sampled_from(sorted(SPELLINGS)))
def test_no_secret_survives_in_any_spelling(secret, spelling):
    """Whatever the letters: after redaction the spelling is not in the text, nor is anything to be read out of it."""
    assume(secret not in REDACTED)  # our own mark would be hidden by itself, for ever
    spelt = SPELLINGS[spelling](secret)
    text = Redactor([Secret(secret)])(f"~ {spelt} ~")
    assert REDACTED in text
    assert spelt not in text


@given(st.text("abc 019\n%\\&'\"+/=u{}x;:", max_size=300), st.lists(st.text("QRSTUVWXYZ!@$", min_size=6), max_size=5))
def test_a_text_without_secrets_is_left_as_it_is(text, secrets):
    """Escapes are undone for the search alone, in whatever way they are broken."""
    assert Redactor(map(Secret, secrets))(text) is text


@pytest.mark.parametrize(
    ("value", "said", "told"),
    [
        (
            "postgresql://rooms:S3example99@db.internal/rooms",
            "postgresql+asyncpg://rooms:S3example99@db.internal:5432/rooms",
            "postgresql+asyncpg://rooms:[redacted]@db.internal:5432/rooms",
        ),
        ("postgresql://rooms:ex%40mple%21example@db/rooms", "tried ex@mple!example", "tried [redacted]"),
        ("postgresql://rooms:pa/example@x@db/rooms", "tried pa/example@x.", "tried [redacted]."),
        ("redis://:r3disexample@a,redis://:0therexample@b", "AUTH 0therexample", "AUTH [redacted]"),
        ("https://example0123456789ab@git.example.org/a", "as example0123456789ab", "as [redacted]"),
        ("https://example.org/hook?token=t0kenexample&x=1", "with t0kenexample", "with [redacted]"),
        ("host=db user=rooms password=S3example99", "PGPASSWORD=S3example99", "PGPASSWORD=[redacted]"),
        ("host=db password='S3example x'", "tried S3example x", "tried [redacted]"),
        ("Server=db;Pwd={S3example99};Uid=sa", "tried S3example99", "tried [redacted]"),
        ('{"turn": "turnexample-123456", "k": 1}', "secret turnexample-123456", "secret [redacted]"),
        ('{"a": [{"api_key": "example1"}]}', "with example1", "with [redacted]"),
        ('{"dsn": "amqp://u:S3example99@mq"}', "tried S3example99", "tried [redacted]"),
        ("keyexampleAAAAA1,keyexampleBBBBB2", "by keyexampleBBBBB2", "by [redacted]"),
        ("k1:keyexampleAAAAA1, k2:keyexampleBBBBB2", "by keyexampleBBBBB2", "by [redacted]"),
        ("abcdefgh;xqzkwvbnjhgfqtrd", "by xqzkwvbnjhgfqtrd", "by [redacted]"),  # letters, and no words
        ('{"api_tokens": ["correct-horse-example"]}', "by correct-horse-example", "by [redacted]"),
        ('{"passwords": {"ann": "correct-horse-example"}}', "by correct-horse-example", "by [redacted]"),
        ("-Dcache.key=k3yexample", "by k3yexample", "by [redacted]"),
        ('{"key": "longerexample"}', "by longerexample", "by [redacted]"),
        ("app.api.key=example", "by example", "by [redacted]"),
        ("-----BEGIN X-----\nMIIEpAIBAAKCAQEA\n-----END X-----", "MIIEpAIBAAKCAQEA", "[redacted]"),
    ],
)
def test_a_part_that_is_a_secret_of_its_own_is_hidden_alone(value, said, told):
    """Passwords out of addresses and connection strings, members of JSON and of lists, lines."""
    assert Redactor([Secret(value)])(said) == told


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("https://rooms.example.org,https://chat.example.org", "https://chat.example.org answers"),
        ("rooms.example.org, chat.example.org", "chat.example.org is resolved"),
        ("10.20.30.40/16,10.21.30.40/16", "from 10.21.30.40/16"),
        ("ann.smith@example.org,bob@example.org", "told ann.smith@example.org"),
        ('{"realm": "rooms.example.org", "region": "eu-west"}', "rooms.example.org in eu-west"),
        ("postgresql://postgres:postgres@db/rooms", "postgres is up"),
        ("https://example.org:8080/users/@ann", "https://example.org:8080/users/"),
        ("-----BEGIN X-----\nMIIEpAIBAAKCAQEA\n-----END X-----", "-----BEGIN X-----"),
        ("short", "a short one"),
        ('{"credentials": {"type": "service_account"}}', "of a service_account"),
        ("service.name=rooms,partition_key=session", "session opened, session_id=3"),
        ('{"cache": {"key": "default"}, "sort": {"key": "status"}}', "HTTP status 200 of the default pool"),
        ("-Xmx1g -Dcache.key=production", "running in production mode"),
        ("postgresql://rooms_production@/rooms_production?host=/run/pg", "connected to rooms_production"),
        ("postgresql://rooms_production@db/rooms", "connected as rooms_production"),
        ("ssh://deploy-rooms-bot@git.example.org/x", "deploy-rooms-bot pushed"),
        ("https://deploy-rooms-bot@git.example.org/x", "deploy-rooms-bot pushed"),
        ("livekit,recording,transcription,screen-sharing", "transcription: off, screen-sharing: on"),
        ("eu-central-1a,eu-central-1b,eu-central-1c", "a node in eu-central-1b"),
        ("default:rooms-production-eu;cache:rooms-cache-eu", "the bucket rooms-production-eu is there"),
        ("/srv/app/more;/srv/other/place", 'File "/srv/other/place/x.py"'),
    ],
)
def test_what_is_no_secret_of_its_own_is_evidence(value, said):
    """Hosts, addresses of people, names, words, what is short: hiding them alone would hide what people must read."""
    assert Redactor([Secret(value)])(said) == said


@pytest.mark.parametrize(
    "value",
    [
        "https://example.org/rooms",
        "https://example.org/rooms/",
        "https://example.org/rooms,https://admin.example.org/x",
    ],
)
def test_what_everybody_is_shown_is_never_hidden_for_itself(value):
    """The public address is no secret when a list of origins holds it, nor when it is learnt later."""
    redact = Redactor([Secret(value)], {"https://example.org/rooms"})
    redact.learn([Secret(f"see {value}")])
    said = "GET https://example.org/rooms/health 200"
    assert redact(said) == said


@pytest.mark.parametrize("value", ["token=" * 3000, "key=a;" * 2000, '{"a":' * 900 + '"k9exampleK9k9"' + "}" * 900])
def test_a_value_is_taken_apart_however_deep_it_goes(value):
    """No value ends the command that read it: what is within more layers than configuration has is left whole."""
    assert Redactor([Secret(value)])(f"~ {value} ~") == f"~ {REDACTED} ~"


def test_overlapping_secrets_leave_nothing_of_either():
    """What two have in common is not taken from one of them by the other."""
    redact = Redactor([Secret("sample-1234"), Secret("1234-example"), Secret("ple-12")])
    assert redact("x sample-1234-example y sample-12 z") == "x [redacted] y sam[redacted] z"


def test_the_letters_beside_it_in_base64_stay():
    """Of a header only what holds bits of the secret is hidden, so that people see what it was."""
    header = "Authorization: Basic " + base64.b64encode(b"alice:S3example99").decode()
    assert Redactor([Secret("S3example99")])(header) == "Authorization: Basic YWxpY2U6[redacted]"


def test_a_redactor_that_learns_hides_from_then_on():
    """Tickets and tokens are learnt while a run goes on; the mark itself is never hidden again."""
    redact = Redactor([Secret("redacted")])
    assert redact("a ticket-77 [redacted]") == "a ticket-77 [redacted]"
    redact.learn([Secret("ticket-77")])
    assert redact("a ticket-77 [redacted]") == "a [redacted] [redacted]"


PIECES = st.sampled_from(
    ["sample-77", "sample%2D77", "sampl", "ä\nb\nexample", "ä\nb\n", "ä", "\n", "x" * 9, "😀", "\\u00e4"]
)


@given(st.lists(PIECES, max_size=30).map("".join), st.integers(1, 20), st.integers(1, 12))
def test_lines_are_redacted_whatever_the_chunks_and_pieces(text, size, longest):
    """Cut into chunks on their way in and into pieces on their way out, lines say what the whole text says redacted."""
    redact, shown = Redactor([Secret("sample-77"), Secret("ä\nb\nexample")]), []
    lines, raw = RedactedLines(redact, shown.append, longest), text.encode()
    for at in range(0, len(raw), size):
        lines.feed(raw[at : at + size])
    lines.close()
    assert max(map(len, shown), default=0) <= longest
    assert "".join(shown) == redact(text).replace("\n", "")


def test_a_long_secret_of_many_lines_makes_no_line_of_a_log_slow():
    """Lines that are none of its own cost nothing, and its own lines are held back until all have come."""
    parts = ["-----BEGIN X-----", *(f"exampleline{number:044d}" for number in range(800)), "-----END X-----"]
    redact, shown = Redactor([Secret("\n".join(parts))]), []
    lines, began = RedactedLines(redact, shown.append, 4096), time.process_time()
    for number in range(2000):
        lines.feed(b"INFO some line of a log, request %d\n" % number)
    assert time.process_time() - began < 1
    assert len(shown) == 2000
    for part in parts:
        lines.feed(f"key: {part}\n".encode() if part == parts[0] else f"{part}\n".encode())
        assert part == parts[-1] or len(shown) == 2000
    assert shown[2000:] == [f"key: {REDACTED}"]


@given(st.lists(PIECES, max_size=30).map("".join), st.integers(1, 60))
def test_the_end_of_a_text_is_redacted_before_it_is_cut(text, limit):
    """What is kept is the end of the redacted whole, from somewhere on: no part of a secret begins it."""
    redact = Redactor([Secret("sample-77"), Secret("ä\nb\nexample")])
    kept = redact.end(text.encode()[-limit - redact.reach :], limit)
    assert redact(text).endswith(kept)
    assert kept or not text or limit < len("😀".encode())
