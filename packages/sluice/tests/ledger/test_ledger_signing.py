"""The ledger's key: who holds it signed, who does not cannot, and OpenSSH alone can tell the difference."""

from __future__ import annotations

import json
import subprocess

import pytest

from sluice import disk
from sluice.journal import canonical
from sluice.ledger import GENESIS, Ledger, PublicKey, record_hash
from sluice.ledger.signing import LedgerKey
from sluice.model.errors import StateCorrupted, StepFailed


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    """Three records under one key."""
    made = Ledger(tmp_path / "ledger.jsonl")
    for number in (1, 2, 3):
        made.append({"type": "rollout", "run": f"run-{number}", "owner": "ann", "ended": "2026-01-01T00:00:00Z"})
    return made


def signed_anew(ledger: Ledger, path, **changes) -> None:
    """The whole chain written again with another owner, signed by the key at `path`."""
    key, previous, lines = LedgerKey(path), GENESIS, []
    public = key.make()
    for line in ledger.lines():
        record = {**json.loads(line), **changes, "previous": previous, "ledger_key": public.fingerprint}
        record["hash"] = previous = record_hash(record)
        record["signature"] = key.sign(previous.encode())
        lines.append(canonical(record) + b"\n")
    ledger.path.write_bytes(b"".join(lines))


def test_a_chain_signed_anew_with_another_key_is_named(ledger, tmp_path):
    """Rewritten as a whole, hashes and all: the environment's own key did not sign it."""
    signed_anew(ledger, tmp_path / "mallory", owner="mallory")
    verdict = ledger.verify()
    assert (verdict.code, verdict.number) == ("key-foreign", 1)
    with pytest.raises(StateCorrupted, match="another key"):
        ledger.append({"type": "rollout", "run": "run-4"})


def test_a_fingerprint_alone_signs_nothing(ledger, tmp_path):
    """Whoever claims the right key but signed with another is named by the signature."""
    fingerprint = ledger.key().fingerprint
    signed_anew(ledger, tmp_path / "mallory")
    claimed, previous = [], GENESIS
    for line in ledger.lines():
        record = {**json.loads(line), "ledger_key": fingerprint, "previous": previous}
        record["hash"] = previous = record_hash(record)
        claimed.append(canonical(record) + b"\n")
    ledger.path.write_bytes(b"".join(claimed))
    assert (ledger.verify().code, ledger.verify().number) == ("signature-invalid", 1)


@pytest.mark.parametrize("signature", [None, "", "AAAA", "not base64 at all", 7])
def test_a_record_without_a_signature_of_its_own_is_named(ledger, signature):
    """Taken out, emptied or replaced by something else: the record is not one of this ledger."""
    lines = ledger.lines()
    record = json.loads(lines[1])
    del record["signature"]
    if signature is not None:
        record["signature"] = signature
    lines[1] = canonical(record)
    ledger.path.write_bytes(b"".join(line + b"\n" for line in lines))
    assert (ledger.verify().code, ledger.verify().number) == ("signature-invalid", 2)


def test_another_records_signature_is_none_of_this_record(ledger):
    """A signature says one hash."""
    lines = ledger.lines()
    record = json.loads(lines[1])
    record["signature"] = json.loads(lines[0])["signature"]
    lines[1] = canonical(record)
    ledger.path.write_bytes(b"".join(line + b"\n" for line in lines))
    assert ledger.verify().code == "signature-invalid"


def test_a_lost_key_is_not_made_anew(ledger):
    """With the public half left the records can be judged, and none can be added; with neither, that is the finding."""
    ledger._key.path.unlink()
    again = Ledger(ledger.path)
    assert again.verify().ok
    with pytest.raises(StateCorrupted, match="is not there any more"):
        again.append({"type": "rollout", "run": "run-4"})
    again._key.public_path.unlink()
    assert again.verify().code == "key-missing"
    with pytest.raises(StateCorrupted, match="key is missing"):
        again.records()
    assert not again._key.path.exists()


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"])
def test_a_damaged_key_is_named_and_left_as_it_is(ledger, content):
    """Nothing is signed by halves, and nothing is overwritten."""
    ledger._key.path.write_bytes(content)
    with pytest.raises(StateCorrupted, match=r"ledger\.key"):
        Ledger(ledger.path).append({"type": "rollout", "run": "run-4"})
    assert ledger._key.path.read_bytes() == content


def test_a_key_of_another_kind_is_refused(ledger, tmp_path):
    """Only Ed25519: there is one kind of signature to judge."""
    ledger._key.path.unlink()
    command = ["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(ledger._key.path)]
    subprocess.run(command, check=True, timeout=20, input=b"y\n", capture_output=True)
    with pytest.raises(StateCorrupted, match="not an Ed25519 key"):
        Ledger(ledger.path).key()
    for line in ("", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-rsa AAAA"):
        with pytest.raises(ValueError, match=r"Ed25519|base64|padding"):
            PublicKey.parse(line)


def test_a_full_disk_leaves_no_half_key(tmp_path, monkeypatch):
    """The first append fails with a sentence, and succeeds once there is room."""
    ledger = Ledger(tmp_path / "ledger.jsonl")

    def full(handle: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    whole = disk.write_all
    monkeypatch.setattr(disk, "write_all", full)
    with pytest.raises(StepFailed, match="No space left"):
        ledger.append({"type": "rollout", "run": "run-1"})
    assert not ledger._key.path.exists()
    monkeypatch.setattr(disk, "write_all", whole)
    assert ledger.append({"type": "rollout", "run": "run-1"})["n"] == 1


def test_the_key_is_for_its_owner_alone(ledger):
    """Mode 0600 from the first byte; the .pub beside it is its public half, and the record names its fingerprint."""
    private, public = ledger._key.path, ledger._key.public_path
    assert private.stat().st_mode & 0o777 == 0o600
    told = subprocess.run(["ssh-keygen", "-lf", str(public)], check=True, capture_output=True, text=True, timeout=20)
    assert told.stdout.split()[1] == ledger.key().fingerprint == ledger.records()[0]["ledger_key"]
    assert PublicKey.parse(public.read_text()) == ledger.key()
    assert b"PRIVATE" not in ledger.path.read_bytes()


def armoured(signature):
    """As `ssh-keygen -Y verify -s` reads it."""
    lines = [signature[at : at + 70] for at in range(0, len(signature), 70)]
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])


def test_openssh_alone_can_check_a_record(ledger, tmp_path):
    """`ssh-keygen -Y verify` takes the signature over the record's hash and no other: an auditor needs no Sluice."""
    record = ledger.records()[1]
    (tmp_path / "signature").write_text(armoured(record["signature"]))
    (tmp_path / "signers").write_text(f'ledger namespaces="sluice-ledger" {ledger.key().line}\n')
    command = ["ssh-keygen", "-Y", "verify", "-f", "signers", "-I", "ledger", "-n", "sluice-ledger", "-s", "signature"]
    for message, code in ((record["hash"], 0), (record["hash"][::-1], 255)):
        done = subprocess.run(
            command, cwd=tmp_path, input=message.encode(), capture_output=True, timeout=20, check=False
        )
        assert done.returncode == code, done.stderr


def test_openssh_can_sign_what_the_ledger_takes(ledger, tmp_path):
    """The key file is OpenSSH's own: its signature is letter for letter ours."""
    record = ledger.records()[2]
    command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(ledger._key.path), "-n", "sluice-ledger"]
    done = subprocess.run(command, input=record["hash"].encode(), check=True, capture_output=True, timeout=20)
    assert done.stdout.decode().split() == armoured(record["signature"]).split()


def test_a_public_half_of_another_key_is_named(ledger, tmp_path):
    """It is what people copy and compare: replaced, or made unreadable, it is a finding with the way to mend it."""
    public = ledger._key.public_path
    right = public.read_text()
    for wrong, words in ((LedgerKey(tmp_path / "mallory").make().line, "is another key"), ("junk", "cannot be read")):
        public.write_text(wrong)
        verdict = Ledger(ledger.path).verify()
        assert (verdict.code, verdict.number, words in verdict.problem) == ("key-foreign", 0, True)
    made = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(ledger._key.path)], check=True, capture_output=True, timeout=20
    )
    public.write_bytes(made.stdout)
    assert Ledger(ledger.path).verify().ok
    assert right.split()[1] == public.read_text().split()[1]


def test_files_that_others_may_use_are_a_note(ledger):
    """No record is another for it, so it is no problem: a key that may be read, a ledger that may be written to."""
    assert ledger.verify().notes == ()
    ledger._key.path.chmod(0o640)
    ledger.path.chmod(0o666)
    verdict = ledger.verify()
    assert verdict.ok
    assert [note for note in verdict.notes if "others may read ledger.key" in note and "0640" in note]
    assert [note for note in verdict.notes if "others may write to ledger.jsonl" in note and "0666" in note]
