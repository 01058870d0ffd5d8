"""No secret in what the branch adds. Everything that looks like one is put together here, at run time."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import random
import string
import sys
import time
from pathlib import Path

import msgspec
import pytest

from sluice.gates import scanner
from sluice.gates.added import Added, parse_patch
from sluice.gates.scanner import scan
from sluice.gates.secret_blocks import find_blocks
from sluice.gates.secret_finds import Text
from sluice.gates.secret_span import Span
from sluice.gates.secret_values import digest_of
from sluice.gates.secrets import Place, Seen, _verdict, no_secrets
from sluice.model.errors import ProbeBroken
from sluice.model.policy import AllowedSecret, GatesSpec
from sluice.model.release import Completed
from sluice.model.verdict import Verdict

# The bench is a directory of scripts, not a package; its labelled corpus is ours too.
sys.path.insert(0, str(Path(__file__).parents[4] / "bench"))
import corpus


def noise(length: int, seed: int = 7) -> str:
    """Letters and digits as a generator of passwords makes them; the same in every run."""
    letters = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
    return "".join(random.Random(seed).choices(letters, k=length))


AWS = "AK" + "IA" + "Q3EGRCTZPLMN5KVX"
PRIVATE_KEY = "\n".join(
    ["-----BEGIN RSA " + "PRIVATE KEY-----", *(noise(64, n) for n in range(12)), "-----END RSA " + "PRIVATE KEY-----"]
)
SECRETS = {
    "aws": f'key = "{AWS}"\n',
    "private key": PRIVATE_KEY + "\n",
    "password": "DB_PASS" + f'WORD = "{noise(20)}"\n',
    "turn": "TURN_SEC" + f"RET={hashlib.sha256(b'turn').hexdigest()[:32]}\n",
    "turn in a config": "static-auth-sec" + f"ret={noise(32, 3)}\n",
    "token": "gh" + "p_" + noise(36, 5) + "\n",
}


@pytest.mark.parametrize("kind", SECRETS)
async def test_a_secret_is_found_and_never_shown(origin, kind):
    """The evidence names file, line, rule and commit; the value is in no part of the finding."""
    origin.commit({"deploy/settings.conf": "# settings\n\n" + SECRETS[kind]})
    finding = await no_secrets(await origin.context())
    assert finding.verdict is Verdict.FAIL
    assert "deploy/settings.conf:3" in finding.detail
    assert origin.git("rev-parse", "HEAD")[:12] in finding.detail
    words = SECRETS[kind].replace('"', " ").replace("=", " ").split()
    shown = f"{finding.detail} {finding.fix} {finding.metrics}"
    assert not [word for word in words if len(word) > 15 and word in shown]


def key_file(kind: str, seed: int) -> str:
    """A private key in PEM."""
    letters = string.ascii_letters + string.digits + "+/"
    body = ["".join(random.Random(seed * 100 + n).choices(letters, k=64)) for n in range(25)]
    return "\n".join([f"-----BEGIN {kind}" + "PRIVATE KEY-----", *body, f"-----END {kind}" + "PRIVATE KEY-----", ""])


FILLER = "".join(f"# line {n}\n" for n in range(30))
OLD, NEW = "changeme", noise(24, 6)
HALVES = {
    "kubernetes": ("env:\n  - name: DB_PASSWORD\n    value: {}\n", OLD, NEW),
    "plist": ("<key>apiToken</key>\n<string>{}</string>\n", OLD, NEW),
    "terraform": ('variable "db_password" {{\n  type = string\n\n  default = "{}"\n}}\n', OLD, NEW),
    "python": ('SECRET_KEY = (\n    "{}"\n)\n', OLD, NEW),
    "json": ('[\n {{"name": "DB_PASSWORD",\n  "value": "{}"}}\n]\n', OLD, NEW),
    "netrc": ("machine h.corp.com\n  login bob\n  pass" + "word {}\n", OLD, NEW),
    "coturn": ("lt-cred-mech\nrealm=x\nuser=rooms:{}\n", OLD, "Kuchen" + "42x"),
    "a key exchanged": ("{}", key_file("", 1), key_file("", 2)),
    "an OpenSSH key exchanged": ("{}", key_file("OPENSSH ", 1), key_file("OPENSSH ", 2)),
    "a body far below its head": (
        "-----BEGIN PRIVATE" + " KEY-----\n" + FILLER + "{}-----END\n",
        "",
        noise(64, 1) + "\n",
    ),
    "a body between head and end": (key_file("", 1).replace("\n", "\n{}", 1), "", noise(64, 2) + "\n"),
}


@pytest.mark.parametrize("kind", HALVES)
async def test_a_secret_beside_an_old_line_is_found(origin, kind):
    """The commit brings the value alone: its name, or the head of the key, is in the file since long."""
    shape, before, after = HALVES[kind]
    origin.git("checkout", "--quiet", "main")
    origin.commit({"media.conf": FILLER + shape.format(before)})
    origin.git("checkout", "--quiet", "-b", "feature/y")
    origin.commit({"media.conf": FILLER + shape.format(after)})
    finding = await no_secrets(await origin.context("feature/y"))
    assert (finding.verdict, finding.metrics["found"]) == (Verdict.FAIL, 1)


@pytest.mark.parametrize("kind", [*SECRETS, *HALVES])
async def test_a_change_beside_an_old_secret_is_none(origin, kind):
    """What was there before is not the branch's: a line above it, below it, or what looks as a body."""
    shape, _, value = HALVES.get(kind, ("{}", "", SECRETS.get(kind, "")))
    old = shape.format(value).rstrip("\n")
    origin.git("checkout", "--quiet", "main")
    origin.commit({"media.conf": f"# above\n{old}\n# below\n"})
    origin.git("checkout", "--quiet", "-b", "feature/y")
    origin.commit({"media.conf": f"# above it\n{old}\n# below it\n{hashlib.sha512(b'x').hexdigest()}\n"})
    finding = await no_secrets(await origin.context("feature/y"))
    assert (finding.verdict, finding.detail.split(" (")[0]) == (
        Verdict.PASS,
        "Nothing in the added lines of 1 commit",
    )


@pytest.mark.parametrize("content", ["x\n", b"\0\1", "", SECRETS["password"]])
async def test_a_secret_in_a_files_name_is_found_and_not_shown(origin, content):
    """Once, in the commit that made the file; the path is in no part of the finding, also not of the file's others."""
    name = "gh" + "p_" + noise(36, 5)
    origin.commit({f"backup/{name}.txt": content})
    origin.commit({f"backup/{name}.txt": "another\n"})
    finding = await no_secrets(await origin.context())
    assert (finding.verdict, finding.metrics["found"]) == (Verdict.FAIL, 2 if content == SECRETS["password"] else 1)
    assert "a file's name " in finding.detail
    assert name not in f"{finding.detail} {finding.fix}"
    entry = allowed("backup/*.txt", name)
    finding = await no_secrets(await origin.context(policy=GatesSpec(allowed_secrets=(entry,))))
    assert finding.metrics["allowed"] == 1


async def test_a_name_that_is_allowed_in_one_folder_is_a_find_in_another(origin):
    """Both are said in the same words, because neither shows its path; the allow-list tells them apart."""
    name = "gh" + "p_" + noise(36, 5)
    origin.commit({f"tests/{name}.txt": "x\n", f"backup/{name}.txt": "x\n"})
    for path, found in (("tests/**", 1), ("**", 0)):
        policy = GatesSpec(allowed_secrets=(allowed(path, name),))
        assert (await no_secrets(await origin.context(policy=policy))).metrics["found"] == found


async def test_a_secret_in_a_message_is_found(origin):
    """A message is pushed as files are; the allow-list names it `message`."""
    origin.commit({"a.txt": "x\n"})
    origin.git("commit", "--quiet", "--amend", "--message", f"Log in\n\nwith {SECRETS['token']}\nSummary: x")
    origin.commit({"b.txt": "x\n"})
    finding = await no_secrets(await origin.context())
    assert (finding.verdict, finding.metrics["found"]) == (Verdict.FAIL, 1)
    assert finding.detail.startswith("message:3 ")
    assert f"(commit {origin.git('rev-parse', 'HEAD~1')[:12]}, " in finding.detail
    policy = GatesSpec(allowed_secrets=(allowed("message", SECRETS["token"].strip()),))
    assert (await no_secrets(await origin.context(policy=policy))).verdict is Verdict.PASS


async def test_the_name_of_a_commit_in_a_message_is_no_secret(origin):
    """Beside a word such as `token` as well; what looks as one and names no commit here is a find."""
    origin.commit({"a.txt": "x\n"})
    known = origin.git("rev-parse", "HEAD").strip()
    origin.commit({"b.txt": "x\n"})
    for name, found in ((known, 0), (hashlib.sha256(b"x").hexdigest()[:40], 1)):
        origin.git("commit", "--quiet", "--amend", "--message", f"Take back\n\ntoken: {name}")
        assert (await no_secrets(await origin.context())).metrics["found"] == found


async def test_a_secret_taken_away_again_is_still_known(origin):
    """What was pushed once is known, so a later commit that removes it does not make it good."""
    origin.commit({"a.conf": SECRETS["aws"]})
    origin.commit({"a.conf": None})
    assert (await no_secrets(await origin.context())).verdict is Verdict.FAIL


@pytest.mark.parametrize("mark", ["gitleaks:allow", "betterleaks:allow", "#gitleaks:allow"])
async def test_the_candidate_cannot_excuse_itself(origin, mark):
    """An allow mark in the branch's own text does not hide a secret from the gate."""
    origin.commit({"a.py": f'key = "{AWS}"  # {mark}\n'})
    assert (await no_secrets(await origin.context())).verdict is Verdict.FAIL


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


def allowed(path: str, value: str) -> AllowedSecret:
    """The reviewed exception for a value."""
    return AllowedSecret(path=path, digest=digest_of(value), reason="the key of a mock", reviewed_by="ann")


async def test_a_reviewed_find_passes_and_is_shown_with_who_and_why(origin):
    """The digest the gate prints is the one the allow-list takes; reason and reviewer stand in the evidence."""
    origin.commit({"tests/mock.conf": SECRETS["aws"]})
    finding = await no_secrets(await origin.context())
    assert f"digest {digest_of(AWS)}" in finding.detail
    policy = GatesSpec(allowed_secrets=(allowed("tests/**", AWS),))
    finding = await no_secrets(await origin.context(policy=policy))
    assert finding.verdict is Verdict.PASS
    assert "tests/mock.conf:1" in finding.detail
    assert "the key of a mock, reviewed by ann" in finding.detail
    assert (finding.metrics["found"], finding.metrics["allowed"]) == (0, 1)


@pytest.mark.parametrize("entry", [allowed("src/**", AWS), allowed("tests/**", "another value")])
async def test_an_exception_holds_for_its_file_and_its_value_alone(origin, entry):
    """Elsewhere, or for another value, it excuses nothing, and the gate says that it matched nothing."""
    origin.commit({"tests/mock.conf": SECRETS["aws"]})
    finding = await no_secrets(await origin.context(policy=GatesSpec(allowed_secrets=(entry,))))
    assert finding.verdict is Verdict.FAIL
    assert f"not found here: {entry.digest} in {entry.path}" in finding.detail


async def test_allowed_finds_never_hide_another_behind_them(origin):
    """A mock that a fixture repeats some thousand times is told once, with how often; what comes after it is read."""
    mock = noise(24, 3)
    rows = [f'{{"id": {n}, "password": "{mock}"}}' for n in range(scanner.MAX_HITS + 1)]
    origin.commit({"tests/users.json": "\n".join(rows), "tests/zz.conf": SECRETS["aws"]})
    finding = await no_secrets(await origin.context(policy=GatesSpec(allowed_secrets=(allowed("tests/**", mock),))))
    assert (finding.verdict, finding.metrics["found"], finding.metrics["allowed"]) == (Verdict.FAIL, 1, 1)
    assert "tests/zz.conf:1" in finding.detail
    assert f"digest {digest_of(mock)}, {len(rows)} times" in finding.detail


@pytest.mark.parametrize("files", [1, 3])
async def test_more_finds_than_one_answer_holds_are_asked_for(origin, monkeypatch, files):
    """The scanner says how far it came and is asked for the rest, so a list that was cut is never a clean one."""
    monkeypatch.setattr(scanner, "MAX_HITS", 2)
    texts = [Text(f"{n}.conf", SECRETS["aws"] + SECRETS["password"]) for n in range(files)] + [Text("z", "")]
    found, asked = 0, 0
    while texts:
        told = scanner.answer(texts)
        found, asked, texts = found + len(told.hits), asked + 1, texts[told.read :]
        assert not told.truncated
    assert (found, asked) == (2 * files, files)


async def test_a_file_with_more_finds_than_are_told_is_no_pass(origin, monkeypatch):
    """All of the told ones may be allowed: what was not told nobody allowed, so the gate cannot be judged."""
    monkeypatch.setattr(scanner, "MAX_HITS", 1)
    told = scanner.answer([Text("users.conf", f"\n\n\n{SECRETS['aws']}{SECRETS['password']}")])
    assert (len(told.hits), told.read, told.truncated) == (1, 1, True)
    origin.commit({"tests/users.conf": "x\n"})
    runner = Broken(Completed((), 0, msgspec.json.encode(told).decode(), "", 1))
    entry = AllowedSecret(path="**", digest=told.hits[0].digest, reason="a mock", reviewed_by="ann")
    context = dataclasses.replace(await origin.context(policy=GatesSpec(allowed_secrets=(entry,))), runner=runner)
    with pytest.raises(ProbeBroken, match=r"tests/users\.conf has more finds than are told of one file"):
        await no_secrets(context)
    assert (await no_secrets(dataclasses.replace(context, policy=GatesSpec()))).verdict is Verdict.FAIL


@pytest.mark.parametrize("number", [1, 3000])
def test_wrapped_text_is_read_however_much_stands_before_it(number):
    """Thousands of harmless runs of base64 do not hide the one behind them; the line is that of the run."""
    runs = [base64.b64encode(f"harmless text number {n:05}".encode()).decode() for n in range(number)]
    runs.append(base64.b64encode(f"the words before it, {SECRETS['aws']}".encode()).decode())
    (hit,) = scan([Text("a.txt", "\n\n".join(runs))])
    assert hit.line == 2 * number + 1


async def test_the_candidates_own_exception_is_not_the_policys(origin):
    """What the branch writes into its sluice.toml excuses nothing: the policy comes from policy_ref."""
    entry = f'[[gates.allowed_secrets]]\npath = "**"\ndigest = "{digest_of(AWS)}"\nreason = "x"\nreviewed_by = "x"\n'
    origin.commit({"sluice.toml": f'name = "svc"\n{entry}', "a.conf": SECRETS["aws"]})
    assert (await no_secrets(await origin.context())).verdict is Verdict.FAIL


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


def test_thousands_of_names_that_are_finds_are_hidden_at_once():
    """Each name is looked for in what is said of its own file alone; no name is in the sentence."""
    names = [f"d/{noise(24, number)}" for number in range(4_000)]
    places = [Place(name, "d", f"{name}:1 password (commit c, digest d)") for name in names]
    seen = Seen(Span(()), places=places, named=set(names[1:]), truncated=names[:2])
    began = time.process_time()
    finding = _verdict(seen, ())
    assert time.process_time() - began < 0.5
    assert finding.detail.startswith(f"{names[0]}:1 password (commit c, digest d); a file's name:1 password (commit")
    assert not any(name in finding.detail for name in names[1:])


async def test_a_secret_behind_odd_line_ends_is_found(origin):
    """Characters at which a careless reader ends a line hide nothing."""
    origin.commit({"a.conf": f"x\fy\vz\u2028\x85\r {SECRETS['aws']}"})
    assert (await no_secrets(await origin.context())).verdict is Verdict.FAIL


def test_a_nul_does_not_end_the_scan():
    """The scanner is a C library; what stands behind a NUL is scanned all the same."""
    assert scan([Text("a.conf", f"x\0y\n{SECRETS['aws']}")]) != []


async def test_a_secret_written_while_merging_is_found(origin):
    """What a merge brings in by hand, from neither parent, is looked at too."""
    origin.commit({"a.txt": "ours\n"})
    origin.git("checkout", "--quiet", "main")
    origin.commit({"b.txt": "theirs\n"})
    origin.git("checkout", "--quiet", "feature/x")
    origin.git("merge", "--quiet", "--no-commit", "--no-ff", "main")
    origin.commit({"c.conf": SECRETS["aws"]})
    finding = await no_secrets(await origin.context())
    assert finding.verdict is Verdict.FAIL
    assert "c.conf:1" in finding.detail


async def test_what_is_in_main_already_is_not_the_branchs_fault(origin):
    """Only the branch's own commits are looked at."""
    origin.git("checkout", "--quiet", "main")
    origin.commit({"old.conf": SECRETS["aws"]})
    origin.git("checkout", "--quiet", "-b", "feature/y")
    origin.commit({"new.txt": "harmless\n"})
    assert (await no_secrets(await origin.context("feature/y"))).verdict is Verdict.PASS


async def test_merging_main_does_not_make_its_past_the_branchs_fault(origin):
    """The merge that `contains-main` asks for brings in what was accepted there; it is not looked at again."""
    origin.git("checkout", "--quiet", "main")
    origin.commit({"old.conf": SECRETS["aws"]})
    origin.git("checkout", "--quiet", "feature/x")
    origin.commit({"new.txt": "harmless\n"})
    origin.git("merge", "--quiet", "--no-ff", "main")
    assert (await no_secrets(await origin.context())).verdict is Verdict.PASS


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


async def test_binary_files_are_counted_and_huge_lines_are_read(origin):
    """A binary file is said to be unread; a secret at the end of a line of two megabytes is found."""
    origin.commit({"logo.png": bytes(range(256)) * 40, "bundle.js": f"var a=0;{'a=a+1;' * 350_000}{SECRETS['aws']}"})
    finding = await no_secrets(await origin.context())
    assert finding.verdict is Verdict.FAIL
    assert finding.metrics["binary"] == 1


@pytest.mark.alone
async def test_a_thousand_files_take_less_than_the_bar(origin):
    """The bar of the design: five seconds for a diff of a thousand files."""
    body = "".join(f"def function_{n}(argument):\n    return argument + {n}\n" for n in range(40))
    origin.commit({f"src/part{n % 20}/module_{n}.py": body for n in range(1000)})
    context = await origin.context()
    began = time.monotonic()
    finding = await no_secrets(context)
    assert finding.verdict is Verdict.PASS
    assert finding.metrics["files"] == 1000
    assert time.monotonic() - began < 5


class Broken:
    """A runner whose every command ends as told."""

    def __init__(self, done: Completed) -> None:
        self.done = done

    async def run(self, *_: object, **__: object) -> Completed:
        return self.done


@pytest.mark.parametrize(
    "done",
    [
        Completed((), 1, "", "boom", 1),
        Completed((), 0, "nonsense", "", 1),
        Completed((), 0, '{"hits": [], "read": 0}', "", 1),
        Completed((), 0, '{"hits": [], "read": 9}', "", 1),
        Completed((), -9, "", "", 1, timed_out=True),
    ],
)
async def test_a_scanner_that_breaks_is_neither_good_nor_bad(origin, done):
    """A crash, nonsense or a deadline is the probe's fault, never a pass."""
    origin.commit({"a.txt": "x\n"})
    context = dataclasses.replace(await origin.context(), runner=Broken(done))
    with pytest.raises(ProbeBroken):
        await no_secrets(context)


def test_lines_of_every_hunk_keep_their_place():
    """Line numbers are those of the file after the commit; what was there before is marked, and parts stay apart."""
    patch = (
        "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,3 @@\n same\n+one\n-gone\n+two\n"
        "@@ -10 +11,2 @@ def f\n same\n+++ three\n\\ No newline at end of file\n"
    )
    added, binary = parse_patch("f" * 40, patch)
    assert binary == []
    assert added == [Added("f" * 40, "x", "same\none\ntwo\n\nsame\n++ three", (1, 2, 3, 11, 11, 12), (1, 4, 5))]


def test_of_a_merge_only_what_no_parent_had_is_added():
    """A combined diff has one column per parent."""
    patch = "diff --cc x\n--- a/x\n+++ b/x\n@@@ -1,1 -1,1 +1,3 @@@\n  both\n+ from one side\n++by hand\n"
    (added,), _ = parse_patch("f" * 40, patch)
    assert (added.text, added.lines) == ("both\nfrom one side\nby hand", (1, 2, 3))
    assert added.old == (1, 2)


def test_a_hunk_that_only_takes_away_is_not_looked_at():
    """What is left around a removed line is nobody's addition."""
    patch = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,3 +1,2 @@\n same\n-gone\n more\n"
    assert parse_patch("f" * 40, patch) == ([], [])
