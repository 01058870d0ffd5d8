"""A town whose commits are made by whom one says, signed or not."""

from __future__ import annotations

RULE = "approver_not_author = true"


BY_KEYS = 'approver_not_author = "by-key"'


class People:
    """A town whose commits are made by whom one says, signed or not."""

    def __init__(self, town) -> None:
        self.town, self.count = town, 0

    def change(self, author, *, key="", message="", committer="", merge=""):
        """A commit on main by `author`, or with `merge` one that joins this branch."""
        self.count += 1
        if merge:
            self.town.git("merge", "-q", "--no-ff", "--no-commit", merge)
        (self.town.origin / f"file{self.count}").write_text("x")
        self.town.git("add", "-A")
        signing = ["-c", "gpg.format=ssh", "-c", f"user.signingkey={self.town.folder / key}"] if key else []
        options = ["--author", f"{author} <{author.lower()}@example.org>", *(["-S"] if key else [])]
        words = [*signing, "commit", "-qm", message or f"Change {self.count}", *options]
        self.town.git(*words, author=committer or author)

    def begin_anew(self, rule, key="ann", extra=""):
        """A history whose first commit is signed, with this rule in its policy."""
        self.town.git("checkout", "-q", "--orphan", "fresh")
        text = self.town.spec.format(**self.town.keys).replace(RULE, rule) + extra
        (self.town.origin / "sluice.toml").write_text(text)
        self.change("Ann", key=key)
        self.town.git("branch", "-M", "fresh", "main")

    async def promoted(self):
        """Bob approved, and it went."""
        await self.town.proven()
        await self.town.signed()
        result = await self.town.promote()
        assert result.exit_code == 0, result.what


BOB = '[signers.bob]\nkeys = ["{bob}"]\nmay = ["approve"]\n'


def bobs(town, *entries):
    """The town's policy with other entries for Bob."""
    assert BOB in town.spec
    return town.spec.replace(BOB, "".join(entries)).format(**town.keys)
