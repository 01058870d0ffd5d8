"""What the scanner takes for a secret and what it does not: values, words, wrapped text, and a labelled corpus."""

from __future__ import annotations

import base64
import hashlib
import sys
import time
from pathlib import Path

import pytest

from sluice.gates.scanner import scan
from sluice.gates.secret_blocks import find_blocks
from sluice.gates.secret_finds import Text
from sluice.gates.secret_values import digest_of
from sluice.gates.secrets import no_secrets
from sluice.model.verdict import Verdict

from .secret_samples import AWS, SECRETS, noise

# The bench is a directory of scripts, not a package; its labelled corpus is ours too.
sys.path.insert(0, str(Path(__file__).parents[4] / "bench"))
import corpus

WEAK = "hun" + "ter2"


@pytest.mark.parametrize(
    ("path", "text", "verdict"),
    [
        (".env", f"DB_PASSWORD={WEAK}\n", Verdict.FAIL),
        ("deploy/prod.env", f"export SMTP_PASSWORD='{WEAK}'\n", Verdict.FAIL),
        (".env.production", f"A=1\nTURN_SECRET={WEAK}\n", Verdict.FAIL),
        (".env.example", f"DB_PASSWORD={WEAK}\n", Verdict.PASS),
        ("deploy/env/test.env.example", f"DB_PASSWORD={WEAK}\n", Verdict.PASS),
        (".env", "PORT=8080\nTITLE=Rooms\nJWT_SECRET=${JWT_SECRET}\nDB_PASSWORD=changeme\n", Verdict.PASS),
        ("settings.conf", f"DB_PASSWORD={WEAK}\n", Verdict.PASS),
        (".env.example", f"DB_PASSWORD={noise(24)}\n", Verdict.FAIL),
        (".env", f"PASSWORD_MAIN={WEAK}\n", Verdict.FAIL),
        (".env", f"STRIPE_KEY={WEAK}\n", Verdict.FAIL),
        (".env", f"DBPASS={WEAK}\n", Verdict.FAIL),
        (".env", f"ADMIN_PW: {WEAK}\n", Verdict.FAIL),
        (".env-prod", f"API_KEYS={WEAK}\n", Verdict.FAIL),
        (".env~", f"SECRET_FOR_JWT={WEAK}\n", Verdict.FAIL),
        ("prod.env.bak", f"SMTP_CREDENTIALS={WEAK}\n", Verdict.FAIL),
        (".flaskenv", f"TOKEN_A={WEAK}\n", Verdict.FAIL),
        ("src/config.env.ts", f"PASSWORD_MAIN={WEAK}\n", Verdict.PASS),
        (
            ".env",
            "STRIPE_PUBLIC_KEY=pk-42ab\nKEY_ID=main\nTOKEN_TTL=90d\nJWT_SECRET_FILE=jwt.txt\nKEYBOARD=de-ch\nMONKEY=ape\n",
            Verdict.PASS,
        ),
    ],
)
async def test_an_env_file_that_is_no_example_is_judged_by_its_names(origin, path, text, verdict):
    """In a committed env file a weak value is a secret too; in an example of one only what looks generated is."""
    origin.commit({path: text})
    assert (await no_secrets(await origin.context())).verdict is verdict


@pytest.mark.parametrize("number", [1, 3000])
def test_wrapped_text_is_read_however_much_stands_before_it(number):
    """Thousands of harmless runs of base64 do not hide the one behind them; the line is that of the run."""
    runs = [base64.b64encode(f"harmless text number {n:05}".encode()).decode() for n in range(number)]
    runs.append(base64.b64encode(f"the words before it, {SECRETS['aws']}".encode()).decode())
    (hit,) = scan([Text("a.txt", "\n\n".join(runs))])
    assert hit.line == 2 * number + 1


@pytest.mark.parametrize("shape", ["changeme-{}", "my-{}", "{}-example", "your-{}", "test_only_{}", "dummy{}"])
def test_a_word_that_says_placeholder_does_not_excuse_what_stands_beside_it(shape):
    """With a generated value it is a secret; with words, a sequence or nothing it holds the place of one."""
    line = "DB_PASS" + 'WORD = "{}"'
    assert len(scan([Text("a.conf", line.format(shape.format(noise(40))))])) == 1
    for rest in ("", "token-for-tests", "0123456789abcdef", "1234567890abcdef", "long-enough-for-anybody-4f9a"):
        assert scan([Text("a.conf", line.format(shape.format(rest)))]) == []


def test_a_value_that_holds_another_one_of_its_line_is_told_too():
    """Two rules that see one place tell one find; the same letters elsewhere in the line hide nothing."""
    mock, rest = noise(24, 3), noise(30, 9)
    line = f'x("password", "{mock}"); y("api_key", "{mock}{rest}"); z("token", "{AWS}")\n'
    assert {hit.digest for hit in scan([Text("a.py", line)])} == {digest_of(v) for v in (mock, mock + rest, AWS)}
    assert len(scan([Text("a.py", f'AWS_TOKEN = "{AWS}"')])) == 1


def test_what_base64_prints_of_a_key_is_found(keyring):
    """`base64 id_ed25519`, in lines of 76 letters or in one; the line is that of the block."""
    raw = keyring.make("ann").read_bytes()
    for text in (base64.encodebytes(raw).decode(), base64.b64encode(raw).decode()):
        assert [(hit.line, hit.rule) for hit in scan([Text("id.b64", f"first line\n{text}")])] == [(2, "private-key")]


@pytest.mark.parametrize(
    "text",
    [
        "a" * 300_000,
        "(" * 100_000,
        "token=" * 10_000,
        "://a:b@" * 20_000,
        "-----BEGIN PRIVATE KEY-----\n" * 3_000,
        f"{'A' * 64}\n" * 5_000,
        'variable "password" {\n' * 5_000,
        f"password{' ' * 80}:\n" * 3_000,
        f"password = {'? ' * 50_000}",
    ],
    ids=["letters", "brackets", "names", "urls", "keys", "base64", "variables", "openings", "choices"],
)
def test_no_text_makes_the_scanner_slow(text):
    """Text made to be slow costs no more than its length: far below the gate's own deadline."""
    began = time.process_time()
    scan([Text("a.txt", text)])
    assert time.process_time() - began < 10


def test_the_place_of_every_key_is_found_without_counting_its_lines_again():
    """Ten times as many JSON Web Keys take some ten times as long, and not a hundred times."""

    def cost(keys: int) -> float:
        text = '{"kty": "oct", "k": "aaaaaaaaaaaaaaaaaaaaaaaa"}\n' * keys
        began = time.process_time()
        assert list(find_blocks(text)) == []
        return time.process_time() - began

    few = min(cost(3_000) for _ in range(3))
    assert cost(30_000) < 30 * few


@pytest.mark.parametrize(
    "line",
    [
        "| `token` | string2048max | yes |",
        "| API_KEY | see1password | required |",
        "The secret is base64encoded33 by Kubernetes",
        "The secret is Sha256Base64url of it",
        "The secret is sha256base64url of it",
        "| token | x509certpem | yes |",
        "token is A1b2C3d4E5 in the example",
        f'xsrfToken: "{hashlib.sha256(b"x").hexdigest()[:32]}"',
        f'xsrf_token = "{hashlib.sha256(b"x").hexdigest()[:32]}"',
    ],
)
def test_words_with_a_number_in_sentences_and_tables_are_no_secrets(line):
    """Nor is a sequence that shows how a token looks, and nor is what keeps forms from being forged."""
    assert scan([Text("docs/x.md", line)]) == []


@pytest.mark.parametrize("shape", ["| `token` | {} | yes |", "The secret is {} by now", "the password is `{}`."])
@pytest.mark.parametrize(
    "value",
    [noise(11, 3), noise(12, 4), noise(24).lower(), "x7k2m9q4w8" + "z3", "4F9QW2" + "X7KD3M", "9e4d" + "07c1b8f2"],
)
def test_what_is_drawn_is_found_in_sentences_and_tables(shape, value):
    """Letters of all kinds, or of one among digits, from ten on; whatever it is made of, from sixteen on."""
    assert len(scan([Text("docs/x.md", shape.format(value))])) == 1


def test_a_nul_does_not_end_the_scan():
    """The scanner is a C library; what stands behind a NUL is scanned all the same."""
    assert scan([Text("a.conf", f"x\0y\n{SECRETS['aws']}")]) != []


async def test_harmless_look_alikes_raise_no_alarm(origin):
    """Locked hashes, integrity sums, identifiers, placeholders and documentation pass."""
    digests = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(400)]
    lock = "".join(f"package{n}==1.{n} \\\n    --hash=sha256:{digest}\n" for n, digest in enumerate(digests))
    npm = "".join(f'  "node_modules/p{n}": {{"integrity": "sha512-{noise(86, n)}=="}},\n' for n in range(400))
    code = (
        'ROOM = "0198a3c4-5d6e-7f80-91a2-b3c4d5e6f708"\nPASSWORD = "changeme"\nJWT_SECRET=<your secret>\n'
        'token = os.environ["TOKEN"]\npassword: str = Field(min_length=8)\nSECRET_KEY=${SECRET_KEY}\n'
        f'TREE = "{hashlib.sha256(b"tree").hexdigest()[:40]}"\n'
    )
    origin.commit({"requirements/dev.txt": lock, "web/package-lock.json": npm, "a.py": code})
    finding = await no_secrets(await origin.context())
    assert (finding.verdict, finding.detail.split(" (")[0]) == (
        Verdict.PASS,
        "Nothing in the added lines of 1 commit",
    )


async def test_every_secret_of_the_corpus_is_found_in_the_commit_that_had_it(origin):
    """The true cases in commits of ten, all taken away again at the end: nothing of them is in the tip."""
    cases = [case for case in corpus.corpus() if case.lines]
    tens = [cases[start : start + 10] for start in range(0, len(cases), 10)]
    for some in tens:
        origin.commit({f"{case.name}/{case.path}": case.raw for case in some})
    origin.commit({f"{case.name}/{case.path}": None for case in cases})
    finding = await no_secrets(await origin.context())
    assert finding.verdict is Verdict.FAIL
    assert finding.metrics["found"] >= 0.95 * len(cases)
    assert finding.metrics["commits"] == len(tens) + 1


async def test_the_harmless_corpus_makes_no_more_alarms_than_promised(origin):
    """Two in a hundred files at most."""
    cases = [case for case in corpus.corpus() if not case.lines]
    origin.commit({f"{case.name}/{case.path}": case.raw for case in cases})
    finding = await no_secrets(await origin.context())
    assert finding.metrics["found"] <= 0.02 * len(cases), finding.detail


def test_the_templates_of_the_corpus_are_no_secrets_themselves():
    """What is committed of the corpus passes the gate it is for."""
    files = sorted(corpus.FOLDER.glob("*.txt"))
    assert files
    assert scan([Text(file.name, file.read_text()) for file in files]) == []
