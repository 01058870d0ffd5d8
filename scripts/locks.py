"""The locked dependency sets: `--write` resolves them anew, `--check` proves without a network that they fit."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMPILE = [
    str(Path(sys.executable).with_name("uv")),
    "pip",
    "compile",
    "--quiet",
    "--universal",
    "--python-version",
    "3.11",
    "--generate-hashes",
]
COMPILE += ["--no-annotate"]
BOLTOREZKA, SLUICE = "packages/boltorezka/pyproject.toml", "packages/sluice/pyproject.toml"
OTHERS = [argument for name in ("server", "smoke", "sluice") for argument in ("-c", f"requirements/{name}.txt")]
SETS = {
    "server": [BOLTOREZKA, "--extra", "server"],
    "smoke": [BOLTOREZKA, "--extra", "smoke"],
    "sluice": [SLUICE],
    "dev": ["--group", "dev", *OTHERS, SLUICE, BOLTOREZKA, "--all-extras"],
}
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^ ;\\]+)", re.MULTILINE)
REGISTRY = re.compile(r"https?://|--(extra-)?index-url|--find-links")


def names(dependencies: list[str]) -> set[str]:
    """The normalised project names of a list of requirements."""
    return {re.split(r"[\[<>=!~; ]", item, maxsplit=1)[0].lower().replace("_", "-") for item in dependencies}


def wanted() -> dict[str, set[str]]:
    """What each set must pin, by the projects' own statements."""
    boltorezka = tomllib.loads((ROOT / BOLTOREZKA).read_text())["project"]["optional-dependencies"]
    sluice = tomllib.loads((ROOT / SLUICE).read_text())["project"]["dependencies"]
    dev = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["dev"]
    direct = {"server": names(boltorezka["server"]), "smoke": names(boltorezka["smoke"]), "sluice": names(sluice)}
    return direct | {"dev": names(dev) | direct["server"] | direct["smoke"] | direct["sluice"], "installer": {"uv"}}


def problems() -> list[str]:
    """Everything wrong with the locks, as sentences."""
    found: list[str] = []
    pins: dict[str, dict[str, str]] = {}
    for name, required in wanted().items():
        text = (ROOT / "requirements" / f"{name}.txt").read_text()
        pins[name] = dict(PIN.findall(text))
        found += [f"requirements/{name}.txt does not pin {missing}" for missing in sorted(required - set(pins[name]))]
        blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
        found += [f"requirements/{name}.txt: {b.split()[0]} has no hash" for b in blocks if "--hash=sha256:" not in b]
        if REGISTRY.search("\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--hash"))):
            found.append(f"requirements/{name}.txt names a registry")
    for name in ("server", "smoke", "sluice", "installer"):
        for project, version in pins[name].items():
            if pins["dev"].get(project, version) != version:
                found.append(f"{project} is {version} in {name}.txt but {pins['dev'][project]} in dev.txt")
    return found


def write() -> None:
    """Resolve every set anew (needs the network), then take the installer's pin out of sluice.txt."""
    for name, arguments in SETS.items():
        subprocess.run([*COMPILE, *arguments, "-o", f"requirements/{name}.txt"], cwd=ROOT, check=True)
    block = re.search(r"^uv==.*?(?=^\S|\Z)", (ROOT / "requirements/sluice.txt").read_text(), re.MULTILINE | re.DOTALL)
    if block is None:
        sys.exit("requirements/sluice.txt does not pin uv")
    comment = "# The installer itself, the first thing put into a new environment (see the Makefile)"
    comment += "; the same pin as in sluice.txt."
    (ROOT / "requirements/installer.txt").write_text(f"{comment}\n{block.group(0)}")


def main() -> None:
    """See the module's sentence."""
    if sys.argv[1:] == ["--write"]:
        write()
    found = problems()
    if found:
        sys.exit("\n".join([*found, "Run: make lock"]))


if __name__ == "__main__":
    main()
