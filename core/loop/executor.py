"""Who does the work of an iteration: this process, or whoever else implements `Executor`.

Which executor a loop runs on changes nothing in its results.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from torch import Tensor

from luceloop.core.learners.base import Fitted
from luceloop.core.loop.fitting import Fitter
from luceloop.core.loop.state import LoopState
from luceloop.core.pool.sampler import ShardSampler
from luceloop.core.pool.shards import ShardResult, ShardTask


class Executor(Protocol):
    """Computes the shards of a pool, and trains the rows of an ensemble."""

    def run_shards(
        self, model: Mapping[str, Tensor], tasks: Sequence[ShardTask]
    ) -> Iterable[ShardResult]:
        """What comes of each shard of a pool, in the order of the tasks.

        Args:
            model: what `Learner.model` returned.
            tasks: the shards.

        Raises:
            LoopError: if samples are NaN or infinite or the reward breaks its contract.
        """
        ...

    def fit_rows(self, start: LoopState | None) -> Fitted:
        """The next model of all rows.

        Args:
            start: where the loop stands; None for p_0.

        Raises:
            LoopError: if losses or samples become NaN or infinite.
        """
        ...


class LocalExecutor:
    """Does everything in this process, one thing after another."""

    def __init__(self, fitter: Fitter, sampler: ShardSampler) -> None:
        self._fitter, self._sampler = fitter, sampler

    def run_shards(
        self, model: Mapping[str, Tensor], tasks: Sequence[ShardTask]
    ) -> Iterator[ShardResult]:
        """What comes of each shard, one after another."""
        return (self._sampler(model, task) for task in tasks)

    def fit_rows(self, start: LoopState | None) -> Fitted:
        """The next model of all rows."""
        return self._fitter.fit(start)
