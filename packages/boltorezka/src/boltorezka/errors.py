"""The error tree of Boltorezka: a stable code, a human sentence, data, and whether a retry can help.

BoltorezkaError
├── Refusal                      the caller can be told; has an HTTP status and a wire code
│   ├── ValidationError 400      ├── Unauthorized 401        ├── Forbidden 403
│   ├── NotFound 404             (RoomNotFound, UserNotFound, MessageNotFound)
│   ├── Conflict 409             ├── SsoOnly 410             ├── PayloadTooLarge 413
│   ├── RateLimited 429          ├── SsoUnavailable 503      └── Unavailable 503 (a dependency of ours is down)
│   └── socket only: UnknownEvent, NoActiveRoom, IdempotencyConflict, EditWindowExpired, DeleteWindowExpired,
│       TargetNotInRoom, VoiceFull, ServerError
├── ConfigError                  settings are missing, unknown or malformed (start-up)
└── SchemaError                  the database is older than this server, or is not ours (start-up)
"""

from __future__ import annotations

from typing import Any, ClassVar


class BoltorezkaError(Exception):
    """Root of the tree. `data` never holds a secret; `message` is a whole sentence for a person."""

    code: ClassVar[str] = "ServerError"

    def __init__(self, message: str, **data: Any) -> None:
        """Keep the sentence and the data apart, so that both a person and a program can read the error."""
        super().__init__(message)
        self.message = message
        self.data = data


class Refusal(BoltorezkaError):
    """Something asked for is refused; the code travels over HTTP and in `nack` unchanged (contract.md)."""

    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False


class ValidationError(Refusal):
    """The request is malformed; `data["issues"]` lists where, when known."""

    code, status = "ValidationError", 400


class Unauthorized(Refusal):
    """No session, or one that is expired or revoked."""

    code, status = "Unauthorized", 401


class Forbidden(Refusal):
    """A live session without the right to do this."""

    code, status = "Forbidden", 403


class NotFound(Refusal):
    """What was named does not exist for this caller."""

    code, status = "NotFound", 404


class RoomNotFound(NotFound):
    """No such room, or a private room the caller must not learn about."""

    code = "RoomNotFound"


class UserNotFound(NotFound):
    """No such user."""

    code = "UserNotFound"


class MessageNotFound(NotFound):
    """No such message in the room."""

    code = "MessageNotFound"


class Conflict(Refusal):
    """The thing exists already, or changed meanwhile."""

    code, status = "Conflict", 409


class SsoOnly(Refusal):
    """Local registration and login do not exist; sign in through the SSO."""

    code, status = "SsoOnly", 410


class PayloadTooLarge(Refusal):
    """The body is over its limit."""

    code, status = "PayloadTooLarge", 413


class RateLimited(Refusal):
    """Too many requests; `data["retry_after_ms"]` says when to come back."""

    code, status, retryable = "RateLimited", 429, True


class SsoUnavailable(Refusal):
    """The SSO did not answer in time, or answered nonsense."""

    code, status, retryable = "SsoUnavailable", 503, True


class Unavailable(Refusal):
    """A dependency of ours (the database, the bus) is down; nothing was stored."""

    code, status, retryable = "ServerError", 503, True


class UnknownEvent(Refusal):
    """The socket sent an event type this server does not know."""

    code, status = "UnknownEvent", 400


class NoActiveRoom(Refusal):
    """The event needs a joined room."""

    code, status = "NoActiveRoom", 409


class IdempotencyConflict(Refusal):
    """The idempotency key was used before with another body."""

    code, status = "IdempotencyConflict", 409


class EditWindowExpired(Refusal):
    """The message is too old to be edited."""

    code, status = "EditWindowExpired", 409


class DeleteWindowExpired(Refusal):
    """The message is too old to be deleted."""

    code, status = "DeleteWindowExpired", 409


class TargetNotInRoom(Refusal):
    """Nobody of that name is in voice in this room."""

    code, status = "TargetNotInRoom", 409


class VoiceFull(Refusal):
    """Every voice seat of the room is taken."""

    code, status, retryable = "VoiceFull", 409, True


class ConfigError(BoltorezkaError):
    """Settings are missing, unknown or malformed. `data["problems"]` lists every one of them by name."""

    code = "ConfigError"


class SchemaError(BoltorezkaError):
    """The database cannot be served by this version; the sentence names the command that helps."""

    code = "SchemaError"
