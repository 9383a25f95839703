"""The sweeps that figures are drawn from: those that are there, or new ones."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from luceloop.core.config.parsing import plain_config
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError, StorageError
from luceloop.sweeps.presets.reading import read_config
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.reproduction.catalogue import PaperFigure
from luceloop.sweeps.results import check_outcome, finish
from luceloop.sweeps.run.driver import run_sweep
from luceloop.sweeps.run.start import create
from luceloop.sweeps.tracking.delivery import sync

SPOKEN = ("name", "description", "claims", "resources")
"""Keys that change no number, in which a sweep may differ from what a figure is drawn from."""


def config_of(figure: PaperFigure, overrides: Sequence[str]) -> SweepConfig:
    """The configuration that a figure is drawn from."""
    return read_config(figure.preset, [*figure.overrides, *overrides])


def find_sweep(config: SweepConfig, output: Output) -> SweepFolder | None:
    """The sweep of an output folder that has most of a configuration's points, the newest such."""
    best, most = None, -1
    for folder in output.sweeps():
        try:
            same = _numbers(folder.config()) == _numbers(config)
            if same and not _failed(folder) and (done := done_points(folder)) >= most:
                best, most = folder, done
        except ConfigError:  # of another version, or damaged: no figure is drawn from it
            continue
    return best


def done_points(folder: SweepFolder) -> int:
    """How many points of a sweep have run to their end."""
    points = Ledger(folder.ledger, writable=False).points.values()
    return sum(point.status == "done" for point in points)


def _failed(folder: SweepFolder) -> bool:
    """Whether a point came to nothing, so that running the sweep again would change nothing."""
    points = Ledger(folder.ledger, writable=False).points.values()
    return any(point.status == "failed" for point in points)


def _numbers(config: SweepConfig) -> dict[str, object]:
    return {key: value for key, value in plain_config(config).items() if key not in SPOKEN}


def complete(
    config: SweepConfig, found: SweepFolder | None, output: Output, console: Console
) -> SweepFolder:
    """Run a configuration, or what is left of a sweep of it.

    Raises:
        KeyboardInterrupt: after Ctrl-C; the same command goes on.
        LoopError: if points failed.
        StorageError: if the tracking store does not have all of it.
    """
    if found is not None and done_points(found) == config.point_count:
        delivered = sync(found, output)  # the store may be another one, or may have been down
        if delivered.undelivered:
            raise StorageError(f"MLflow at {output.shown_uri} lacks a part: {delivered.error}")
        return found
    folder = found or create(config, output)
    console.print(f"sweep {folder.id}  {config.name}", highlight=False)
    outcome = run_sweep(folder, output, console)
    delivery = finish(outcome.delivery, output, folder, figures=False)
    check_outcome(outcome, delivery, output)
    return folder
