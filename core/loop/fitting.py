"""Fitting: what the next model of each row is trained on, and p_0 from the cache.

Axes: R rows, N real samples, M kept samples, `...` the sample's own shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from luceloop.core import rng
from luceloop.core.config.point import PointConfig
from luceloop.core.data.base import RealData
from luceloop.core.io.places import Folder
from luceloop.core.learners.base import (
    Fitted,
    Learner,
    PatientLearner,
    Progress,
    TrainingSet,
    to_device,
)
from luceloop.core.loop.initial import InitialModels, initial_key
from luceloop.core.loop.state import LoopState
from luceloop.core.pool.rows import Rows


class Fitter:
    """Trains the next model of any rows of a loop."""

    def __init__(
        self,
        config: PointConfig,
        rows: Rows,
        dataset: RealData,
        learner: Learner,
        *,
        device: str = "cpu",
        cache: Folder | None = None,
    ) -> None:
        """Take the parts of a loop.

        Args:
            config: the point.
            rows: of the loop.
            dataset: where real samples come from.
            learner: what trains.
            device: where it trains.
            cache: folder of trained p_0; without one, it is trained anew.
        """
        self.config, self.rows, self.dataset = config, rows, dataset
        self.learner, self.device, self.cache = learner, device, cache
        self._drawn: dict[int, Tensor] = {}

    def fit(self, start: LoopState | None, rows: Sequence[int] | None = None) -> Fitted:
        """Train the next model of some rows, or of all.

        Args:
            start: where these rows stand; None for p_0.
            rows: positions in the configuration's seeds.

        Raises:
            LoopError: if losses or samples become NaN or infinite.
        """
        rows = range(len(self.rows.seeds)) if rows is None else rows
        if start is None:
            return self._initial(rows)
        training = self.training_set(start, rows)
        state = to_device(start.learner, self.device)
        return self.learner.fit(state, training, self._seeds(rows), start.iteration + 1)

    @property
    def one_by_one(self) -> bool:
        """Whether rows gain nothing by training together."""
        return isinstance(self.learner, PatientLearner) and self.learner.one_by_one

    def _initial(self, rows: Sequence[int]) -> Fitted:
        """p_0, trained on all real samples."""
        seeds = self._seeds(rows)

        def train(missing: list[int], progress: Progress | None) -> Fitted:
            real = [self._real(rows[position]) for position in missing]
            samples = real[0][None] if len(real) == 1 else torch.stack(real)
            training = TrainingSet(samples, torch.tensor([len(part) for part in real]))
            chosen = [seeds[position] for position in missing]
            if progress is not None and isinstance(self.learner, PatientLearner):
                return self.learner.fit_initial(training, chosen, progress)
            return self.learner.fit(None, training, chosen, 0)

        if self.cache is None or self.config.learner.reads_initial:
            fitted = train(list(range(len(seeds))), None)
        else:
            key = initial_key(self.config, self.device)
            fitted = InitialModels(self.cache).get(key, seeds, train, self.one_by_one)
        return Fitted(to_device(fitted.state, self.device), fitted.loss)

    def _seeds(self, rows: Sequence[int]) -> list[int]:
        return [self.rows.seeds[row] for row in rows]

    def _real(self, row: int) -> Tensor:
        """A row's real samples `(N, ...)`, a function of its seed alone."""
        if row in self._drawn:
            return self._drawn[row]
        generator = rng.stream(self.rows.seeds[row], "real-data")
        drawn = self.dataset.draw(self.dataset.size, generator)
        if int(self.rows.real[row]) and self.config.training.real == "fixed":
            self._drawn[row] = drawn
        return drawn

    def training_set(self, start: LoopState, rows: Sequence[int] | None = None) -> TrainingSet:
        """What the next models are trained on: real samples, then kept ones, of each row.

        Args:
            start: where these rows stand.
            rows: positions in the configuration's seeds; all if not given.

        Raises:
            ValueError: if `start` was the end of a shorter loop, where nothing was kept to go on.
        """
        if start.kept is None and int(self.rows.kept.max()):
            raise ValueError(f"a loop of {start.iteration} iterations cannot be prolonged")
        rows = range(len(self.rows.seeds)) if rows is None else rows
        kept, iteration, sets = start.all_kept, start.iteration + 1, []
        for position, row in enumerate(rows):
            parts = []
            if int(self.rows.real[row]):
                parts.append(self._real_part(row, iteration))
            if kept is not None:
                parts.append(self._kept_part(kept[position], row, iteration))
            sets.append(torch.cat(parts))
        padded = torch.nn.utils.rnn.pad_sequence(sets, batch_first=True)
        return TrainingSet(padded, torch.tensor([len(part) for part in sets]))

    def _real_part(self, row: int, iteration: int) -> Tensor:
        """D_real of a retraining `(N, ...)`: a part of what trained p_0, or samples drawn anew."""
        seed, wanted = self.rows.seeds[row], int(self.rows.real[row])
        if self.config.training.real == "fresh":
            return self.dataset.draw(wanted, rng.stream(seed, "fresh-data", iteration))
        everything = self._real(row)
        if wanted == len(everything):
            return everything
        order = torch.randperm(len(everything), generator=rng.stream(seed, "real-subset"))
        return everything[order[:wanted]]

    def _kept_part(self, sets: Tensor, row: int, iteration: int) -> Tensor:
        """Kept samples of a retraining `(N, ...)`: all that are given, or as many as one set has.

        Args:
            sets: of the row `(sets, M, ...)`, padded.
            row: position in the configuration's seeds.
            iteration: t of the model that is trained.
        """
        count = int(self.rows.kept[row])
        everything = sets[:, :count].flatten(0, 1)
        if self.config.training.synthetic != "subsample" or len(sets) == 1:
            return everything
        generator = rng.stream(self.rows.seeds[row], "kept-subset", iteration)
        return everything[torch.randperm(len(everything), generator=generator)[:count]]
