"""The arithmetic of the ear: a tone is heard through noise, another one is refused, silence is silence."""

from __future__ import annotations

import random
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boltorezka.smoke import tones
from boltorezka.smoke.tones import (
    AMPLITUDE,
    FRAME,
    WINDOW,
    Ear,
    describe,
    is_silent,
    is_tone,
    level_db,
    loudest,
    share,
    silence,
    tone,
)

frequencies = st.integers(20, 800).map(lambda n: 5 * n)  # 100..4000 Hz, what one window tells apart
SLOW = settings(max_examples=15, deadline=None)  # each example sums ten thousand samples several times


def noise(seed: int, level: int) -> array[int]:
    """White noise of at most `level`."""
    source = random.Random(seed)
    return array("h", [source.randint(-level, level) for _ in range(WINDOW)])


def mixed(*sounds: array[int]) -> array[int]:
    """All of them at once."""
    return array("h", [sum(samples) for samples in zip(*sounds, strict=True)])


@SLOW
@given(wanted=frequencies, other=frequencies, start=st.integers(0, 10**6))
def test_another_tone_is_refused(wanted, other, start):
    """A pure tone is that tone at any phase, and no other one, however near."""
    assert is_tone(tone(other, WINDOW, start), wanted) == (wanted == other)


@SLOW
@given(frequency=frequencies, seed=st.integers(0, 10**6))
def test_noise_is_no_tone(frequency, seed):
    """Noise as loud as a tone is audible and is no tone at any frequency."""
    heard = noise(seed, AMPLITUDE)
    assert not is_tone(heard, frequency)
    assert not is_silent(heard)


@SLOW
@given(frequency=frequencies, amplitude=st.integers(800, 16_000), start=st.integers(0, 10**6), seed=st.integers(0, 99))
def test_a_tone_is_heard_through_noise(frequency, amplitude, start, seed):
    """A tone with more power than the noise around it is heard, loud or soft."""
    assert is_tone(mixed(tone(frequency, WINDOW, start, amplitude), noise(seed, amplitude)), frequency)


@SLOW
@given(frequency=frequencies, other=frequencies, amplitude=st.integers(0, 5_000))
def test_a_tone_under_a_louder_one_is_refused(frequency, other, amplitude):
    """Who hears two people hears the louder one only: a mixed-up call is never taken for a good one."""
    if frequency == other:
        return
    heard = mixed(tone(frequency, WINDOW, 0, amplitude), tone(other, WINDOW))
    assert not is_tone(heard, frequency)


@SLOW
@given(level=st.integers(0, 30), seed=st.integers(0, 10**6), frequency=frequencies)
def test_silence_is_silence(level, seed, frequency):
    """The last bits of a muted microphone are silence, and no tone."""
    heard = noise(seed, level)
    assert is_silent(heard)
    assert not is_tone(heard, frequency)


@SLOW
@given(frequency=st.integers(10, 400).map(lambda n: 10 * n), start=st.integers(0, 10**6))
def test_the_loudest_frequency_is_found(frequency, start):
    """The sentence of a failure names what was really heard."""
    assert loudest(tone(frequency, WINDOW, start)) == frequency


def test_levels_are_those_of_full_scale():
    """A full sine is 3 dB under full scale, ours 15, and nothing at all stays a number."""
    assert round(level_db(tone(1_000, WINDOW, 0, 32_767)), 1) == -3.0
    assert round(level_db(tone(1_000, WINDOW)), 0) == -15
    assert level_db(silence(WINDOW)) == -120.0
    assert share(silence(WINDOW), 440) == 0.0


def test_what_is_heard_is_said_for_people():
    """Frequency and level, noise, or silence."""
    assert describe(tone(440, WINDOW)) == "440 Hz at -15 dB"
    assert describe(silence(WINDOW)) == "silence (-120 dB)"
    assert describe(noise(1, AMPLITUDE)).startswith("noise at -17 dB, loudest at ")


@pytest.mark.parametrize(
    "window", [tone(440, WINDOW), silence(WINDOW), noise(1, AMPLITUDE)], ids=["tone", "silence", "noise"]
)
@pytest.mark.parametrize("expected", [440, 1_250])
def test_an_expected_tone_is_named_faster_and_not_otherwise(window, expected, monkeypatch):
    """The sentence is the same whatever was expected; where it is heard, no other frequency is tried."""
    assert describe(window, expected) == describe(window)
    monkeypatch.setattr(tones, "loudest", lambda _window: pytest.fail("every frequency was tried"))
    assert describe(tone(expected, WINDOW), expected) == f"{expected} Hz at -15 dB"


def test_an_ear_judges_whole_and_new_windows_only():
    """Too little is not judged; after a window of silence the tone before it is forgotten."""
    ear = Ear()
    assert ear.describe() == "no audio at all"
    assert not ear.hears_nothing
    for start in range(0, WINDOW - FRAME, FRAME):
        ear.take(tone(440, FRAME, start))
        assert not ear.hears(440)
    ear.take(tone(440, FRAME, WINDOW - FRAME))
    assert ear.hears(440)
    assert not ear.hears(1_250)
    for _ in range(WINDOW // FRAME):
        assert not ear.hears_nothing
        ear.take(silence(FRAME))
    assert ear.hears_nothing
    assert not ear.hears(440)
    assert ear.samples == 2 * WINDOW
