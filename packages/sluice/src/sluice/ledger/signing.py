"""The ledger key: Ed25519 in OpenSSH's own formats, so that `ssh-keygen` alone can check what Sluice signed.

A signature is an SSHSIG (PROTOCOL.sshsig of OpenSSH) over the record's hash, in base64 without the armour. It is made
and checked in this process: a thousand of them cost a tenth of a second (docs/decisions/0008).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sluice.journal import replace_file
from sluice.model.errors import StateCorrupted

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

NAMESPACE = b"sluice-ledger"  # a signature made for anything else is none of a record
KEY_TYPE = b"ssh-ed25519"
KEY_BYTES = 32  # of a public key
SIGNATURE_BYTES = 64
MAX_KEY_FILE = 4096  # an Ed25519 key without a passphrase is 400 bytes


def _string(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half of a ledger key."""

    raw: bytes

    @property
    def blob(self) -> bytes:
        return _string(KEY_TYPE) + _string(self.raw)

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` prints it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    @property
    def line(self) -> str:
        """As in a .pub file, without a comment."""
        return f"{KEY_TYPE.decode()} {base64.b64encode(self.blob).decode()}"

    @classmethod
    def parse(cls, line: str) -> PublicKey:
        """Raises ValueError for anything but a line of an Ed25519 key; a comment after it is not looked at."""
        words = line.split()
        if len(words) < 2 or words[0] != KEY_TYPE.decode():
            raise ValueError("not the line of an Ed25519 public key")
        blob = base64.b64decode(words[1], validate=True)
        made = cls(blob[-KEY_BYTES:])
        if made.blob != blob:
            raise ValueError("not an Ed25519 public key")
        return made

    def vouches(self, signature: str, message: bytes) -> bool:
        """Whether this key made the signature over exactly this message, and whether it is spelt in the one way."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            blob = base64.b64decode(signature, validate=True)
        except (binascii.Error, ValueError):
            return False
        bare = blob[-SIGNATURE_BYTES:]
        if signature != _sshsig(self, bare):
            return False
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(bare, _signed(message))
        except InvalidSignature:
            return False
        return True


def _signed(message: bytes) -> bytes:
    return b"SSHSIG" + b"".join(map(_string, (NAMESPACE, b"", b"sha512", hashlib.sha512(message).digest())))


def _sshsig(key: PublicKey, bare: bytes) -> str:
    inner = _string(KEY_TYPE) + _string(bare)
    parts = (key.blob, NAMESPACE, b"", b"sha512", inner)
    return base64.b64encode(b"SSHSIG" + (1).to_bytes(4, "big") + b"".join(map(_string, parts))).decode()


class LedgerKey:
    """The key file of one environment and the .pub file beside it. Nothing is read or made before it is asked for."""

    def __init__(self, path: Path) -> None:
        """`path` is the private half."""
        self.path = path
        self.public_path = path.with_name(f"{path.name}.pub")
        self._private: Ed25519PrivateKey | None = None

    def public(self) -> PublicKey | None:
        """The key that records are checked by; None when neither half is there. Raises StateCorrupted."""
        if self.path.exists():
            return _public_of(self._load())
        try:
            return PublicKey.parse(self.public_path.read_text("ascii"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise self._damaged(self.public_path, "cannot be read as an Ed25519 public key") from error

    def apart(self) -> str:
        """Why the two halves are not of one key, in a sentence; "" where they are, or one is not there."""
        if not self.path.exists():
            return ""
        own = _public_of(self._load())
        try:
            beside = PublicKey.parse(self.public_path.read_text("ascii"))
        except FileNotFoundError:
            return ""
        except (OSError, ValueError):
            return f"{self.public_path.name} cannot be read as an Ed25519 public key"
        if beside == own:
            return ""
        return (
            f"{self.public_path.name} is another key ({beside.fingerprint}) than {self.path.name}'s ({own.fingerprint})"
        )

    def usable(self) -> None:
        """Raises StateCorrupted when the private half is gone or damaged. It must have been made."""
        self._load()

    def sign(self, message: bytes) -> str:
        """Raises StateCorrupted when the private half is gone or damaged. It must have been made."""
        private = self._load()
        return _sshsig(_public_of(private), private.sign(_signed(message)))

    def make(self) -> PublicKey:
        """The public key, the pair made if it is not there. Raises StateCorrupted, and StepFailed on a full disk."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        if not self.path.exists():
            private = Ed25519PrivateKey.generate()
            plain = serialization.NoEncryption()
            pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, plain)
            replace_file(self.path, pem)
        public = _public_of(self._load())
        line = f"{public.line} sluice ledger\n".encode("ascii")
        if not self.public_path.exists() or self.public_path.read_bytes() != line:
            replace_file(self.public_path, line)
        return public

    def _load(self) -> Ed25519PrivateKey:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_ssh_private_key

        if self._private is None:
            try:
                with self.path.open("rb") as file:
                    found = load_ssh_private_key(file.read(MAX_KEY_FILE), None)
            except FileNotFoundError as error:
                raise self._damaged(self.path, "is not there any more, and records were signed with it") from error
            except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
                raise self._damaged(self.path, "cannot be read as a private key without a passphrase") from error
            if not isinstance(found, Ed25519PrivateKey):
                raise self._damaged(self.path, "is not an Ed25519 key")
            self._private = found
        return self._private

    def _damaged(self, path: Path, why: str) -> StateCorrupted:
        return StateCorrupted(
            f"{path} {why}.",
            world="Nothing was recorded or overwritten; the release that serves goes on serving.",
            next="restore it from a backup; without it no record can be added to this ledger",
            file=str(path),
        )


def _public_of(private: Ed25519PrivateKey) -> PublicKey:
    return PublicKey(private.public_key().public_bytes_raw())
