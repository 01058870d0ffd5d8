"""Refuse an interpreter that is too old, before an hour is lost to its errors."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - this file runs under whatever python3 is on the machine
    sys.exit(
        f"Python 3.11 or newer is needed, and {sys.executable} is {sys.version.split()[0]}.\n"
        "Install a newer one and say which with: make PYTHON=/path/to/python3.11 ...",
    )
