"""Values every part of Sluice speaks in. No I/O, no clock, no randomness; imports nothing of the rest."""
