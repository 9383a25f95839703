"""The sampler actor: a thin shell around a `Loop`'s shards and, of large networks, its fits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import ray
import torch

from luceloop.core.config.point import PointConfig
from luceloop.core.device import make_repeatable
from luceloop.core.io.places import open_folder
from luceloop.core.io.plugins import enter_folder
from luceloop.core.learners.base import Fitted, to_device
from luceloop.core.loop.loop import Loop
from luceloop.core.loop.state import LoopState
from luceloop.core.pool.shards import ShardResult, ShardTask
from luceloop.workers.arrays import from_numpy


def granted_device() -> str:
    """The device this process computes on: the GPU that Ray gave it, else the CPU."""
    return "cuda" if os.environ.get("CUDA_VISIBLE_DEVICES") and torch.cuda.is_available() else "cpu"


class Sampler:
    """Works for whichever trial asks; every call carries all it needs."""

    def __init__(self, threads: int, cache: str | None = None, folder: str | None = None) -> None:
        """Prepare the process.

        Args:
            threads: CPU threads of torch.
            cache: folder of trained p_0 and classifiers.
            folder: the user's, as `name_folder` calls it.
        """
        if folder is not None:
            enter_folder(folder)
        make_repeatable(threads)
        self._device = granted_device()
        self._cache = None if cache is None else open_folder("cache", cache)
        self._loop: Loop | None = None

    def generate(
        self, point: PointConfig, model: Mapping[str, np.ndarray], task: ShardTask
    ) -> ShardResult:
        """One shard of p_t's pool.

        Args:
            point: whose pool it is.
            model: p_t's weights.
            task: which shard, and what of it is wanted.
        """
        weights = from_numpy(model, self._device)
        return self._of(point).sampler(weights, task)

    def fit(self, point: PointConfig, row: int, start: Mapping[str, Any] | None) -> Fitted:
        """The next model of one row.

        Args:
            point: whose row it is.
            row: position in its seeds.
            start: plain `LoopState` of the row, arrays for tensors; None for p_0.
        """
        state = None if start is None else LoopState.of(from_numpy(start, "cpu"))
        fitted = self._of(point).fitter.fit(state, [row])
        return Fitted(to_device(fitted.state, "cpu"), fitted.loss)

    def _of(self, point: PointConfig) -> Loop:
        if self._loop is None or point != self._loop.config:
            self._loop = Loop(point, self._device, self._cache)
        return self._loop


# A restarted actor repeats the calls it was killed in; a shard is the same whoever computes it.
SamplerActor = ray.remote(max_restarts=-1, max_task_retries=-1)(Sampler)
