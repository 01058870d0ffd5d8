"""One verdict per check: JSON lines for Sluice, a readable list for a person."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TextIO

import httpx
from websockets.exceptions import WebSocketException

SIGNS = {"pass": "ok", "fail": "FAIL", "error": "ERROR", "inconclusive": "????", "skipped": "skip"}


class CheckFailed(Exception):
    """The service did not do what the check demands; the sentence is the evidence and never holds a token."""


class CheckSkipped(Exception):
    """The check has nothing to judge; the sentence is the reason."""


class CheckInconclusive(Exception):
    """The check lacks something it needs from whoever started it; the sentence says what."""


class CheckBroken(Exception):
    """What the check leans on, and is not the service, does not work; the sentence names it."""


class Note:
    """What a check adds to its verdict."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.detail = ""
        self.metrics: dict[str, object] = {}


class Report:
    """Collects verdicts and prints each as soon as it is there."""

    def __init__(self, out: TextIO = sys.stdout, *, for_people: bool = False) -> None:
        """`for_people` prints a list instead of JSON lines."""
        self._out = out
        self._for_people = for_people
        self.verdicts: dict[str, str] = {}

    def say(self, name: str, verdict: str, ms: int, detail: str, metrics: dict[str, object] | None = None) -> None:
        """One verdict, printed and flushed at once."""
        self.verdicts[name] = verdict
        if self._for_people:
            line = f"{SIGNS[verdict]:>5}  {name:<14} {detail}"
        else:
            found = {"name": name, "verdict": verdict, "ms": ms, "detail": detail}
            line = json.dumps(found | ({"metrics": metrics} if metrics else {}), ensure_ascii=False)
        print(line, file=self._out, flush=True)

    @asynccontextmanager
    async def check(self, name: str) -> AsyncIterator[Note]:
        """Judge what happens inside. What the service does wrong is a fail; what we do wrong is an error."""
        note, begun = Note(), time.monotonic()
        verdict, detail = "pass", ""
        try:
            yield note
        except CheckFailed as failed:
            verdict, detail = "fail", str(failed)
        except CheckSkipped as skipped:
            verdict, detail = "skipped", str(skipped)
        except CheckInconclusive as missing:
            verdict, detail = "inconclusive", str(missing)
        except CheckBroken as broken:
            verdict, detail = "error", str(broken)
        except (httpx.HTTPError, WebSocketException, OSError, TimeoutError) as error:
            verdict, detail = "fail", f"the service did not answer as it should: {describe(error)}"
        except json.JSONDecodeError:
            verdict, detail = "fail", "the service answered something that is not JSON"
        except Exception as error:  # noqa: BLE001 - a defect of the probe must never look like a bad release
            verdict, detail = "error", f"the probe itself broke: {describe(error)}"
        ms = int((time.monotonic() - begun) * 1000)
        self.say(name, verdict, ms, detail or note.detail, note.metrics)

    def skip(self, names: tuple[str, ...], reason: str) -> None:
        """These could not be tried."""
        for name in names:
            self.say(name, "skipped", 0, reason)

    @property
    def good(self) -> bool:
        """Whether every check passed or was rightly skipped, and there was at least one."""
        return bool(self.verdicts) and set(self.verdicts.values()) <= {"pass", "skipped"}


def describe(error: Exception) -> str:
    """An exception in one line, without the address it was about: that may hold a ticket."""
    text = str(error).split("?", maxsplit=1)[0].splitlines()
    return f"{type(error).__name__}{': ' + text[0][:200] if text else ''}"
