"""The engine of a run: a table `(state, event) -> (state, effects)`, and what each step means.

Pure: no I/O, no clock, no randomness. `sluice.drive` performs what the table says and journals it.
"""

from sluice.engine.steps import STEPS, Step
from sluice.engine.table import (
    EXIT_CODES,
    FORWARD,
    PASSED_OVER,
    TABLE,
    TERMINAL,
    UNSTOPPABLE,
    Effect,
    Event,
    ImpossibleEvent,
    Kind,
    State,
    Transition,
    advance,
    marks_bad,
    replay,
)

__all__ = [
    "EXIT_CODES",
    "FORWARD",
    "PASSED_OVER",
    "STEPS",
    "TABLE",
    "TERMINAL",
    "UNSTOPPABLE",
    "Effect",
    "Event",
    "ImpossibleEvent",
    "Kind",
    "State",
    "Step",
    "Transition",
    "advance",
    "marks_bad",
    "replay",
]
