"""Tells people that a run went wrong, by Apprise: mail, chat, a webhook, whatever the operator's addresses name.

The messages are sent by a process of their own, `python -m sluice.hosts.notify`: it can be killed at the deadline
whatever a library waits for, and the libraries of a hundred services are loaded only when there is something to tell.
It reads one JSON object from stdin, so no address is in an argument, and answers one JSON line per address.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import msgspec

from sluice.model.errors import Refused
from sluice.model.secret import Secret
from sluice.runner import LocalRunner, minimal_environment

DEADLINE_S = 20.0  # for all together: a slow mail server takes a few seconds, and the run's end waits for this
MAX_ADDRESSES = 20  # each is a thread of the sender; more recipients belong behind one address of a chat or a list
MAX_BYTES = 64 * 1024


class _Order(msgspec.Struct):
    addresses: list[str]
    title: str
    body: str


class _Sent(msgspec.Struct):
    number: int
    good: bool


class Notifier:
    """Whoever `notify_file` names. Neither method shows an address: failures name its line and its scheme."""

    def __init__(self, file: Path, runner: LocalRunner) -> None:
        """Touches nothing."""
        self._file = file
        self._runner = runner

    def addresses(self) -> list[tuple[int, Secret]]:
        """Line number and address. The redactor knows them from here on. Raises Refused when the file is not right."""
        try:
            status = self._file.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                raise self._refused("is not a regular file of the user Sluice runs as", "correct it")
            if stat.S_IMODE(status.st_mode) not in (0o600, 0o400):
                raise self._refused("may be read by others, and its addresses hold keys", f"chmod 600 {self._file}")
            if status.st_size > MAX_BYTES:
                raise self._refused(f"is larger than {MAX_BYTES} bytes", "check that it is the right file")
            lines = self._file.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise self._refused(f"cannot be read: {reason}", "one Apprise address a line, mode 0600") from error
        found = [(n, Secret(line.strip())) for n, line in enumerate(lines, 1) if line.strip()[:1] not in ("", "#")]
        self._runner.redactor.learn(address for _, address in found)
        if len(found) > MAX_ADDRESSES:
            raise self._refused(f"has more than {MAX_ADDRESSES} addresses", "use a list or a channel")
        return found

    async def __call__(self, title: str, body: str) -> list[str]:
        """Tell everybody at once. What failed, one sentence each; [] when all were told. Never raises."""
        try:
            found = self.addresses()
        except Refused as error:
            return [f"Nobody was told: {error.what}"]
        if not found:
            return [f"Nobody was told: {self._file} names nobody."]
        order = _Order([address.reveal() for _, address in found], title, body)
        proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        try:
            done = await self._runner.run(
                [sys.executable, "-I", "-m", "sluice.hosts.notify"],
                timeout_s=DEADLINE_S,
                environment=minimal_environment() | proxies,
                stdin=msgspec.json.encode(order),
            )
        except OSError as error:
            return [f"Nobody was told: the sender could not be started ({error.strerror})."]
        told = _answers(done.stdout)
        late = f"was not done within {DEADLINE_S:g} s" if done.timed_out else "was not tried"
        return [
            f"Line {line} of {self._file.name} ({_scheme(address)}) "
            + ("did not take the message." if place in told else f"{late}.")
            for place, (line, address) in enumerate(found)
            if not told.get(place)
        ]

    def _refused(self, found: str, next_step: str) -> Refused:
        return Refused(f"the notification file {self._file} {found}.", next=next_step, file=str(self._file))


def _scheme(address: Secret) -> str:
    scheme, found, _ = address.reveal().partition("://")
    return scheme if found and scheme.isalnum() else "not an address"


def _answers(text: str) -> dict[int, bool]:
    told = {}
    for line in text.splitlines():
        try:
            sent = msgspec.json.decode(line, type=_Sent)
        except msgspec.DecodeError:
            continue  # cut off by the deadline, or a library's own words
        told[sent.number] = sent.good
    return told


def _send(address: str, title: str, body: str) -> bool:
    import apprise

    # In memory: nothing of a notification is left on the disk.
    asset = apprise.AppriseAsset(storage_mode=apprise.PersistentStoreMode.MEMORY, async_mode=False)
    sender = apprise.Apprise(asset=asset)
    return bool(sender.add(address) and sender.notify(title=title, body=body, notify_type=apprise.NotifyType.FAILURE))


def main(raw: bytes) -> None:
    """Send one order and print what came of each address as soon as that is known."""
    order = msgspec.json.decode(raw, type=_Order)
    out: Sequence[str] = order.addresses
    with ThreadPoolExecutor(max(1, len(out))) as pool:
        sending = {pool.submit(_send, address, order.title, order.body): n for n, address in enumerate(out)}
        for done in as_completed(sending):
            good = done.exception() is None and done.result()
            sys.stdout.write(msgspec.json.encode(_Sent(sending[done], good)).decode() + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer.read())
