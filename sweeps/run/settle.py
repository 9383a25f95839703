"""Holding a sweep to the user's files: a sweep goes on with those it began with, or not at all."""

from __future__ import annotations

from luceloop.core.config.dependencies import code_of, dependencies
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ChangedFileError
from luceloop.core.fields import named_code
from luceloop.core.io.holdings import Holdings, changes, digests, in_words
from luceloop.sweeps.record.folders import SweepFolder
from luceloop.sweeps.record.provenance import (
    Provenance,
    accept_changes,
    begin_provenance,
    read_provenance,
)
from luceloop.sweeps.search.space import check_space


def settle(folder: SweepFolder, config: SweepConfig, *, accept: bool) -> Provenance:
    """Compare the user's files with what a sweep has on record of them, or put that on record.

    Args:
        folder: the sweep's folder.
        config: of the sweep.
        accept: whether to go on with what has changed; that is put on record, too.

    Raises:
        ChangedFileError: naming what has changed, unless that is accepted.
        StorageError: if a URL cannot be read now.
    """
    points = check_space(config)
    needed = dependencies(points)
    code = code_of({name for point in points for name in named_code(point).values()})
    before = read_provenance(folder)
    if before is None:
        return begin_provenance(folder, _present(digests(needed)), code)
    now = digests(needed | set(before.files))
    found = changes(before.files, now)
    if not found:
        return before
    if not accept:
        remedy = "restore it, or go on with --accept-changes"
        if any(change.kind == "missing" for change in found):
            remedy = f"run this in the folder that holds it, {remedy}"
        raise ChangedFileError(f"{in_words(found)} since sweep {folder.id} began", remedy)
    files = _present({name: now[name] for name in needed})
    return accept_changes(folder, before, files, found, code)


def _present(found: dict[str, str | None]) -> Holdings:
    return {name: digest for name, digest in sorted(found.items()) if digest is not None}
