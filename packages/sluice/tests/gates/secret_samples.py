"""What looks like a secret, put together at run time; its exception in the policy; and a runner that breaks."""

from __future__ import annotations

import hashlib
import random

from sluice.gates.secret_values import digest_of
from sluice.model.policy import AllowedSecret
from sluice.model.release import Completed


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


def allowed(path: str, value: str) -> AllowedSecret:
    """The reviewed exception for a value."""
    return AllowedSecret(path=path, digest=digest_of(value), reason="the key of a mock", reviewed_by="ann")


class Broken:
    """A runner whose every command ends as told."""

    def __init__(self, done: Completed) -> None:
        self.done = done

    async def run(self, *_: object, **__: object) -> Completed:
        return self.done
