"""`disk` and `clock`: what every environment of a machine stands on."""

from __future__ import annotations

import asyncio
import email.utils
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from sluice.checks.containers import moment
from sluice.checks.http import client
from sluice.checks.together import aside, sentence
from sluice.model.secret import Redactor
from sluice.model.verdict import Finding, Verdict
from sluice.ports import Clock, Runner
from sluice.runtimes.engine import DockerEngine

DISK, CLOCK = "disk", "clock"
MIB = 1024 * 1024
# One build unpacks a Python environment and a folder of Node modules: some ten thousand files.
MIN_FREE_INODES = 20_000
# Tokens, TURN credentials and certificates are judged with less slack than this nowhere, and with little more in many.
MAX_SKEW_S = 5.0
ASK_S = 1.0  # timedatectl and chronyc ask a local daemon
SYNCHRONISED = Path("/run/systemd/timesync/synchronized")


class Disk(msgspec.Struct, frozen=True):
    """How much room is left where one folder lies. `inodes` is None on file systems that do not count them."""

    path: str
    free_mb: int
    inodes: int | None


def judge_disk(disks: list[Disk], min_free_mb: int) -> Finding:
    """Pure: every disk has `min_free_mb` and enough files left."""
    problems = []
    for disk in disks:
        if disk.free_mb < min_free_mb:
            problems.append(f"{disk.path} has {disk.free_mb} MB left, fewer than the {min_free_mb} demanded")
        if disk.inodes is not None and disk.inodes < MIN_FREE_INODES:
            problems.append(f"{disk.path} has room for {disk.inodes} more files, fewer than {MIN_FREE_INODES}")
    if problems:
        fix = "make room (old images: `docker image ls`); [host] min_free_mb in host.toml is the limit"
        return Finding(DISK, Verdict.FAIL, detail=sentence(problems), fix=fix)
    return Finding(DISK, Verdict.PASS, detail=sentence([f"{disk.path} has {disk.free_mb} MB left" for disk in disks]))


def room(path: str) -> Disk:
    """Ask the file system, as a user without root's reserve sees it. Raises OSError. May block on a network disk."""
    found = os.statvfs(path)
    inodes = found.f_favail if found.f_files else None
    return Disk(path, found.f_bavail * found.f_frsize // MIB, inodes)


async def disk(state: Path, engine_socket: str, min_free_mb: int) -> Finding:
    """The check `disk` over the state folder and, where `engine_socket` is not empty, the engine's data root.

    Raises StepFailed when the engine does not say where that is, and OSError when a folder cannot be asked.
    """
    paths = [str(state)]
    if engine_socket:
        paths.append(str((await DockerEngine(engine_socket, Redactor()).info())["DockerRootDir"]))
    return judge_disk([await aside(partial(room, path)) for path in paths], min_free_mb)


@dataclass(frozen=True)
class Synchronised:
    """What the machine says of its own clock, and who says it."""

    source: str
    yes: bool


def judge_clock(said: Synchronised | None, skew_s: float | None, where: str) -> Finding:
    """Pure. `skew_s`: this clock minus the Date at `where`; None: nobody told. Without a source it is inconclusive."""
    compared = f"{abs(skew_s):.0f} s from the Date of {where}" if skew_s is not None else f"{where} tells no Date"
    fix = "let this server synchronise its clock (systemd-timesyncd or chrony): `timedatectl set-ntp true`"
    if skew_s is not None and abs(skew_s) > MAX_SKEW_S:
        return Finding(CLOCK, Verdict.FAIL, detail=f"The clock is {compared}.", fix=fix)
    if said is None:
        detail = f"Nobody says whether the clock is synchronised (timesyncd, timedatectl, chrony); {compared}."
        return Finding(CLOCK, Verdict.INCONCLUSIVE, detail=detail, fix=fix)
    if not said.yes:
        return Finding(CLOCK, Verdict.FAIL, detail=f"{said.source} says the clock is not synchronised.", fix=fix)
    return Finding(CLOCK, Verdict.PASS, detail=f"Synchronised, says {said.source}; {compared}.")


async def clock(url: str, ca_file: str, now: Clock, runner: Runner) -> Finding:
    """The check `clock`: what this machine says of its clock, and the Date header at `url`."""
    said, date = await asyncio.gather(synchronised(runner), _date(url, ca_file))
    try:
        told = email.utils.parsedate_to_datetime(date).timestamp()
    except ValueError:
        return judge_clock(said, None, url)
    return judge_clock(said, skew_of(moment(now.now()), told), url)


def skew_of(here: float, told: float) -> float:
    """Seconds this clock is ahead. A Date is cut to whole seconds: anywhere within the one it names is no skew."""
    if told <= here < told + 1:
        return 0.0
    return here - told if here < told else here - told - 1


async def _date(url: str, ca_file: str) -> str:
    import httpx

    try:
        async with client(ca_file) as http, http.stream("HEAD", url) as response:
            return str(response.headers.get("date", ""))
    except (httpx.HTTPError, httpx.InvalidURL):
        return ""


async def synchronised(runner: Runner, marker: Path = SYNCHRONISED) -> Synchronised | None:
    """Ask systemd-timesyncd, timedatectl and chrony, in this order; None when none of them is there."""
    if marker.exists():
        return Synchronised("systemd-timesyncd", yes=True)
    done = await runner.run(("timedatectl", "show", "--property=NTPSynchronized", "--value"), timeout_s=ASK_S)
    if done.exit_code == 0 and not done.timed_out and (word := done.stdout.strip()) in {"yes", "no"}:
        return Synchronised("timedatectl", yes=word == "yes")
    done = await runner.run(("chronyc", "-c", "tracking"), timeout_s=ASK_S)
    fields = done.stdout.strip().split(",")
    # The last field is the leap status: Normal, Insert second, Delete second, or Not synchronised.
    if done.exit_code == 0 and not done.timed_out and len(fields) > 1:
        return Synchronised("chrony", yes=fields[-1] != "Not synchronised")
    return None
