"""The error tree of Sluice. Every error says what happened, what state the world is in, and the next command to type.

SluiceError
├── UsageError          2   the command line names something that does not exist
├── ConfigError         2   host.toml or sluice.toml: `path` says which key
├── Refused             1   before the switch: the world is as it was
│   ├── OriginUnreachable   the repository cannot be fetched
│   └── CodedRefusal        a promotion, a signature or a waiver that is not taken: `code` says why
├── Locked              6   another run holds the environment: who, what, since when
├── StepFailed              a step of a run failed; the engine decides what follows from where it stood
│   └── ProbeBroken         the step could not be judged (a probe broke): never a bad release
├── RunDied             5   the tool of a run that is followed died; the next command recovers
├── ConnectionLost      8   the line to the server is gone for good; a run goes on there
└── StateCorrupted      5   journal, ledger, release or ingress file cannot be read: refused, nothing overwritten
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar


class ExitCode(IntEnum):
    """What the shell is told (sluice.md, "Verdicts and exit codes")."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    ROLLED_BACK = 3
    DEGRADED = 4
    ROLLBACK_FAILED = 5
    LOCKED = 6
    NONE_SERVING = 7
    CONNECTION_LOST = 8


class SluiceError(Exception):
    """Root. `code` is stable; `what`, `world` and `next` are the three sentences a person needs."""

    code: str = "SluiceError"
    exit_code: ClassVar[ExitCode] = ExitCode.REFUSED

    def __init__(self, what: str, *, world: str = "", next: str = "", **data: Any) -> None:  # noqa: A002
        """`world` may be empty where nothing was touched; `next` is a command or an action."""
        super().__init__(what)
        self.what = what
        self.world = world or "Nothing was changed."
        self.next = next
        self.data = data

    def __str__(self) -> str:
        return " ".join(part for part in (self.what, self.world, f"Next: {self.next}" if self.next else "") if part)


class UsageError(SluiceError):
    """The command line names a service, environment or branch that does not exist, or contradicts itself."""

    code, exit_code = "Usage", ExitCode.USAGE


class ConfigError(SluiceError):
    """A configuration file is missing, unreadable or wrong. data: file, path."""

    code, exit_code = "Config", ExitCode.USAGE


class Refused(SluiceError):
    """Sluice will not do this; the world is as it was."""

    code, exit_code = "Refused", ExitCode.REFUSED


class OriginUnreachable(Refused):
    """The service's repository cannot be fetched."""

    code = "OriginUnreachable"


class CodedRefusal(Refused):
    """A refusal that comes with a code of its own."""

    def __init__(self, code: str, what: str, next: str = "") -> None:  # noqa: A002
        """See SluiceError."""
        super().__init__(what, next=next)
        self.code = str(code)


class Locked(SluiceError):
    """Another run is under way. data: who, what, since, pid."""

    code, exit_code = "Locked", ExitCode.LOCKED


class StepFailed(SluiceError):
    """A step of a run did not succeed. `bad_release` is True when that is the release's fault."""

    code = "StepFailed"

    def __init__(self, what: str, *, bad_release: bool = False, world: str = "", next: str = "", **data: Any) -> None:  # noqa: A002
        """See SluiceError."""
        super().__init__(what, world=world, next=next, **data)
        self.bad_release = bad_release


class ProbeBroken(StepFailed):
    """What should have judged the step broke; the release is neither good nor bad for it."""

    code = "ProbeBroken"


class RunDied(SluiceError):
    """Somebody follows a run whose tool died before it ended."""

    code, exit_code = "RunDied", ExitCode.ROLLBACK_FAILED


class ConnectionLost(SluiceError):
    """The server cannot be reached any more. What was begun there goes on there."""

    code, exit_code = "ConnectionLost", ExitCode.CONNECTION_LOST


class StateCorrupted(SluiceError):
    """A state file is damaged. Nothing is overwritten; a human looks first. data: file, line."""

    code, exit_code = "StateCorrupted", ExitCode.ROLLBACK_FAILED
