"""What stands where a value belongs: no secret in a diff, no value in an env file. Pure."""

from __future__ import annotations

import re

# What example files and documentation put where a value belongs.
_PLACEHOLDER = re.compile(
    r"<.*>|\{\{.*\}\}|\$\{?[A-Za-z_]\w*\}?|x{3,}|\*{3,}|\.{3,}|…"
    r"|(?:please[-_ ]?)?(?:change|replace|fill)[-_ ]?(?:me|this|it)?[-_ ]?(?:in|now|please)?"
    r"|todo|tbd|fixme|none|null|undefined|secret|password|example|placeholder|your[-_ ].*",
    re.IGNORECASE,
)


def is_placeholder(value: str) -> bool:
    """Whether a value only holds the place of one: empty, `changeme`, `<…>`, `xxx` and their kin."""
    return not value.strip() or _PLACEHOLDER.fullmatch(value.strip()) is not None
