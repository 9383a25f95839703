"""The sampler actor: a thin shell around a `Loop`'s shards and, of large networks, its fits."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import ray
import torch

from luceloop.core.device import settle
from luceloop.core.learners.base import Fitted, to_device
from luceloop.core.loop import Loop, LoopState
from luceloop.core.parsing import parse_config
from luceloop.core.sampling import Shard, ShardResult
from luceloop.core.storage import open_folder


def here() -> str:
    """The device this process computes on: the GPU that Ray gave it, else the CPU."""
    return "cuda" if os.environ.get("CUDA_VISIBLE_DEVICES") and torch.cuda.is_available() else "cpu"


def to_numpy(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors as arrays, which the object store shares without copying; others as they are."""
    return {
        name: to_numpy(value)
        if isinstance(value, Mapping)
        else value.detach().cpu().numpy()
        if isinstance(value, torch.Tensor)
        else value
        for name, value in nested.items()
    }


def from_numpy(nested: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The inverse; on the CPU tensors are views of the object store, never written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return {
            name: from_numpy(value, device)
            if isinstance(value, Mapping)
            else torch.from_numpy(value).to(device)
            if isinstance(value, np.ndarray)
            else value
            for name, value in nested.items()
        }


class Sampler:
    """Works for whichever trial asks; every call carries all it needs."""

    def __init__(self, threads: int, cache: str | None = None) -> None:
        settle(threads)
        self._device = here()
        self._cache = None if cache is None else open_folder("cache", cache)
        self._point: dict[str, Any] | None = None
        self._loop: Loop | None = None

    def generate(
        self,
        point: dict[str, Any],
        model: Mapping[str, np.ndarray],
        iteration: int,
        shard: Shard,
        curate: bool,
        edges: torch.Tensor,
    ) -> ShardResult:
        """One shard of p_t's pool.

        Args:
            point: plain configuration of the point.
            model: p_t's weights.
            iteration: t.
            shard: which part of the pool.
            curate: whether to choose the kept samples.
            edges: of the reward bins.
        """
        weights = from_numpy(model, self._device)
        return self._of(point).sampler(weights, iteration, shard, curate, edges)

    def fit(self, point: dict[str, Any], row: int, start: Mapping[str, Any] | None) -> Fitted:
        """The next model of one row.

        Args:
            point: plain configuration of the point.
            row: position in its seeds.
            start: plain `LoopState` of the row, arrays for tensors; None for p_0.
        """
        state = None if start is None else LoopState.of(from_numpy(start, "cpu"))
        fitted = self._of(point).fit(state, [row])
        return Fitted(to_device(fitted.state, "cpu"), fitted.loss)

    def _of(self, point: dict[str, Any]) -> Loop:
        if self._loop is None or point != self._point:
            loop = Loop(parse_config(point), self._device, self._cache)
            self._loop, self._point = loop, point
        return self._loop


# A restarted actor repeats the calls it was killed in; a shard is the same whoever computes it.
SamplerActor = ray.remote(max_restarts=-1, max_task_retries=-1)(Sampler)
