"""The pure core of rooms: (state, event, now) in, effects out. No I/O, no clock, no randomness."""
