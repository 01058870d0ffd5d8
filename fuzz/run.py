"""A longer fuzz than the tests have time for: `fuzz/run.py --seconds 60 --seed 1`; prints one JSON object.

Mutates the golden vectors and feeds them to the frame decoder, and mutated requests and frames to a real server on
loopback. Exit code 0: nothing was found; 1: the findings are in the output, each with its input in hexadecimal.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import random
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from boltorezka import protocol
from boltorezka.testing import bearer, server_in_thread, signed_in

WIRE = Path(__file__).resolve().parent.parent / "wire"
# What parsers are known to trip over.
TRAPS = [
    b'"', b"\\", b"\\ud83d", b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"NaN", b"1e999", b"-0", b"9" * 400,
    b"{", b"}", b"[", b"]", b",", b":", b"null", b"[" * 3000, b'{"a":' * 3000, b"\r\n", b"\r\n\r\n",
    b"%00", b"%ff", b" ",
]  # fmt: skip
# A finding is a finding: hundreds of the same one help nobody.
MAX_FINDINGS = 20
# What is damaged at its end is waited for by the server: then there is no answer to be had.
PATIENCE_S = 0.2


@dataclass
class Report:
    """What was tried and found."""

    tried: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    findings: list[dict[str, str]] = field(default_factory=list)

    def found(self, where: str, what: str, data: bytes) -> None:
        """Keep a finding with its input."""
        self.findings.append({"where": where, "what": what, "input": data.hex()})


def mutate(dice: random.Random, seed: bytes) -> bytes:
    """The seed with some of it cut, doubled, changed or put in."""
    data = bytearray(seed)
    for _ in range(dice.randint(1, 5)):
        at = dice.randint(0, len(data))
        kind = dice.randrange(4)
        if kind == 0:
            del data[at : at + dice.randint(1, 12)]
        elif kind == 1:
            data[at:at] = dice.choice(TRAPS)
        elif kind == 2:
            data[at : at + 1] = dice.randbytes(dice.randint(1, 3))
        else:
            data[at:at] = data[at : dice.randint(at, len(data))]
    return bytes(data)


def frames() -> list[bytes]:
    """The client frames of the vectors."""
    cases = [
        case["frame"]
        for name in ("client-valid.json", "client-refused.json", "client-ignored.json")
        for case in json.loads((WIRE / name).read_text())
    ]
    return [case.encode() if isinstance(case, str) else json.dumps(case).encode() for case in cases]


def try_decoder(report: Report, dice: random.Random, seeds: list[bytes]) -> None:
    """One frame for the decoder: a request that means the same again, or a refusal."""
    data = mutate(dice, dice.choice(seeds))
    report.tried["decoder"] += 1
    try:
        answer = protocol.decode(data)
        if isinstance(answer, protocol.Refused):
            report.answers[f"decoder {answer.error.code}"] += 1
            return
        report.answers["decoder request"] += 1
        again = protocol.decode(protocol.encode_request(answer.said, answer.request_id, answer.idempotency_key))
        if again != answer:
            report.found("decoder", "means something else when it is encoded again", data)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what we are looking for
        report.found("decoder", repr(error), data)


def try_http(report: Report, dice: random.Random, seeds: list[bytes], port: int) -> None:
    """One damaged request: any answer below 500, or none."""
    data = mutate(dice, dice.choice(seeds))
    report.tried["http"] += 1
    head = b""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection, contextlib.suppress(OSError):
        connection.sendall(data)
        connection.settimeout(PATIENCE_S)
        head = connection.recv(4096)
    status = head.split(b" ", 2)[1].decode("ascii", "replace") if head.startswith(b"HTTP/") else "none"
    report.answers[f"http {status}"] += 1
    if status.startswith("5") and status != "501":
        report.found("http", f"status {status}", data)


def still_well(host: str) -> bool:
    """Whether the server is healthy after all of it."""
    try:
        return httpx.get(f"http://{host}/health", timeout=10.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def requests(host: str, token: dict[str, str]) -> list[bytes]:
    """Good requests, to be damaged."""
    head = f"Host: {host}\r\nAuthorization: {token['authorization']}\r\n"
    body = json.dumps({"slug": "fuzzed-room", "title": "Fuzzed", "is_public": False})
    places = [
        "/v1/rooms",
        "/v1/rooms/general/messages?limit=2&beforeSeq=9",
        "/v1/admin/users?limit=1&after=x",
        "/health",
    ]
    gets = [f"GET {place} HTTP/1.1\r\n{head}\r\n" for place in places]
    posts = [f"POST /v1/rooms HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}"]
    return [request.encode() for request in [*gets, *posts]]


def run(seconds: float, seed: int) -> dict[str, Any]:
    """Fuzz for so long and say what was found."""
    report, dice, ends = Report(), random.Random(seed), time.monotonic() + seconds
    vectors = frames()
    with tempfile.TemporaryDirectory() as directory, server_in_thread(Path(directory)) as url:
        host = url.removeprefix("http://")
        port, known = int(host.rpartition(":")[2]), requests(host, bearer(signed_in(url)["token"]))
        steps: list[Callable[[], None]] = [lambda: try_decoder(report, dice, vectors)] * 50
        steps.append(lambda: try_http(report, dice, known, port))
        while time.monotonic() < ends and len(report.findings) < MAX_FINDINGS:
            for step in steps:
                step()
        if not still_well(host):
            report.found("http", "the server does not answer any more", b"")
    return {
        "seconds": seconds, "seed": seed, "tried": dict(report.tried), "answers": dict(sorted(report.answers.items())),
        "findings": report.findings,
    }  # fmt: skip


def main() -> int:
    """0: nothing was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    logging.disable(logging.WARNING)  # a line for every damaged request helps nobody
    result = run(given.seconds, given.seed)
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    return 1 if result["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
