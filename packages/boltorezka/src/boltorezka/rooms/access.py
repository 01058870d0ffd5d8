"""Who may do what: the one place where rights are decided. Every function returns or raises a Refusal.

They are asked on every event, with facts that are as new as the event itself: the store asks inside the transaction
that appends, the core asks with the membership its log has delivered so far. Membership changes are events of the same
log as messages, so whoever was removed at seq n gets nothing that comes after n.
"""

from __future__ import annotations

from boltorezka.errors import (
    DeleteWindowExpired,
    EditWindowExpired,
    Forbidden,
    MessageNotFound,
    Refusal,
    RoomNotFound,
)
from boltorezka.rooms.model import Entrance, EventKind, MemberRole, Role

# As long as people look back at what they just wrote; later a change would rewrite what others answered to.
CHANGE_WINDOW_US = 600 * 1_000_000

ADMINS = frozenset({Role.ADMIN, Role.SUPER_ADMIN})


def entered(found: Entrance | None) -> Entrance:
    """The room, if this caller may enter and read it: public ones are for all, private ones for members.

    Raises RoomNotFound, the same for a room that does not exist and for one the caller must not learn about.
    """
    if found is None or not (found.room.is_public or found.member is not None):
        raise RoomNotFound("There is no such room.")
    return found


def members_managed(found: Entrance | None, role: Role) -> Entrance:
    """The room, if this caller may add and remove others: its owner, or an admin who may enter it."""
    entrance = entered(found)
    is_owner = entrance.member is not None and entrance.member.role is MemberRole.OWNER
    if not is_owner and role not in ADMINS:
        raise Forbidden("Only the room's owner or an admin may do this.")
    return entrance


def voice_moderated(found: Entrance | None, role: Role) -> None:
    """Raise unless this caller may silence others and send them out of voice: the room's owner, or an admin in it."""
    members_managed(found, role)


def administered(role: Role) -> None:
    """Raise Forbidden unless this role may run the server: make rooms, see users and counters, ban."""
    if role not in ADMINS:
        raise Forbidden("Only an admin may do this.")


def role_changed(actor: Role, target: Role) -> None:
    """Raise Forbidden unless the actor may change or ban somebody of this role: always somebody below."""
    administered(actor)
    if target is Role.SUPER_ADMIN or (target is Role.ADMIN and actor is not Role.SUPER_ADMIN):
        raise Forbidden("Only a super admin may do this to an admin, and nobody to a super admin.")


def written(*, is_member: bool, banned: bool) -> Refusal | None:
    """Why this user may not write in the room now, or None. A banned user is told so, others learn nothing."""
    if banned:
        return Forbidden("This account is banned.")
    return None if is_member else RoomNotFound("There is no such room.")


def changed(kind: EventKind, author_id: str | None, created_at: int, user_id: str, now: int) -> Refusal | None:
    """Why a message may not be edited or deleted by this user at `now`, or None. `author_id` None: it is not there."""
    if author_id is None:
        return MessageNotFound("There is no such message in this room.")
    if author_id != user_id:
        return Forbidden("Only its author may change a message.")
    if now - created_at <= CHANGE_WINDOW_US:
        return None
    sentence = "A message can be changed for 10 minutes."
    return EditWindowExpired(sentence) if kind is EventKind.EDIT else DeleteWindowExpired(sentence)
