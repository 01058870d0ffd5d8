"""What the environment's data folder must have before containers start: folders are made, files are asked for."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from sluice.model.errors import Refused
from sluice.runtimes.compose_file import data_path, data_paths
from sluice.runtimes.compose_values import Origin, Placement, Plans

FOLDERS = (".d",)  # endings of folders, by custom


def must_have_files(plans: Plans, place: Placement) -> None:
    """Raises Refused for a secret, a config or a mounted file that git does not have and nobody has put there.

    The engine, and we, would make a folder of that name, which then stands where the file belongs.
    """
    missing = [path for path in sorted(_files(plans, place)) if not Path(path).exists()]
    if missing:
        raise Refused(
            f"the Compose files mount {missing[0]}, which is not in the repository and not there."
            + (f" {len(missing) - 1} more are missing too." if missing[1:] else ""),
            next=f"put the file there: {', '.join(missing)}",
        )


def make_folders(plans: Plans, place: Placement) -> None:
    """Make every folder that is not there. Raises Refused as `must_have_files` does."""
    must_have_files(plans, place)
    for path in data_paths(plans, place):
        if not Path(path).exists():
            Path(path).mkdir(parents=True)


def _files(plans: Plans, place: Placement) -> set[str]:
    found = {source for plan in plans.values() for source in plan.files.values()}
    for plan in plans.values():
        for mount in plan.mounts:
            # A path whose ending is the same on both sides is a file's: ./nginx.conf:/etc/nginx/nginx.conf.
            ending = PurePosixPath(mount.target).suffix
            if mount.source is not None and ending and ending not in FOLDERS:
                found |= {mount.source} if PurePosixPath(mount.source.relative).suffix == ending else set()
    return {data_path(source, place) for source in found if source.origin is Origin.DATA}
