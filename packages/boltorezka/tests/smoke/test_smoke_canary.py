"""How the canary counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltorezka.smoke.canary import LOST_AFTER_S, Listener, Sender, Track, measure
from boltorezka.smoke.target import Person

PERSON = Person("u", "t")


def track(sent: list[int], heard: list[int]) -> Track:
    """A track whose messages were all sent at time 0 and heard in this order."""
    made = Track(sent=dict.fromkeys(sent, 0.0))
    for number in heard:
        made.hear(number)
    return made


def test_a_message_overtaken_by_a_later_one_is_lost_at_once():
    """Order is guaranteed, so a gap needs no waiting to be seen."""
    assert track([1, 2, 3], [1, 3]).lost(0.0) == {2}


def test_a_message_that_does_not_come_is_lost_after_the_deadline():
    """The newest message is given time, and then it counts."""
    last = track([1, 2], [1])
    assert last.lost(LOST_AFTER_S - 0.1) == set()
    assert last.lost(LOST_AFTER_S + 0.1) == {2}


def test_a_late_message_is_reordered_and_no_longer_lost():
    """What arrives after its successor was not lost, but the order was."""
    late = track([1, 2, 3], [1, 3, 2])
    assert (late.lost(0.0), late.reordered) == (set(), 1)


def test_every_delivery_after_the_first_is_a_double():
    """Three deliveries are two too many."""
    assert track([1], [1, 1, 1]).duplicated == 2


@given(st.lists(st.integers(1, 30), max_size=60), st.integers(0, 30))
def test_lost_and_heard_account_for_everything_sent(heard, sent):
    """After the deadline each message sent was either heard or lost, whatever came in whatever order."""
    made = track(list(range(1, sent + 1)), [n for n in heard if n <= sent])
    assert len(made.lost(LOST_AFTER_S + 1)) + len(made.heard) == sent
    assert made.duplicated == sum(made.heard.values()) - len(made.heard)


NAMES = ("new", "old")


def measured(heard: dict[tuple[str, str], list[int]]) -> dict[str, dict[str, int]]:
    """Two messages sent on each slot long ago; `heard[sender, listener]` is what came."""
    listeners = {name: Listener(f"http://{name}", PERSON, "canary") for name in NAMES}
    senders = {name: Sender(f"http://{name}", PERSON, "canary", list(listeners.values())) for name in NAMES}
    for name, sender in senders.items():
        sender.number = 2
        for track in sender.tracks:
            track.sent = {1: 0.0, 2: 0.0}
        for other, listener in listeners.items():
            for number in heard.get((name, other), [1, 2]):
                listener.tracks[sender.name].hear(number)
    return measure(listeners, senders, LOST_AFTER_S + 1)


@pytest.mark.parametrize(
    ("heard", "lost_new", "lost_old"),
    [
        ({}, 0, 0),
        ({("new", "new"): [1], ("new", "old"): [1]}, 1, 0),
        ({("new", "new"): [2], ("old", "new"): [2]}, 2, 0),
        ({("new", "old"): [1]}, 1, 0),
        ({("old", "new"): [1]}, 1, 0),
        ({("old", "old"): [1], ("old", "new"): [1]}, 0, 1),
        ({(a, b): [] for a in NAMES for b in NAMES}, 2, 2),
    ],
    ids=["nothing", "new drops", "new does not deliver", "new does not store", "new does not hear", "old drops", "all"],
)
def test_loss_is_charged_to_the_slot_that_lost_it(heard, lost_new, lost_old):
    """A slot that drops what it took is at fault on both listeners; the old slot is blamed for its own alone."""
    counts = measured(heard)
    assert (counts["new"]["lost"], counts["old"]["lost"]) == (lost_new, lost_old)
    assert counts["new"]["sent"] == 2
