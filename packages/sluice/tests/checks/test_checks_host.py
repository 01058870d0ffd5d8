"""Disk and clock: judged as values, and asked of this machine."""

from __future__ import annotations

import pytest

from sluice.checks import host
from sluice.checks.host import (
    Disk,
    Synchronised,
    disk,
    judge_clock,
    judge_disk,
    room,
    skew_of,
    synchronised,
)
from sluice.model.errors import StepFailed
from sluice.model.release import Completed
from sluice.model.verdict import Verdict


@pytest.mark.parametrize(
    ("disks", "says"),
    [
        ([Disk("/a", 5000, None), Disk("/b", 1023, 10**6)], "/b has 1023 MB left, fewer than the 1024 demanded"),
        ([Disk("/a", 5000, 19_999)], "/a has room for 19999 more files"),
        ([Disk("/a", 0, 0)], "/a has 0 MB left"),
    ],
)
def test_a_disk_that_is_nearly_full_fails_and_is_named(disks, says):
    """Bytes and inodes both: a disk full of small files takes no build either."""
    finding = judge_disk(disks, 1024)
    assert finding.verdict is Verdict.FAIL
    assert says in finding.detail


def test_room_enough_passes_with_what_is_left():
    """A file system that counts no inodes is not judged by them."""
    assert judge_disk([Disk("/a", 1024, None)], 1024).verdict is Verdict.PASS


async def test_the_disk_of_the_state_is_asked(tmp_path):
    """Really; and a folder that is not there is an error of the probe, raised to whoever asks all."""
    assert room(str(tmp_path)).free_mb >= 0
    assert (await disk(tmp_path, "", 0)).name == "disk"
    with pytest.raises(FileNotFoundError):
        await disk(tmp_path / "gone", "", 0)


async def test_an_engine_that_does_not_answer_breaks_the_probe(tmp_path):
    """Half an answer about the disks would look like a whole one."""
    with pytest.raises(StepFailed):
        await disk(tmp_path, str(tmp_path / "no.sock"), 0)


YES, NO = Synchronised("chrony", yes=True), Synchronised("timedatectl", yes=False)


@pytest.mark.parametrize(
    ("said", "skew", "verdict", "says"),
    [
        (YES, 6.0, Verdict.FAIL, "The clock is 6 s from the Date of http://x"),
        (YES, -6.0, Verdict.FAIL, "6 s from the Date"),
        (None, 60.0, Verdict.FAIL, "60 s from the Date"),
        (NO, 0.0, Verdict.FAIL, "timedatectl says the clock is not synchronised"),
        (None, 0.0, Verdict.INCONCLUSIVE, "Nobody says whether the clock is synchronised"),
        (None, None, Verdict.INCONCLUSIVE, "http://x tells no Date"),
        (YES, 5.0, Verdict.PASS, "Synchronised, says chrony; 5 s from the Date of http://x"),
        (YES, None, Verdict.PASS, "Synchronised, says chrony; http://x tells no Date"),
    ],
)
def test_a_clock_is_judged_by_its_daemon_and_by_a_date(said, skew, verdict, says):
    """Without anybody who knows it is inconclusive, and that is said."""
    finding = judge_clock(said, skew, "http://x")
    assert finding.verdict is verdict
    assert says in finding.detail


@pytest.mark.parametrize(("here", "skew"), [(100.0, 0), (100.999, 0), (99.0, -1), (102.0, 1)])
def test_a_date_of_whole_seconds_is_no_skew(here, skew):
    """The header names second 100."""
    assert skew_of(here, 100.0) == skew


class Commands:
    """A runner of programs that say this; a missing one ends with 127, as the real runner has it."""

    def __init__(self, **outputs: str) -> None:
        self.outputs = outputs

    async def run(self, argv, *, timeout_s, **_options):
        assert timeout_s <= 2
        out = self.outputs.get(argv[0])
        return Completed(tuple(argv), 127 if out is None else 0, out or "", "", 1)


@pytest.mark.parametrize(
    ("outputs", "found"),
    [
        ({}, None),
        ({"timedatectl": "yes\n"}, Synchronised("timedatectl", yes=True)),
        ({"timedatectl": "no\n"}, Synchronised("timedatectl", yes=False)),
        ({"timedatectl": "Failed to connect to bus"}, None),
        ({"chronyc": "A9FEA97B,169.254.169.123,4,1,0,0,0,0,0,0,0,0,1.0,Normal\n"}, Synchronised("chrony", yes=True)),
        ({"chronyc": "00000000,,0,0,0,0,0,0,0,0,0,0,0,Not synchronised\n"}, Synchronised("chrony", yes=False)),
    ],
)
async def test_whoever_keeps_the_clock_is_asked(tmp_path, outputs, found):
    """The first that answers sense."""
    assert await synchronised(Commands(**outputs), tmp_path / "marker") == found


async def test_timesyncd_leaves_a_mark(tmp_path):
    """No program is started then."""
    (tmp_path / "marker").touch()
    assert await synchronised(Commands(timedatectl="no"), tmp_path / "marker") == Synchronised(
        "systemd-timesyncd", yes=True
    )


async def test_the_date_of_the_public_url_is_compared(listen, clock):
    """A server whose Date is a minute off shows it; one that tells none is named."""

    def told(date: str):
        async def one(reader, writer) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 200 OK\r\n{date}Content-Length: 0\r\n\r\n".encode())
            await writer.drain()

        return one

    for date, says in (
        ("Date: Thu, 01 Jan 2026 00:01:00 GMT\r\n", "60 s from the Date"),
        ("Date: nonsense\r\n", "tells no Date"),
        ("", "tells no Date"),
    ):
        async with listen(told(date)) as port:
            finding = await host.clock(f"http://127.0.0.1:{port}", "", clock, Commands())
        assert says in finding.detail
    assert "tells no Date" in (await host.clock("http://127.0.0.1:1", "", clock, Commands())).detail
