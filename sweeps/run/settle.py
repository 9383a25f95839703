"""Holding a sweep to the user's files: a sweep goes on with those it began with, or not at all."""

from __future__ import annotations

from luceloop.core.config.dependencies import code_of, dependencies
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ChangedFileError
from luceloop.core.fields import named_code
from luceloop.core.io.holdings import Holdings, changes, digests, in_words, is_code
from luceloop.core.loop.initial import FORMAT
from luceloop.sweeps.record.folders import SweepFolder
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.record.provenance import (
    Provenance,
    accept_changes,
    begin_provenance,
    read_provenance,
)
from luceloop.sweeps.search.space import reached_points


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
    points = reached_points(config)
    needed = dependencies(points)
    code = code_of({name for point in points for name in named_code(point).values()})
    before = read_provenance(folder)
    older = (before is None or before.format != FORMAT) and _goes_on(folder, config)
    if older and not accept:
        remedy = "run it anew, or go on with --accept-changes"
        was = f"sweep {folder.id} was begun by an older version, whose numbers this one changes"
        raise ChangedFileError(was, remedy)
    if before is None:
        return begin_provenance(folder, _present(digests(needed)), code)
    appeared = {name for name in needed - set(before.files) if not is_code(name)}
    now = digests((needed | set(before.files)) - appeared)
    found = changes(before.files, now)
    if not found and not older:
        return before
    if not accept:
        remedy = "restore it, or go on with --accept-changes"
        if any(change.kind == "missing" for change in found):
            remedy = f"run this in the folder that holds it, {remedy}"
        raise ChangedFileError(f"{in_words(found)} since sweep {folder.id} began", remedy)
    files = _present({name: now[name] for name in needed - appeared})
    return accept_changes(folder, before, files, found, code)


def _goes_on(folder: SweepFolder, config: SweepConfig) -> bool:
    """Whether a sweep has iterations on record, and points that have not ended."""
    points = Ledger(folder.ledger, writable=False).points.values()
    ended = sum(point.status is not None for point in points)
    return ended < config.point_count and any(point.rows for point in points)


def _present(found: dict[str, str | None]) -> Holdings:
    return {name: digest for name, digest in sorted(found.items()) if digest is not None}
