"""`checks-passed` by signed notes: recorded in a real clone with real SSH keys, judged from the server's mirror."""

from __future__ import annotations

import json

import msgspec
import pytest

from sluice.gates.attestation import MAX_RECORDS, Ran, attestation_of, document_of, line_of, signed_of
from sluice.gates.context import Asked
from sluice.hosts.signing import sign
from sluice.model.errors import Refused
from sluice.model.policy import GatesSpec, PromotionSpec, Proof, Role
from sluice.model.promotion import Former
from sluice.model.secret import Redactor
from sluice.model.verdict import Verdict
from sluice.runner import LocalRunner

from .desk import CHECKS, codes


async def test_without_a_note_nobody_knows(desk):
    """The sentence names the commands, the fix the command that records them."""
    finding = await desk.judge()
    assert finding.verdict is Verdict.FAIL
    assert codes(finding) == ["ChecksNoNote"]
    assert "test -f README.md" in finding.detail
    assert "sluice check --record" in finding.fix


async def test_a_pushed_record_proves(desk):
    """Who signed, with which key, what ran and over which tree is the evidence; the work tree was left alone."""
    (desk.folder / "unfinished.txt").write_text("not committed\n")
    done = await desk.record()
    finding = await desk.judge()
    assert finding.verdict is Verdict.PASS
    assert "ann (SHA256:" in finding.detail
    assert done.tree[:12] in finding.detail
    assert [one.exit_code for one in done.results] == [0, 0]
    assert done == attestation_of(signed_of(desk.note()[0]).document)
    assert (desk.folder / "unfinished.txt").exists()
    told = attestation_of(signed_of(desk.note()[0]).document)
    assert {"sluice", "git", "ssh", "python", "system"} <= set(told.tools)
    assert told.started <= told.ended


async def test_in_a_promotion_the_policies_before_must_let_the_key_sign_too(desk, keyring):
    """A signer of checks whom the candidate itself brings in proves nothing; under another name the key is the same."""
    await desk.record()
    own = desk.signers["ann"]
    other = keyring.signer(keyring.make("other"))
    approver = msgspec.structs.replace(own, may=(Role.APPROVE,))
    for before, code in (
        ([{"anna": own}], []),
        ([{"anna": own}, {"zoe": other}], ["PolicyChanged"]),
        ([{"ann": approver}], ["PolicyChanged"]),
    ):
        formers = [Former(f"run-{n}", GatesSpec(), PromotionSpec(), signers) for n, signers in enumerate(before)]
        finding = await desk.judge(asked=Asked(before=formers))
        assert codes(finding) == code, finding.detail
        assert finding.verdict is (Verdict.FAIL if code else Verdict.PASS)


async def test_a_record_that_was_not_pushed_proves_nothing(desk):
    """The server sees the origin alone."""
    await desk.record(push=False)
    assert codes(await desk.judge()) == ["ChecksNoNote"]


async def test_a_note_copied_to_another_commit_is_refused(desk):
    """The record is bound to the tree it was made over."""
    await desk.record()
    lines = desk.note()
    desk.origin.commit({"a.txt": "2\n"})
    desk.rewrite(*lines)
    finding = await desk.judge()
    assert finding.verdict is Verdict.FAIL
    assert codes(finding) == ["ChecksOtherTree"]
    assert "it is about tree" in finding.detail


async def test_another_commit_with_the_same_tree_may_use_it(desk):
    """What was checked are the files, so a commit whose message alone was mended keeps its proof."""
    await desk.record()
    lines = desk.note()
    desk.origin.git("commit", "--quiet", "--amend", "--message", "said better")
    desk.rewrite(*lines)
    assert (await desk.judge()).verdict is Verdict.PASS


async def test_an_altered_record_is_refused(desk):
    """One letter of what was signed changed: the signature is no longer about it."""
    await desk.record()
    line = json.loads(desk.note()[0])
    line["document"] = line["document"].replace('"ms":', '"ms":1')
    desk.rewrite(json.dumps(line))
    finding = await desk.judge()
    assert codes(finding) == ["SignatureAltered"]
    assert "altered after it was signed" in finding.detail


async def test_a_foreign_key_is_refused(desk, keyring):
    """A true signature of somebody the policy does not know; recording with such a key is refused beforehand."""
    await desk.record()
    mallory = keyring.make("mallory")
    document = signed_of(desk.note()[0]).document
    desk.rewrite(line_of(document, await sign(LocalRunner(Redactor()), document.encode(), mallory, Role.CHECKS)))
    finding = await desk.judge()
    assert codes(finding) == ["SignatureForeign"]
    assert "is nobody's" in finding.detail
    with pytest.raises(Refused, match="does not belong to anybody who may sign checks"):
        await desk.record(key=mallory)


async def test_a_signer_without_the_role_is_refused(desk, keyring):
    """Somebody who may approve is not thereby somebody who says the checks passed."""
    await desk.record()
    desk.signers = {"ann": keyring.signer(desk.ann, Role.APPROVE)}
    finding = await desk.judge()
    assert codes(finding) == ["SignatureRole"]
    with pytest.raises(Refused, match="the policy names nobody"):
        await desk.record()


async def test_the_role_of_any_name_a_key_has_counts(desk, keyring):
    """Whoever has the role may sign, whichever of the two stands first in the policy."""
    await desk.record()
    desk.signers = {"deputy": keyring.signer(desk.ann, Role.APPROVE), **desk.signers}
    finding = await desk.judge()
    assert finding.verdict is Verdict.PASS
    assert "ann (SHA256:" in finding.detail


async def test_a_signature_for_something_else_is_refused(desk):
    """The same key over the same text in another namespace (an approval, say) proves no checks."""
    await desk.record()
    document = signed_of(desk.note()[0]).document
    desk.rewrite(line_of(document, await sign(LocalRunner(Redactor()), document.encode(), desk.ann, Role.APPROVE)))
    assert codes(await desk.judge()) == ["SignatureAltered"]


async def test_a_record_of_other_commands_is_refused(desk):
    """The policy asks for more since: both lists are in the sentence."""
    await desk.record()
    finding = await desk.judge(GatesSpec(checks=(*CHECKS, ("make", "lint"))))
    assert codes(finding) == ["ChecksOtherCommands"]
    assert "make lint" in finding.detail


@pytest.mark.parametrize("text", ["", "no json", '{"document": 1}', "\0\0", '{"document": "{}", "signature": "x"}'])
async def test_a_note_of_something_else_is_refused(desk, text):
    """A note somebody wrote by hand is no record, and breaks nothing."""
    desk.rewrite(text, "{}")
    finding = await desk.judge()
    assert finding.verdict is Verdict.FAIL
    assert codes(finding)


async def signed_by_ann(desk, **changes):
    """Ann signs a record that says something untrue."""
    document = signed_of(desk.note()[0]).document
    text = document_of(msgspec.structs.replace(attestation_of(document), **changes))
    desk.rewrite(line_of(text, await sign(LocalRunner(Redactor()), text.encode(), desk.ann, Role.CHECKS)))


async def test_a_signed_record_of_a_failure_is_refused(desk):
    """A signature says who speaks, not that it went well."""
    await desk.record()
    await signed_by_ann(desk, results=tuple(Ran(argv, 2, 1) for argv in CHECKS))
    finding = await desk.judge()
    assert codes(finding) == ["ChecksFailed"]
    assert "ended with exit code 2" in finding.detail


async def test_a_signed_record_without_its_results_is_refused(desk):
    """The right commands' hash over fewer results proves nothing."""
    await desk.record()
    await signed_by_ann(desk, results=(Ran(CHECKS[0], 0, 1),))
    assert codes(await desk.judge()) == ["ChecksMissing"]


async def test_one_good_record_among_bad_ones_is_enough(desk, keyring):
    """Nobody can spoil somebody else's proof by adding lines to the note."""
    await desk.record()
    good = desk.note()[0]
    desk.rewrite("{}", good, *["rubbish"] * 2 * MAX_RECORDS)
    assert (await desk.judge()).verdict is Verdict.PASS


async def test_main_itself_needs_the_proof_too(desk):
    """The policy's own branch is checked like any other."""
    assert (await desk.judge(branch="main")).verdict is Verdict.FAIL


async def test_without_rules_it_is_skipped(desk):
    """A policy that names no checks asks for none, and says so."""
    finding = await desk.judge(GatesSpec())
    assert finding.verdict is Verdict.SKIPPED
    assert "names no checks" in finding.detail


async def test_a_status_without_a_forge_is_an_error(desk):
    """What the policy asks for and this host cannot tell is neither good nor bad."""
    finding = await desk.judge(GatesSpec(checks_proof=Proof.STATUS))
    assert finding.verdict is Verdict.ERROR
    assert "[service.NAME.forge]" in finding.fix
