"""What two environments of a host share by what their env files say. Compared by value, told by name alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from sluice.hosts.sources import ServerValues, sources_of
from sluice.model.errors import Refused, StepFailed
from sluice.model.spec import HostEnvironment
from sluice.runtimes.data_places import databases_of, files_of, is_there, is_written


def shared_data(own: HostEnvironment, others: Mapping[str, HostEnvironment]) -> list[str]:
    """One sentence for each source of values, database, file and folder shared with another environment.

    `others` by `service/env`. An env file that is not there yet shares nothing. Raises StepFailed when one cannot be
    read or understood: what nobody looked at is not apart.
    """
    found = []
    mine = _values(own)
    for name, other in sorted(others.items()):
        same = list(_same_sources(own, other))
        found += [f"{what} is also that of {name}" for what in same]
        if f"the env file {own.env_file}" not in same and is_there(Path(other.env_file)):
            found += _same_places(mine, _values(other), name, {own.run_as, other.run_as})
    return found


def _same_sources(own: HostEnvironment, other: HostEnvironment) -> Iterator[str]:
    for field, words in (
        ("env_file", "the env file"),
        ("secret_files", "the folder of secrets"),
        ("sops_file", "the encrypted file"),
        ("age_file", "the encrypted file"),
    ):
        mine, theirs = getattr(own, field), getattr(other, field)
        if mine and theirs and _same(Path(mine), Path(theirs)):
            yield f"{words} {mine}"


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)  # a hard link is the same, too
    except OSError:
        return one.absolute() == other.absolute()


def _same_places(mine: Mapping[str, str], theirs: Mapping[str, str], name: str, users: set[str]) -> Iterator[str]:
    databases, files = databases_of(mine), files_of(mine)
    for variable in sorted({*databases, *files}):
        place, path = databases.get(variable), files.get(variable)
        same = sorted(their for their, its in databases_of(theirs).items() if place and its == place)
        if same:
            yield f"{variable} names the database that {same[0]} of {name} names"
            continue
        near = sorted(
            their
            for their, its in files_of(theirs).items()
            if path
            and (path.is_relative_to(its) or its.is_relative_to(path))
            and (is_written(path, users) or is_written(its, users))
        )
        if near:
            yield f"{variable} names a file or folder that {near[0]} of {name} names, or one inside the other"


def _values(host: HostEnvironment) -> dict[str, str]:
    try:
        values = ServerValues(sources_of(host)).values()
    except Refused as error:
        raise StepFailed(
            f"Whether environments share data cannot be told: {error.what}",
            next=f"{error.next}, or let Sluice run as a user who may read it" if error.next else "",
        ) from error
    return {name: value.reveal() for name, value in values.items()}
