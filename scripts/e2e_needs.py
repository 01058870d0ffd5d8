"""What `make e2e` needs of the system: says what is missing and how to get it, and installs nothing."""

from __future__ import annotations

import shutil
import sys

# program: (why, package of Debian and Ubuntu)
NEEDS = {"turnserver": ("a real TURN server checks our credentials", "coturn")}


def main() -> None:
    """Exit with a sentence for everything that is missing."""
    missing = {program: needed for program, needed in NEEDS.items() if shutil.which(program) is None}
    if missing:
        lines = [f"  {program}: {why} (package {package})" for program, (why, package) in missing.items()]
        packages = " ".join(sorted({package for _, package in missing.values()}))
        sys.exit("\n".join(["make e2e needs:", *lines, f"On Debian and Ubuntu: apt-get install {packages}"]))


if __name__ == "__main__":
    main()
