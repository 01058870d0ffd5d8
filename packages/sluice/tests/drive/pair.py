"""A test environment that has proven `main`, and the prod it is promoted to: both in memory, with real ledgers."""

from __future__ import annotations

import dataclasses

import msgspec

from sluice.drive import Request, Sibling
from sluice.drive.promotion import plan_promotion
from sluice.drive.world import PromotionMeans
from sluice.hosts.approvals import FileApprovals
from sluice.hosts.signing import BadSignature, Signed
from sluice.ledger import Ledger
from sluice.model.policy import PromotionSpec, Role, Signer
from sluice.model.promotion import document, expiry
from sluice.model.release import Completed
from sluice.model.spec import EnvironmentName
from sluice.testing import SPEC, MemoryWorld

ASK = Request("olga@host", "test")
MAIN = Request("ann@host", "test", "main")
SIGNERS = {
    "bob": Signer(("ssh-ed25519 bob",), (Role.APPROVE, Role.CHECKLIST)),
    "eve": Signer(("ssh-ed25519 eve",), (Role.APPROVE,)),
    "ann": Signer(("ssh-ed25519 ann",), (Role.APPROVE,), ("Ann A.",)),
}
POLICY = msgspec.structs.replace(SPEC, signers=SIGNERS, promotion=PromotionSpec(approver_not_author=True))


class Signatures:
    """Stands in for ssh-keygen: a signature is `KEY over DIGEST of the text`."""

    def __init__(self) -> None:
        self.answers = {"test -w /data": 0}
        self.ran: list[str] = []

    @staticmethod
    def sign(text, key):
        return f"{key} over {hash(text)}"

    async def verify(self, raw, signature, signers, role):
        key, _, digest = signature.partition(" over ")
        if digest != str(hash(raw.decode())):
            raise BadSignature("SignatureAltered", "altered")
        for name, signer in signers.items():
            if f"ssh-ed25519 {key}" in signer.keys:
                if role not in signer.may:
                    raise BadSignature("SignatureRole", "not for that")
                return Signed(name, f"SHA256:{key}")
        raise BadSignature("SignatureForeign", "nobody's")

    async def run(self, argv, *, timeout_s, **_options):
        words = " ".join(argv)
        self.ran.append(words)
        return Completed(tuple(argv), self.answers.get(words, 1), "", f"{words}: no", 1, timed_out=timeout_s < 0)


async def nothing():
    """No doubt about the ledgers."""
    return ""


@dataclasses.dataclass
class Pair:
    """A test environment where `main` is proven, and the prod it is promoted to."""

    test: MemoryWorld
    prod: MemoryWorld
    tools: Signatures

    def policy(self, promotion=POLICY.promotion, signers=None):
        spec = msgspec.structs.replace(POLICY, promotion=promotion, signers=signers or SIGNERS)
        self.prod.specs["main"] = spec

    async def plan(self):
        return await plan_promotion(self.prod.world(), "", lambda _text: None)

    async def signed(self, key, *, role=Role.APPROVE, item="", ttl_s=3600.0, alter="", expires=""):
        async def sign(plan):
            until = expires or expiry(self.prod.clock.now(), ttl_s)
            text = document(("shop", "prod"), plan.hash, plan.promotion, until, item)
            signature = self.tools.sign(text, key)
            return text.replace("commits: all there are", alter) if alter else text, signature

        return await self.prod.drive().sign(ASK, role, sign)

    async def promote(self, branch=""):
        return await self.prod.drive().promote(Request("olga@host", "test", branch))

    async def denied(self, code, branch=""):
        """The promotion is refused with this code, that is recorded, and prod is as it was."""
        before = self.prod.pointed
        result = await self.promote(branch)
        assert (result.exit_code, result.record["refusal"]) == (1, code), result.what
        assert result.record["type"] == "promotion"
        assert self.prod.pointed == before
        assert Ledger(self.prod.paths.ledger).verify().ok
        return result


def later(pair, seconds):
    """Time passes."""
    pair.prod.clock.elapsed += seconds


async def proven_pair(tmp_path):
    """Proven in test, nothing in prod yet."""
    for name in ("test", "prod"):
        (tmp_path / name).mkdir()
    test = MemoryWorld(tmp_path / "test")
    assert (await test.drive().rollout(MAIN)).exit_code == 0
    tools = Signatures()
    prod = MemoryWorld(tmp_path / "prod", environment=EnvironmentName.PROD)
    prod.clock = test.clock
    prod.artifact = test.artifact
    approvals = FileApprovals(prod.paths.env_dir / "approvals")
    prod.promotion = PromotionMeans(Sibling(test.paths, test.releases, 5), approvals, tools.verify, tools, nothing)
    pair = Pair(test, prod, tools)
    pair.policy()
    return pair
