"""The child of the no-secrets gate: texts on stdin (a JSON list), places on stdout, never a value.

Run as `python -I -m sluice.gates.scanner`, with a minimal environment.
"""

from __future__ import annotations

import re
import sys

import betterleaks
import msgspec

from sluice.gates.placeholder import is_placeholder

# A mark in the candidate's own text would let it judge itself: exceptions belong to the policy, so marks are broken.
_ALLOW_MARKS = re.compile(r"(betterleaks|gitleaks):(?=allow)", re.IGNORECASE)


def scan(texts: list[str]) -> list[dict[str, object]]:
    """Where something that looks like a secret stands: {"text": index, "line": from one, "rule"}."""
    hits: list[dict[str, object]] = []
    for index, text in enumerate(texts):
        # NUL would end the text early for a C library: a secret behind it would never be seen.
        clean = _ALLOW_MARKS.sub(r"\1 ", text).replace("\0", " ")
        hits += (
            {"text": index, "line": found.location.start_line, "rule": found.rule_id}
            for found in betterleaks.scan_string(clean)
            if not is_placeholder(found.secret)
        )
    return hits


def main() -> None:
    """Read everything, scan, print one JSON list."""
    texts = msgspec.json.decode(sys.stdin.buffer.read(), type=list[str])
    sys.stdout.buffer.write(msgspec.json.encode(scan(texts)))


if __name__ == "__main__":
    main()
