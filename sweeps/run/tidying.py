"""Deleting sweeps, and what of them is no longer needed."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass

from luceloop.analysis.reading.store import connect, said_by_store
from luceloop.core.errors import ConfigError, StorageError
from luceloop.core.io.places import Folder, remove_folder
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.holding import held
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.record.mirror import mirrored
from luceloop.sweeps.run.summary import size_of

logger = logging.getLogger(__name__)

KINDS = ("attempts", "states", "cache")
"""What `unneeded` finds: checkpoints of sweeps that have ended, last states, trained p_0."""


@dataclass(frozen=True)
class Unneeded:
    """A folder that may be deleted."""

    kind: str
    """One of `KINDS`."""
    folder: Folder
    size: int
    """Bytes."""
    costs: str
    """What is lost with it."""


def remove_sweep(output: Output, folder: SweepFolder, *, force: bool = False) -> str:
    """Delete a sweep: what its workers shared, its folder, and its runs in MLflow.

    Args:
        output: the output folder.
        folder: the sweep's folder.
        force: whether to delete the rest where its storage does not answer.

    Returns:
        Why MLflow keeps its runs; empty if it does not.

    Raises:
        ConfigError: if another process runs it, here or on another machine.
        StorageError: if its storage does not answer; nothing is deleted then.
    """
    with held(folder), contextlib.ExitStack() as stack:
        try:
            if folder.has_own_storage:
                if not _has_ended(folder):
                    stack.enter_context(mirrored(folder))
                remove_folder(folder.storage / "sweeps" / folder.id)
        except StorageError:
            if not force:
                raise
        remove_folder(output.artifacts / folder.id)
        shutil.rmtree(folder.path)
    if output.has_no_store:
        return ""
    try:
        client = connect(output.tracking_uri, create=False)
        for found in client.search_experiments(filter_string=f"name LIKE '%/{folder.id}'"):
            client.delete_experiment(found.experiment_id)
    except Exception as error:  # whatever a store may raise, the sweep itself is gone
        return said_by_store(error, output.tracking_uri)
    return ""


def extended_by(output: Output, folder: SweepFolder) -> list[str]:
    """Ids of the sweeps that extend a sweep; what they have taken from it stays with them."""
    configs = {other.id: other.try_config() for other in output.sweeps()}
    return [other for other, config in configs.items() if config and config.extends == folder.id]


def unneeded(output: Output, kinds: Iterable[str]) -> list[Unneeded]:
    """What may be deleted without losing a result; nothing of sweeps that are being run.

    Args:
        output: the output folder.
        kinds: which of `KINDS` are looked for.
    """
    found, kinds = list[Unneeded](), set(kinds)
    running = {sweep.id for sweep in output.sweeps() if _may_run(sweep)}
    for sweep in output.sweeps():
        if sweep.id in running or sweep.try_config() is None:  # of those nothing goes
            continue
        lost = f"more iterations of {sweep.config().name} begin anew"
        places = {"states": (sweep.states, lost)}
        if _has_ended(sweep):
            places["attempts"] = sweep.tune, "nothing"
        for kind in places.keys() & kinds:
            folder, costs = places[kind]
            try:
                found.append(Unneeded(kind, folder, size_of(folder), costs))
            except StorageError as error:
                logger.warning("%s is left alone: %s", folder, error)
    if "cache" in kinds and not running:  # of a storage others may use it
        cache, costs = output.path / "cache", "p_0 and classifiers are trained anew"
        found.append(Unneeded("cache", cache, size_of(cache), costs))
    return [each for each in found if each.size]


def remove(found: Iterable[Unneeded]) -> None:
    """Delete folders, whichever of them are still there."""
    for each in found:
        remove_folder(each.folder)


def _has_ended(sweep: SweepFolder) -> bool:
    """Whether all points of a sweep have ended; not where it cannot be read."""
    try:
        points = Ledger(sweep.ledger, writable=False).points.values()
        count = sweep.config().point_count
    except ConfigError:
        return False
    return len([point for point in points if point.status not in (None, "lost")]) == count


def _may_run(sweep: SweepFolder) -> bool:
    """Whether a sweep is being run: here, or maybe on another machine that sees its storage."""
    with contextlib.suppress(ConfigError), held(sweep):
        return sweep.has_own_storage and not _has_ended(sweep)
    return True
