"""The command line: `sluice rollout | rollback | resume | status | smoke | check | log | config`."""

from sluice.cli.main import main

__all__ = ["main"]
