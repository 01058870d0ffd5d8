"""The feed: each event once, in order, without holes, whatever order they are offered in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from boltorezka.rooms.feed import KEEP, MAX_HELD, Feed
from boltorezka.rooms.model import Event, EventKind


def event(seq: int) -> Event:
    """An event of this seq."""
    return Event("room", seq, EventKind.MESSAGE, str(seq), "u", "U", "text", seq)


def test_repetitions_are_dropped_and_later_events_held():
    """What is not next waits; what was delivered is not delivered again."""
    feed = Feed("e", 0)
    assert feed.offer([event(2), event(3)]) == []
    assert feed.gap
    assert [each.seq for each in feed.offer([event(1), event(2)])] == [1, 2, 3]
    assert not feed.gap
    assert feed.offer([event(1), event(3)]) == []


@given(st.lists(st.integers(1, 40), max_size=200), st.lists(st.integers(1, 20), max_size=30))
def test_any_order_of_offers_and_reads_delivers_a_contiguous_run(offers, reads):
    """Model: offers arrive in any order, some reads of the log of any length; the last read makes it complete."""
    feed, heard = Feed("e", 0), []
    for index, seq in enumerate(offers):
        heard += feed.offer([event(seq)])
        if index < len(reads):
            heard += feed.offer([event(each) for each in range(feed.head + 1, min(40, feed.head + reads[index]) + 1)])
    top = max(offers, default=0)
    assert feed.gap == (max(top, 1) > feed.head)
    heard += feed.offer([event(each) for each in range(feed.head + 1, top + 1)])
    feed.settle()
    assert not feed.gap
    seqs = [each.seq for each in heard]
    assert seqs == list(range(1, feed.head + 1))
    assert feed.head >= top


def test_a_new_feed_asks_for_the_log_once():
    """A feed begins with a gap, so that what was committed just before it exists is read; a read settles it."""
    feed = Feed("e", 10)
    assert feed.gap
    feed.reading()
    assert len(feed.offer([event(seq) for seq in range(1, 11)])) == 10
    feed.settle()
    assert (feed.gap, feed.head) == (False, 10)


def test_a_rumour_during_a_read_outlives_it():
    """What is heard while the log is read may be younger than what the read sees: it is asked for again."""
    feed = Feed("e", 0)
    feed.rumour(9)
    feed.reading()
    feed.rumour(2)
    feed.offer([event(1)])
    feed.settle()
    assert (feed.gap, feed.rumoured) == (True, 2)


def test_the_newest_events_answer_those_who_come_back():
    """`since` answers exactly what is missing, or nothing at all when it is too much or not kept any more."""
    feed = Feed("e", 0)
    feed.offer([event(seq) for seq in range(1, KEEP + 11)])
    assert feed.since(feed.head, 300) == ()
    assert [each.seq for each in feed.since(KEEP, 300)] == list(range(KEEP + 1, KEEP + 11))
    assert feed.since(feed.head + 1, 300) is None
    assert feed.since(5, 10 * KEEP) is None
    assert feed.since(feed.head - 301, 300) is None


def test_the_newest_page_is_answered_from_what_is_kept_or_not_at_all():
    """As many messages as asked and whether there are older ones; None when too few are kept to know."""
    feed = Feed("e", 0)
    feed.offer([event(seq) for seq in range(1, 11)])
    assert feed.page(10) == (tuple(event(seq) for seq in range(1, 11)), False)
    assert feed.page(9) == (tuple(event(seq) for seq in range(2, 11)), True)
    feed.offer([event(seq) for seq in range(11, KEEP + 2)])
    assert feed.page(KEEP) is None
    assert feed.page(KEEP - 1)[1] is True


def test_held_events_are_bounded():
    """Events beyond a gap are kept up to the bound; the rest is read from the log again."""
    feed = Feed("e", 0)
    feed.offer([event(seq) for seq in range(2, MAX_HELD + 100)])
    assert feed.offer([event(1)])[-1].seq == MAX_HELD + 1
    assert feed.gap
