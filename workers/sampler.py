"""The sampler actor: a thin shell around `core.sampling.ShardSampler`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

from core.loop import Loop
from core.parsing import parse_config
from core.sampling import Shard, ShardResult


def here() -> str:
    """The device this process computes on: the GPU that Ray gave it, else the CPU."""
    return "cuda" if os.environ.get("CUDA_VISIBLE_DEVICES") and torch.cuda.is_available() else "cpu"


def to_numpy(model: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Weights as arrays, which the object store shares without copying."""
    return {name: weight.detach().cpu().numpy() for name, weight in model.items()}


def from_numpy(model: Mapping[str, np.ndarray], device: str) -> dict[str, torch.Tensor]:
    """Weights as tensors; on the CPU they are views of the object store, never written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return {name: torch.from_numpy(weight).to(device) for name, weight in model.items()}


class Sampler:
    """Computes shards for whichever trial asks; every call carries all it needs."""

    def __init__(self, threads: int, cache: str | None = None) -> None:
        torch.set_num_threads(threads)
        self._device = here()
        self._cache = None if cache is None else Path(cache)
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
        if self._loop is None or point != self._point:
            loop = Loop(parse_config(point), self._device, self._cache)
            self._loop, self._point = loop, point
        weights = from_numpy(model, self._device)
        return self._loop.sampler(weights, iteration, shard, curate, edges)


# A restarted actor repeats the calls it was killed in; a shard is the same whoever computes it.
SamplerActor = ray.remote(max_restarts=-1, max_task_retries=-1)(Sampler)
