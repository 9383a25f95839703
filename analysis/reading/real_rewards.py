"""The real data's rewards that a sweep recorded: its theory needs no classifier and no user's code.

A sweep records them where scoring is not ours alone: see `core.theory.real_law.is_recorded`.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np

from luceloop.analysis.reading import labels
from luceloop.analysis.reading.store import SweepRuns
from luceloop.core.config.point import PointConfig
from luceloop.core.io.fingerprints import digest
from luceloop.core.theory.law import RewardLaw
from luceloop.core.theory.real_law import RealRewards, is_recorded


def recorded_law(runs: SweepRuns, index: int, config: PointConfig) -> RewardLaw | None:
    """The law of a point's real data as its sweep scored it; None where that is not in the store.

    Args:
        runs: the sweep.
        index: the point's number.
        config: of the point.
    """
    if not is_recorded(config):
        return None
    run, file = runs.points[index].info.run_id, f"{labels.INITIAL}/{labels.REAL_REWARDS}"
    if file not in {found.path for found in runs.client.list_artifacts(run, labels.INITIAL)}:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return read_law(Path(runs.client.download_artifacts(run, file, folder)))


def read_law(file: Path) -> RewardLaw | None:
    """The law that a file of real rewards tells, the same object for the same content.

    Returns:
        None if there is no file: the sweep is of an older version, or records none.
    """
    if not file.exists():
        return None
    return _read(_Content(file, digest(file.read_bytes())))


class _Content:
    """A file known by its content."""

    def __init__(self, file: Path, known: str) -> None:
        self.file, self._known = file, known

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Content) and other._known == self._known

    def __hash__(self) -> int:
        return hash(self._known)


@functools.lru_cache(maxsize=8)
def _read(content: _Content) -> RewardLaw:
    with np.load(content.file, allow_pickle=False) as arrays:
        return RealRewards.of(dict(arrays)).law
