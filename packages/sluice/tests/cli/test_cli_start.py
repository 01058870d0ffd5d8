"""What every command waits for before it does anything."""

from __future__ import annotations

import json
import subprocess
import sys

# Each costs more than the rest of a short command's own modules: an HTTP client, an HTTP server, a mail parser.
HEAVY = ("httpx", "websockets", "prometheus_client", "importlib.metadata", "cryptography", "uvicorn")
SLUICE = ("sluice.criteria", "sluice.runtimes.compose", "sluice.runtimes.process")
LOADED = """
import json, sys
import sluice.cli
print(json.dumps([name for name in sys.argv[1:] if name in sys.modules]))
"""


def test_a_command_loads_what_it_needs_and_not_what_others_need():
    """`sluice --help` and `sluice status` are typed often: the command line itself asks nobody and judges nothing."""
    command = [sys.executable, "-c", LOADED, *HEAVY, *SLUICE]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == []
