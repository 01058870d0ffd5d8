"""`--waive GATE=REASON` on the command line. Whoever asks the gates refuses, and records, what cannot be waived."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from sluice.model.text import one_line


def _parsed(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    waivers: dict[str, str] = {}
    for text in given:
        gate, _, reason = text.partition("=")
        if gate in waivers:
            raise click.BadParameter(f"{gate} is waived twice")
        waivers[gate] = one_line(reason)
    return waivers


def waive_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `waivers`: a mapping of gate to reason, as they were typed."""
    return click.option(
        "--waive",
        "waivers",
        multiple=True,
        metavar="GATE=REASON",
        callback=_parsed,
        help="Pass over a gate and say why; it runs all the same. Recorded under your name, shown ever after.",
    )(command)
