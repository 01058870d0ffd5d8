"""docs/reference/scripts.md, from the table the scripts themselves are written from."""

from __future__ import annotations

from collections.abc import Iterator

import click

import sluice.cli.main  # noqa: F401 - it adds every command
from sluice.cli import shims


def scripts_page() -> str:
    """docs/reference/scripts.md."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield "# The runbook's scripts"
    yield ""
    yield "<!-- Generated from sluice.cli.shims by scripts/generate_docs.py (make docs). Do not edit. -->"
    yield ""
    yield "`sluice shims install DIR` writes these into a folder of the server; `sluice shims check DIR` says whether"
    yield "they are current. Each only calls the Sluice that installed it, with the `SLUICE_STATE` and"
    yield "`SLUICE_HOST_CONFIG` of that moment where the environment does not set them. A file that Sluice did not"
    yield "write is replaced only with `--force`. What they print and their exit codes are [those of"
    yield "Sluice](sluice.md); an unknown word shows the script's usage and is exit code 2. From a laptop:"
    yield ""
    yield "```"
    yield "ssh server 'cd ~/srv/edge && ./scripts/release-command.sh rollout --env test --service NAME --branch BRANCH'"
    yield "```"
    for script in shims.SCRIPTS:
        yield ""
        yield f"## {script.name}"
        yield ""
        yield script.does
        for verb, command in shims.verbs_of(script).items():
            yield from _verb(script, verb, command)


def _verb(script: shims.Script, verb: str, command: click.Command) -> Iterator[str]:
    yield ""
    if len(script.verbs) > 1:
        yield f"### {script.name} {verb}"
        yield ""
    told = (command.help or "").split("\n\n")[0].replace("\n", " ")
    yield f"`sluice {verb}`: {told}"
    yield ""
    yield "| parameter | must be given | meaning |"
    yield "|---|---|---|"
    for one in shims.parameters_of(script, command):
        name = one.name if one.flag else f"{one.name} {one.name[2:].upper()}"
        yield f"| `{name}` | {'yes' if one.required else ''} | {one.help} |"
