"""Trained p_0, one file per seed, shared by all points and sweeps that would train the same.

A file's name is the fingerprint of everything that determines its content. Trials that need the
same models wait for one another, so nothing is trained twice; a killed trial leaves no half file,
but how far a long training was.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from filelock import Timeout

from luceloop.core.config.point import PointConfig
from luceloop.core.io.fingerprints import fingerprint
from luceloop.core.io.locks import lock
from luceloop.core.io.places import Folder, make_folder
from luceloop.core.io.saved import read_saved, save_atomically
from luceloop.core.learners.base import Fitted, Progress, select_row, to_device

Train = Callable[[list[int], Progress], Fitted]
"""Trains p_0 of some rows; a learner that takes long notes its progress."""
Contents = dict[int, dict[str, Any]]
"""By row, what the file of a trained p_0 holds."""
FORMAT = 4
"""Raised whenever the same configuration would train to other bits, or be measured otherwise."""


def initial_key(config: PointConfig, device: str) -> str:
    """The fingerprint of all that determines the trained p_0 of a seed, but for the seed.

    Other points of a sweep (β, λ, K, the reward, the length of the loop) share it.
    """
    return fingerprint(
        {
            "format": FORMAT,
            "torch": torch.__version__,
            "device": torch.device(device).type,
            "threads": config.resources.threads,
            "data": config.data.identity(),
            "learner": config.learner.initial_fit(),
        }
    )


@dataclass(frozen=True)
class InitialModels:
    """The cache of trained p_0 in one folder, which all nodes may share."""

    folder: Folder

    def get(self, key: str, seeds: Sequence[int], train: Train, one_by_one: bool = False) -> Fitted:
        """p_0 of `seeds`, training those that are missing.

        Args:
            key: from `initial_key`.
            seeds: R seeds.
            train: trains p_0 of the rows (positions in `seeds`) it is given.
            one_by_one: whether each is trained and kept by itself, and another process that needs
                the same ones trains others meanwhile; else the missing ones are one ensemble.
        """
        make_folder(self.folder)
        rows = list(range(len(seeds)))
        if one_by_one:
            found = self._each(key, seeds, train)
        else:
            with lock(self.folder / f"p0-{key}").acquire():
                found = self._together(key, seeds, rows, train)
        return Fitted.stack([Fitted(found[row]["state"], found[row]["loss"]) for row in rows])

    def _each(self, key: str, seeds: Sequence[int], train: Train) -> Contents:
        """Every row by itself; those that others are training come last."""
        found: Contents = {}
        waiting, patience = list(range(len(seeds))), 0.0
        locks = [lock(self.folder / f"p0-{key}-seed{seed}") for seed in seeds]
        while waiting:
            for row in waiting:
                try:
                    with locks[row].acquire(timeout=patience):
                        found |= self._together(key, seeds, [row], train)
                except Timeout:
                    continue
            waiting, patience = [row for row in waiting if row not in found], 1.0
        return found

    def _together(self, key: str, seeds: Sequence[int], rows: list[int], train: Train) -> Contents:
        """What is kept of `rows`, those that are missing trained as one; their lock is held."""
        contents = {row: read_saved(self._path(key, seeds[row])) for row in rows}
        missing = [row for row, content in contents.items() if content is None]
        found = {row: content for row, content in contents.items() if content is not None}
        return found | (self._train(key, seeds, missing, train) if missing else {})

    def _train(self, key: str, seeds: Sequence[int], missing: list[int], train: Train) -> Contents:
        which = hashlib.sha256(str([seeds[row] for row in missing]).encode()).hexdigest()[:8]
        progress = ProgressFile(self.folder / f"p0-{key}-{which}.unfinished.pt")
        fitted = train(missing, progress)
        found = {}
        for position, row in enumerate(missing):
            loss = None if fitted.loss is None else fitted.loss[position : position + 1]
            state = to_device(select_row(fitted.state, position), "cpu")
            found[row] = {"state": state, "loss": loss}
            save_atomically(found[row], self._path(key, seeds[row]))
        progress.path.unlink(missing_ok=True)
        return found

    def _path(self, key: str, seed: int) -> Folder:
        return self.folder / f"p0-{key}-seed{seed}.pt"


@dataclass
class ProgressFile:
    """How far a training is: see `core.learners.base.Progress`."""

    path: Folder
    every: float = 60.0
    """Seconds between two notes."""

    def __post_init__(self) -> None:
        self._last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """What was noted last; None if nothing that can be read was."""
        return read_saved(self.path)

    def save(self, snapshot: Callable[[], Mapping[str, Any]]) -> None:
        """Note `snapshot()`, unless the last note is recent."""
        if time.monotonic() - self._last < self.every:
            return
        save_atomically(dict(snapshot()), self.path)
        self._last = time.monotonic()
