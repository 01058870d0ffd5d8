"""What people signed for an environment, one JSON file each: approvals of plans and signed-off items of checklists."""

from __future__ import annotations

from pathlib import Path

import msgspec

from sluice.hosts.state import write_file
from sluice.model.errors import StateCorrupted
from sluice.model.promotion import Approval

READ = 500  # the newest; each holds for hours, and nobody signs hundreds of plans in them


class FileApprovals:
    """drive.world.Approvals. Nothing is ever changed or overwritten; the ledger holds each signature's digest."""

    def __init__(self, folder: Path) -> None:
        """Touches nothing."""
        self._folder = folder

    def all(self) -> list[Approval]:
        """Newest first. Raises StateCorrupted for a file that cannot be read."""
        paths = sorted(self._folder.glob("*.json"), reverse=True)[:READ] if self._folder.is_dir() else []
        return [self._read(path) for path in paths]

    def add(self, approval: Approval) -> None:
        """Keep it. Raises Refused when the disk does not take it."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        raw = msgspec.json.format(msgspec.json.encode(approval), indent=1)
        write_file(self._folder / f"{approval.run}-{approval.digest[:16]}.json", raw + b"\n")

    def _read(self, path: Path) -> Approval:
        try:
            return msgspec.json.decode(path.read_bytes(), type=Approval)
        except msgspec.DecodeError as error:
            raise StateCorrupted(
                f"{path} is damaged: {error}.",
                next="move the file away and let it be signed again; its ledger record stays",
                file=str(path),
            ) from error
