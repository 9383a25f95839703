"""Deleting sweeps, and what of them is no longer needed."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass

from luceloop.analysis.reading import labels
from luceloop.analysis.reading.store import connect
from luceloop.core.errors import ConfigError
from luceloop.core.io.places import Folder, remove_folder
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.holding import held
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.run.summary import size_of

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


def remove_sweep(output: Output, folder: SweepFolder) -> None:
    """Delete a sweep: its folder, what its workers shared, and its runs in MLflow.

    Raises:
        ConfigError: if another process runs it.
        MlflowException: if the tracking store does not take that; the folder is then still there.
        StorageError: if its storage does not answer; likewise.
    """
    with held(folder):
        experiment = labels.experiment_name(folder.config().name, folder.id)
        client = connect(output.tracking_uri)
        found = client.get_experiment_by_name(experiment)
        if found is not None and found.lifecycle_stage == "active":
            client.delete_experiment(found.experiment_id)
        if folder.has_own_storage:
            remove_folder(folder.storage / "sweeps" / folder.id)
        remove_folder(output.artifacts / folder.id)
    shutil.rmtree(folder.path)


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
    sweeps = [sweep for sweep in output.sweeps() if sweep.try_config()]  # of others nothing goes
    running = {sweep.id for sweep in sweeps if _may_run(sweep)}
    for sweep in sweeps:
        if sweep.id in running:
            continue
        if "attempts" in kinds and _has_ended(sweep):
            found.append(_sized("attempts", sweep.tune, "nothing"))
        if "states" in kinds:
            lost = f"more iterations of {sweep.config().name} begin anew"
            found.append(_sized("states", sweep.states, lost))
    if "cache" in kinds and not running:
        for place in dict.fromkeys(str(sweep.cache) for sweep in sweeps):
            cache = next(sweep.cache for sweep in sweeps if str(sweep.cache) == place)
            found.append(_sized("cache", cache, "p_0 and classifiers are trained anew"))
    return [each for each in found if each.size]


def remove(found: Iterable[Unneeded]) -> None:
    """Delete folders, whichever of them are still there."""
    for each in found:
        remove_folder(each.folder)


def _sized(kind: str, folder: Folder, costs: str) -> Unneeded:
    return Unneeded(kind, folder, size_of(folder), costs)


def _has_ended(sweep: SweepFolder) -> bool:
    points = Ledger(sweep.ledger, writable=False).points.values()
    ended = [point for point in points if point.status not in (None, "lost")]
    return len(ended) == sweep.config().point_count


def _may_run(sweep: SweepFolder) -> bool:
    """Whether a sweep is being run: here, or maybe on another machine that sees its storage."""
    with contextlib.suppress(ConfigError), held(sweep):
        return sweep.has_own_storage and not _has_ended(sweep)
    return True
