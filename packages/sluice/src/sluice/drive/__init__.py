"""The drive performs what the engine says: effect, journal, port, observation, and the next effect.

`Drive` is the way in. Everything it needs of the world is in a `World`, built by `sluice.cli` from the host's
configuration and by the tests from fakes.
"""

from sluice.drive.conductor import Drive, Request, Result
from sluice.drive.facts import Facts, Plan
from sluice.drive.world import Judge, Paths, Report, Sibling, Tell, World

__all__ = ["Drive", "Facts", "Judge", "Paths", "Plan", "Report", "Request", "Result", "Sibling", "Tell", "World"]
