"""What excuses a find and what does not, and that no find is hidden behind others or shown by its file's name."""

from __future__ import annotations

import dataclasses
import time

import msgspec
import pytest

from sluice.gates import scanner
from sluice.gates.secret_finds import Text
from sluice.gates.secret_span import Span
from sluice.gates.secret_values import digest_of
from sluice.gates.secrets import Place, Seen, _verdict, no_secrets
from sluice.model.errors import ProbeBroken
from sluice.model.policy import AllowedSecret, GatesSpec
from sluice.model.release import Completed
from sluice.model.verdict import Verdict

from .secret_samples import AWS, SECRETS, Broken, allowed, noise


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


@pytest.mark.parametrize("mark", ["gitleaks:allow", "betterleaks:allow", "#gitleaks:allow"])
async def test_the_candidate_cannot_excuse_itself(origin, mark):
    """An allow mark in the branch's own text does not hide a secret from the gate."""
    origin.commit({"a.py": f'key = "{AWS}"  # {mark}\n'})
    assert (await no_secrets(await origin.context())).verdict is Verdict.FAIL


async def test_the_candidates_own_exception_is_not_the_policys(origin):
    """What the branch writes into its sluice.toml excuses nothing: the policy comes from policy_ref."""
    entry = f'[[gates.allowed_secrets]]\npath = "**"\ndigest = "{digest_of(AWS)}"\nreason = "x"\nreviewed_by = "x"\n'
    origin.commit({"sluice.toml": f'name = "svc"\n{entry}', "a.conf": SECRETS["aws"]})
    assert (await no_secrets(await origin.context())).verdict is Verdict.FAIL


async def test_a_name_that_is_allowed_in_one_folder_is_a_find_in_another(origin):
    """Both are said in the same words, because neither shows its path; the allow-list tells them apart."""
    name = "gh" + "p_" + noise(36, 5)
    origin.commit({f"tests/{name}.txt": "x\n", f"backup/{name}.txt": "x\n"})
    for path, found in (("tests/**", 1), ("**", 0)):
        policy = GatesSpec(allowed_secrets=(allowed(path, name),))
        assert (await no_secrets(await origin.context(policy=policy))).metrics["found"] == found


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
