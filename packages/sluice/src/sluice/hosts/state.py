"""Where Sluice keeps its state."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sluice import disk
from sluice.model.errors import Refused, StateCorrupted

HOST_KEY_BYTES = 32  # as long as the HMAC-SHA256 it keys


def default_root(environment: Mapping[str, str]) -> Path:
    """$SLUICE_STATE, else ~/.local/state/sluice."""
    chosen = environment.get("SLUICE_STATE")
    return Path(chosen).absolute() if chosen else Path.home() / ".local" / "state" / "sluice"


def write_file(path: Path, content: bytes, mode: int = 0o600, *, through: Path | None = None) -> None:
    """Replace a file whole (sluice.disk.replace). Raises Refused when the disk does not take it."""
    try:
        disk.replace(path, content, mode, through=through)
    except OSError as error:
        raise Refused(
            f"{path} could not be written: {error.strerror}.",
            world="The file is as it was.",
            next="free some disk space or correct the permissions of the state folder, then repeat the command",
            file=str(path),
        ) from error


def _be(folder: Path, mode: int) -> None:
    # On a disk that has become read-only, what only reads still works.
    if folder.stat().st_mode & 0o777 != mode:
        folder.chmod(mode)


@dataclass(frozen=True)
class StatePaths:
    """Every path of one environment's state. Only `prepare` touches the disk.

    `artifacts` and `data_dir` are all that a `run_as` user can reach: `prepare(shared=True)` makes the folders on the
    way to them searchable (0711: not listable), and everything else stays 0700.
    """

    root: Path
    service: str
    environment: str

    @property
    def service_dir(self) -> Path:
        return self.root / self.service

    @property
    def repo(self) -> Path:
        return self.service_dir / "repo.git"

    @property
    def artifacts(self) -> Path:
        return self.service_dir / "artifacts"

    @property
    def env_dir(self) -> Path:
        return self.service_dir / "envs" / self.environment

    @property
    def data_dir(self) -> Path:
        """The service's own folder in this environment: {state} in sluice.toml."""
        return self.service_dir / "data" / self.environment

    @property
    def lock(self) -> Path:
        return self.env_dir / "lock"

    @property
    def lock_info(self) -> Path:
        return self.env_dir / "lock.json"

    @property
    def journal_dir(self) -> Path:
        return self.env_dir / "journal"

    @property
    def runs_dir(self) -> Path:
        """What each run said; made by the first one."""
        return self.env_dir / "runs"

    @property
    def releases_dir(self) -> Path:
        return self.env_dir / "releases"

    @property
    def ledger(self) -> Path:
        return self.env_dir / "ledger.jsonl"

    @property
    def ingress_dir(self) -> Path:
        return self.env_dir / "ingress"

    @property
    def credentials_dir(self) -> Path:
        """Short-lived smoke credentials, 0600 each."""
        return self.env_dir / "credentials"

    @property
    def logs_dir(self) -> Path:
        return self.env_dir / "logs"

    @property
    def host_key(self) -> Path:
        """Keys the fingerprints of this environment: they can never be compared with another environment's."""
        return self.env_dir / "host.key"

    @property
    def supervisor_dir(self) -> Path:
        """One per host, shared by all its services and environments."""
        return self.root / "supervisor"

    def prepare(self, *, shared: bool = False) -> None:
        """Make the folders. Repeating it is fine. Raises Refused when the disk does not take them."""
        private = [self.root, self.service_dir, self.service_dir / "envs", self.env_dir, self.supervisor_dir]
        private += [self.journal_dir, self.releases_dir, self.ingress_dir, self.credentials_dir, self.logs_dir]
        passage = [self.root, self.service_dir, self.service_dir / "data"] if shared else []
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in [*private[1:], self.artifacts, self.data_dir.parent, self.data_dir]:
                folder.mkdir(exist_ok=True, mode=0o700)
            for folder in private:
                if folder not in passage:
                    self._narrow(folder)
            for folder in passage:
                _be(folder, 0o711)
            _be(self.artifacts, 0o711 if shared else 0o700)
        except OSError as error:
            raise Refused(
                f"the state folder {error.filename or self.root} cannot be used: {error.strerror}.",
                next="set SLUICE_STATE to a folder this user owns, or free some disk space",
                file=str(error.filename or self.root),
            ) from error

    def _narrow(self, folder: Path) -> None:
        # A folder that another environment with run_as made searchable stays so; nobody else gets anything.
        allowed = 0o711 if folder in (self.root, self.service_dir) else 0o700
        mode = folder.stat().st_mode & 0o777
        if mode & ~allowed:
            folder.chmod(mode & allowed)

    def read_host_key(self) -> bytes:
        """The key of this environment's fingerprints, made at the first use."""
        try:
            key = self.host_key.read_bytes()
        except FileNotFoundError:
            write_file(self.host_key, secrets.token_bytes(HOST_KEY_BYTES))
            key = self.host_key.read_bytes()
        if len(key) != HOST_KEY_BYTES:
            raise StateCorrupted(
                f"{self.host_key} is damaged.",
                next="restore it from a backup; without it old and new env fingerprints cannot be compared",
                file=str(self.host_key),
            )
        return key
