"""What a sweep's numbers come from: digests and copies of the user's files, git, and versions.

sweeps/<id>/provenance.json
sweeps/<id>/provenance/begun/{sources/, diff.patch}
sweeps/<id>/provenance/accepted-1/{sources/, diff.patch}

The folders hold the user's code as the sweep began, and as it was whenever a change was accepted.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import luceloop
from luceloop.core.config.webhooks import without_address, without_addresses
from luceloop.core.io.files import write_atomically
from luceloop.core.io.holdings import Change, Holdings, place_of
from luceloop.core.io.plugins import used_folder
from luceloop.core.loop.initial import FORMAT
from luceloop.sweeps.record.damage import read_json
from luceloop.sweeps.record.folders import SweepFolder
from luceloop.sweeps.record.revision import Revision, revision_of

PACKAGES = ("torch", "torchcfm", "torchdiffeq", "numba", "ray", "optuna", "mlflow", "numpy")
"""Packages whose versions are recorded."""


@dataclass(frozen=True)
class Acceptance:
    """Changes that the user went on with.

    Example:
        Acceptance("2025-12-31T23:59:59+00:00", [Change("my_rewards.py", "changed", "9f…", "60…")])
    """

    time: str
    """When, in UTC, as ISO 8601 has it."""
    changes: Sequence[Change]
    """What had changed, with digests before and after."""
    git: Mapping[str, Any] | None = None
    """What the user's folder had checked out then; see `Provenance.git`."""


@dataclass(frozen=True)
class Provenance:
    """What is on record of where a sweep's numbers come from."""

    files: Holdings
    """Digests of the user's files by name, those of accepted changes included."""
    git: Mapping[str, Any] | None
    """`commit` and `dirty` of the user's folder when the sweep began; None without a repository."""
    versions: Mapping[str, str]
    """Of Python and packages, when the sweep began."""
    accepted: Sequence[Acceptance] = ()
    """Changes that the user went on with, oldest first."""
    format: int = 2
    """`core.loop.initial.FORMAT` as the sweep began: with another one, numbers are others."""


def read_provenance(folder: SweepFolder) -> Provenance | None:
    """What is on record; None where a sweep has not begun, or began with an older version."""
    if not folder.provenance.exists():
        return None
    return read_json(folder.provenance, parse_provenance)


def parse_provenance(plain: Any) -> Provenance:
    """What the plain values of a `provenance.json` say."""
    accepted = [
        Acceptance(each["time"], [Change(**change) for change in each["changes"]], each["git"])
        for each in plain.pop("accepted")
    ]
    return Provenance(**plain, accepted=accepted)


def begin_provenance(folder: SweepFolder, files: Holdings, code: Iterable[str]) -> Provenance:
    """Put on record what a sweep begins with.

    Args:
        folder: the sweep's folder.
        files: digests of the user's files by name.
        code: names of those that are copied.
    """
    revision = revision_of(used_folder())
    found = Provenance(files, _described(revision), versions(), format=FORMAT)
    _keep(folder, "begun", code, revision)
    _write(folder, found)
    return found


def accept_changes(
    folder: SweepFolder,
    before: Provenance,
    files: Holdings,
    changes: Sequence[Change],
    code: Iterable[str],
) -> Provenance:
    """Put on record that the user goes on with changed files.

    Args:
        folder: the sweep's folder.
        before: what was on record.
        files: digests of the user's files from now on.
        changes: what they go on with.
        code: names of the files that are copied.
    """
    revision = revision_of(used_folder())
    now = datetime.now(UTC).isoformat(timespec="seconds")
    accepted = [*before.accepted, Acceptance(now, changes, _described(revision))]
    _keep(folder, f"accepted-{len(accepted)}", code, revision)
    found = replace(before, files=files, accepted=accepted, format=FORMAT)
    _write(folder, found)
    return found


def versions() -> dict[str, str]:
    """The versions of Python, of this package and of those that numbers depend on."""
    own = {"python": platform.python_version(), "luceloop": luceloop.__version__}
    return own | {name: version(name) for name in PACKAGES}


def _described(revision: Revision | None) -> dict[str, Any] | None:
    return None if revision is None else {"commit": revision.commit, "dirty": revision.is_dirty}


def _keep(folder: SweepFolder, name: str, code: Iterable[str], revision: Revision | None) -> None:
    """Copy code, and what git has of it, to a folder beneath the sweep's."""
    kept = folder.provenance_files / name
    for file in code:
        place = place_of(file)
        if place is not None:
            copy = kept / "sources" / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            _copy(place, copy, folder.address)
    if revision is not None and revision.diff:
        kept.mkdir(parents=True, exist_ok=True)
        diff = without_addresses(revision.diff, folder.address)
        write_atomically(diff, kept / "diff.patch")


def _copy(code: Path, copy: Path, address: str) -> None:
    """Copy a file, without the address that the sweep tells of itself, as MLflow gets it, too."""
    content = code.read_bytes().decode(errors="surrogateescape")
    copy.write_bytes(without_address(content, address).encode(errors="surrogateescape"))


def _write(folder: SweepFolder, found: Provenance) -> None:
    """Last of all: it says that the rest is there."""
    write_atomically(json.dumps(asdict(found), indent=2), folder.provenance)


def copied_files(folder: SweepFolder) -> list[Path]:
    """All files of a sweep's provenance, the one that says the rest is there last."""
    if not folder.provenance.exists():
        return []
    kept = sorted(file for file in folder.provenance_files.rglob("*") if file.is_file())
    return [*kept, folder.provenance]
