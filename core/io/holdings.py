"""Files of the user's by name and digest: what is on record of them, and whether it is so still.

A module is named by its place in the user's folder or, elsewhere on the path, beneath the folder of
its top-level package; any other file as the configuration names it, which knows absolute paths and
URLs and, in the `args` of plugins, places in the user's folder. So code has the same names on
another node and in a folder that was moved, and data wherever a command is run.

Example:
    {"my_rewards.py": "9f86d0…", "/data/mine.npz": "60303a…", "s3://bucket/weights.pt": "fd61a0…"}
"""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from luceloop.core.errors import ChangedFileError, ConfigError
from luceloop.core.io.fingerprints import content_digest, file_digest
from luceloop.core.io.places import is_url, local_file
from luceloop.core.io.plugins import sources, used_folder

Holdings = Mapping[str, str]
"""Digests of files by name."""
SMALL = 2**20
"""Bytes of a file that is read again whenever it is asked for; others go by their times, too."""


@dataclass(frozen=True)
class Change:
    """A file that is not as it was.

    Example:
        Change("my_rewards.py", "changed", was="9f86d0…", now="60303a…")
    """

    file: str
    """Its name."""
    kind: Literal["changed", "missing", "new"]
    """`new` is a file that was not there, such as a module that an import now finds."""
    was: str | None
    """Its digest on record; None if there is none."""
    now: str | None
    """Its digest now; None if it is not there."""

    def __str__(self) -> str:
        words = {"changed": "has changed", "missing": "is missing", "new": "was not there"}
        return f"{self.file} {words[self.kind]}"


def is_code(name: str) -> bool:
    """Whether a name is that of a source file."""
    return name.endswith(".py")


def changes(recorded: Holdings, now: Mapping[str, str | None]) -> list[Change]:
    """How files differ from what is on record, in the order of their names.

    Args:
        recorded: digests on record, by name.
        now: digests now, by name; None, or no entry, of files that are not there.
    """
    found = []
    for name in sorted({*recorded, *now}):
        was, is_now = recorded.get(name), now.get(name)
        if was == is_now:
            continue
        kind: Literal["changed", "missing", "new"] = "changed"
        if was is None or is_now is None:
            kind = "new" if was is None else "missing"
        found.append(Change(name, kind, was, is_now))
    return found


def in_words(found: Iterable[Change]) -> str:
    """Changes as a part of one line."""
    return ", ".join(map(str, found))


def name_of(path: str | Path) -> str:
    """The name of a file or folder that is no module, one for all spellings of its path."""
    return str(path) if is_url(str(path)) else os.path.normpath(path)


def place_of(name: str) -> Path | None:
    """Where this process finds what has a name; None if it is not there.

    Raises:
        StorageError: if a URL cannot be read now.
    """
    if is_url(name):
        try:
            return local_file("file", name)
        except ConfigError:
            return None
    place = used_folder() / name  # which is an absolute name's own
    return place if place.exists() else sources().find(name)


def digests(names: Iterable[str]) -> dict[str, str | None]:
    """The digests of files and folders as they are now, by name; None of those not there.

    Raises:
        StorageError: if a URL cannot be read now.
    """
    return {name: None if (at := place_of(name)) is None else _digest(at) for name in names}


def _digest(place: Path) -> str:
    if place.is_dir():
        return content_digest(place)
    status = place.stat()
    if status.st_size <= SMALL:
        return file_digest(place)
    return _digest_of_large(place, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@functools.lru_cache(maxsize=256)
def _digest_of_large(place: Path, *version: int) -> str:
    return file_digest(place)


class Guard:
    """Lets a process run a sweep's points only on the files that the sweep has on record.

    Code is compared once, before this process imports it, since it goes on with what it holds;
    other files are compared whenever a point needs them.
    """

    def __init__(self) -> None:
        self._imported: dict[str, str] = {}

    def check(self, needed: Holdings, here: Iterable[str] = ()) -> None:
        """Compare what a point needs with what is here.

        Args:
            needed: digests on record, by name.
            here: names of files that the point would use on this node.

        Raises:
            ChangedFileError: naming what differs.
            StorageError: if a URL cannot be read now.
        """
        asked = {name: was for name, was in needed.items() if self._imported.get(name) != was}
        # Other files than code may be what the user's code itself has written meanwhile.
        new = {name for name in set(here) - self._imported.keys() if is_code(name)}
        found = changes(asked, digests({*asked, *new}))
        if found:
            remedy = "restore it there, then resume the sweep"
            raise ChangedFileError(f"{in_words(found)} on node {platform.node()}", remedy)
        self._imported |= {name: was for name, was in asked.items() if is_code(name)}
