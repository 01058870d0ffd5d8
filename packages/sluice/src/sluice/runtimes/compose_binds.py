"""What the environment's data folder must have before containers start: folders are made, files are asked for."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from sluice.model.errors import Refused
from sluice.runtimes.compose_file import data_path, data_paths
from sluice.runtimes.compose_values import Origin, Placement, Plans

MODE = 0o755  # whatever the umask of whoever types the command: containers read as other users
FOLDERS = (".d",)  # endings of folders, by custom


def must_have_files(plans: Plans, place: Placement) -> None:
    """Raises Refused for a secret, a config or a mounted file that git does not have and nobody has put there.

    The engine, and we, would make a folder of that name, which then stands where the file belongs.
    """
    missing = [path for path in sorted(_files(plans, place)) if not Path(path).exists()]
    if missing:
        raise Refused(
            f"the Compose files mount {missing[0]}, which is not in the repository and not there."
            + (f" {len(missing) - 1} more {'is' if len(missing) == 2 else 'are'} missing too." if missing[1:] else ""),
            next=f"put the file there: {', '.join(missing)}",
        )


def make_folders(plans: Plans, place: Placement) -> list[str]:
    """Make every folder that is not there. Raises Refused as `must_have_files` does.

    They belong to Sluice's own user and everybody may read them. A sentence for each that a container writes to: one
    that runs as another user needs it made his.
    """
    must_have_files(plans, place)
    told = []
    for path in map(Path, data_paths(plans, place)):
        if not path.exists():
            path.mkdir(parents=True)
            path.chmod(MODE)
            writers = sorted(_writers(str(path), plans, place))
            if writers:
                told.append(
                    f"made {path} for {', '.join(writers)}; it belongs to {os.geteuid()}:{os.getegid()}: "
                    "a container that runs as another user cannot write there before `chown`"
                )
    return told


def _writers(path: str, plans: Plans, place: Placement) -> set[str]:
    return {
        name
        for name, plan in plans.items()
        for mount in plan.mounts
        if mount.state and mount.source is not None and mount.source.origin is Origin.DATA
        if data_path(mount.source, place) == path
    }


def _files(plans: Plans, place: Placement) -> set[str]:
    found = {source for plan in plans.values() for source in plan.files.values()}
    for plan in plans.values():
        for mount in plan.mounts:
            # A path whose ending is the same on both sides is a file's: ./nginx.conf:/etc/nginx/nginx.conf.
            ending = PurePosixPath(mount.target).suffix
            if mount.source is not None and ending and ending not in FOLDERS:
                found |= {mount.source} if PurePosixPath(mount.source.relative).suffix == ending else set()
    return {data_path(source, place) for source in found if source.origin is Origin.DATA}
