"""Minibatches by epochs: every row walks through random permutations of its own training set."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from luceloop.core import rng
from luceloop.core.learners.base import TrainingSet


class Minibatches:
    """Draws batches of R training sets; sets of different sizes start their epochs apart."""

    def __init__(
        self,
        training: TrainingSet,
        batch_size: int,
        seeds: Sequence[int],
        iteration: int,
        segment: int = 0,
    ) -> None:
        self._flat = training.samples.flatten(0, 1)
        self._offsets = [row * training.samples.shape[1] for row in range(len(seeds))]
        self._sizes: list[int] = training.sizes.tolist()
        self._batch_size = batch_size
        self._generators = rng.streams(seeds, "minibatches", iteration, segment)
        self._left = [torch.empty(0, dtype=torch.int64) for _ in seeds]

    def take(self, batches: int) -> Tensor:
        """The next `batches` batches `(batches, R, batch_size, ...)`."""
        index = torch.stack([self._indices(r, batches) for r in range(len(self._sizes))], 1)
        return self._flat[index.to(self._flat.device)]

    def _indices(self, row: int, batches: int) -> Tensor:
        wanted = batches * self._batch_size
        pieces, have = [self._left[row]], len(self._left[row])
        while have < wanted:
            epoch = torch.randperm(self._sizes[row], generator=self._generators[row])
            pieces.append(epoch + self._offsets[row])
            have += len(epoch)
        index = torch.cat(pieces)
        self._left[row] = index[wanted:]
        return index[:wanted].reshape(batches, self._batch_size)
