"""Appended to the server's composition by feature/demo-broken: it forgets to deliver every seventh message.

Nothing else is wrong with it: it starts, migrates, answers every health check and acknowledges what it stores.
"""

import itertools
from collections.abc import Iterable

from boltorezka.rooms.feed import Feed
from boltorezka.rooms.model import Event

_let_through = Feed.offer
_numbers = itertools.count(1)


def _forgetful(self: Feed, events: Iterable[Event]) -> list[Event]:
    return [event for event in _let_through(self, events) if next(_numbers) % 7]


Feed.offer = _forgetful  # type: ignore[method-assign]
