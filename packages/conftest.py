"""Property tests give the same answer every time, also on a slow machine: fixed seeds, no deadline per example."""

from hypothesis import settings

settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")
