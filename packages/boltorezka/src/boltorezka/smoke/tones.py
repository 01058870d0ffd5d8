"""Tones and how they are told apart: plain arithmetic on 16-bit mono samples, no I/O.

One frequency's power is measured with Goertzel's filter, which needs no library and little time for one frequency.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field

RATE = 48_000  # samples a second: Opus's own rate, so nothing is resampled on the way
FRAME = 960  # samples of one packet, 20 ms
# What is judged at once. 0.2 s holds a whole number of periods of every multiple of 5 Hz: two such tones never leak
# into each other's measurement.
WINDOW = 9_600
FULL_SCALE = 32_768
AMPLITUDE = 8_000  # -15 dB after the mean: loud, and far from clipping
# A person hears -40 dB in a quiet room; a muted microphone's digital silence comes out of Opus below -80 dB.
AUDIBLE_DB = -40.0
SILENT_DB = -60.0
# A tone is heard when it is louder than everything else together.
PURE_SHARE = 0.5
FLOOR_DB = -120.0  # the level of nothing at all
# Where `loudest` looks: what a voice connection carries, in steps that a window can tell apart.
LOWEST_HZ, HIGHEST_HZ, STEP_HZ = 100, 4_000, 10
THINNED = 4  # samples averaged into one for that: 12 kHz are enough for 4 kHz, in a quarter of the time


def tone(frequency: int, samples: int, start: int = 0, amplitude: int = AMPLITUDE) -> array[int]:
    """A sine of `frequency` Hz, from sample number `start` on."""
    step = math.tau * frequency / RATE
    return array("h", [round(amplitude * math.sin(step * n)) for n in range(start, start + samples)])


def silence(samples: int) -> array[int]:
    """Digital silence."""
    return array("h", bytes(2 * samples))


def level_db(window: array[int]) -> float:
    """The mean level of a window against full scale, in dB; never below FLOOR_DB."""
    power = _energy(window) / (len(window) * FULL_SCALE**2)
    return max(FLOOR_DB, 10 * math.log10(power)) if power else FLOOR_DB


def share(window: array[int], frequency: int, rate: int = RATE) -> float:
    """What part of a window's power is in this frequency: 1 for a pure tone, about 0 for anything else."""
    energy = _energy(window)
    if not energy:
        return 0.0
    turn = 2 * math.cos(math.tau * frequency / rate)
    before, last = 0.0, 0.0
    for sample in window:
        before, last = last, sample + turn * last - before
    power = before * before + last * last - turn * before * last
    return min(1.0, 2 * power / (len(window) * energy))


def loudest(window: array[int]) -> int:
    """The frequency in Hz, in steps of 10, with the most power in it. Slow: for the sentence of a failure only."""
    thin = array("h", [sum(window[n : n + THINNED]) // THINNED for n in range(0, len(window), THINNED)])
    return max(range(LOWEST_HZ, HIGHEST_HZ + 1, STEP_HZ), key=lambda hz: share(thin, hz, RATE // THINNED))


def is_tone(window: array[int], frequency: int) -> bool:
    """Whether a window is audible, and this tone is louder in it than everything else together."""
    return level_db(window) >= AUDIBLE_DB and share(window, frequency) > PURE_SHARE


def is_silent(window: array[int]) -> bool:
    """Whether nobody could hear anything in a window."""
    return level_db(window) <= SILENT_DB


def describe(window: array[int], expected: int = 0) -> str:
    """What a window sounds like, for a person: `440 Hz at -15 dB`. Fast where it is the `expected` tone."""
    level = level_db(window)
    if level <= SILENT_DB:
        return f"silence ({level:.0f} dB)"
    frequency = expected if expected and share(window, expected) > PURE_SHARE else loudest(window)
    if share(window, frequency) > PURE_SHARE:
        return f"{frequency} Hz at {level:.0f} dB"
    return f"noise at {level:.0f} dB, loudest at {frequency} Hz"


def _energy(window: array[int]) -> int:
    return sum(sample * sample for sample in window)


@dataclass
class Ear:
    """The newest window of what was heard. `samples` counts everything since the start."""

    samples: int = 0
    window: array[int] = field(default_factory=lambda: array("h"))

    def take(self, heard: array[int]) -> None:
        """The next samples; what is older than a window is forgotten."""
        self.samples += len(heard)
        self.window += heard
        if len(self.window) > WINDOW:
            del self.window[: len(self.window) - WINDOW]

    @property
    def full(self) -> bool:
        """Whether there is a whole window to judge."""
        return len(self.window) == WINDOW

    def hears(self, frequency: int) -> bool:
        """Whether the newest window is this tone."""
        return self.full and is_tone(self.window, frequency)

    @property
    def hears_nothing(self) -> bool:
        """Whether audio comes and is silent; no audio at all is not silence."""
        return self.full and is_silent(self.window)

    def describe(self, expected: int = 0) -> str:
        """What the newest window sounds like; said at once where it is the `expected` tone."""
        return describe(self.window, expected) if self.window else "no audio at all"
