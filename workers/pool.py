"""A trial's sampler actors: weights go out once, winners and statistics come back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayTaskError
from torch import Tensor

from core.sampling import Shard, ShardResult
from workers.sampler import SamplerActor, to_numpy


class SamplerPool:
    """Spreads the shards of a pool over `count` actors inside the trial's placement group.

    Which actor computes a shard changes nothing in its result, so neither does `count`.
    """

    def __init__(
        self, count: int, cpus: float, gpus: float, threads: int, cache: str | None = None
    ) -> None:
        """Start the actors; `cache` is the folder of trained classifiers."""
        options = SamplerActor.options(num_cpus=cpus, num_gpus=gpus)
        self._actors = [options.remote(threads, cache) for _ in range(count)]

    def run(
        self,
        point: dict[str, Any],
        model: Mapping[str, Tensor],
        iteration: int,
        shards: Sequence[Shard],
        curate: bool,
        edges: Tensor,
    ) -> list[ShardResult]:
        """Compute `shards`, results in their order.

        Raises:
            LoopError: as raised in the actor.
        """
        weights, shared_point = ray.put(to_numpy(model)), ray.put(point)
        idle, results = list(self._actors), dict[int, ShardResult]()
        running: dict[Any, tuple[int, Any]] = {}
        waiting = list(enumerate(shards))
        while waiting or running:
            while waiting and idle:
                position, shard = waiting.pop(0)
                actor = idle.pop()
                call = actor.generate.remote(shared_point, weights, iteration, shard, curate, edges)
                running[call] = (position, actor)
            [call], _ = ray.wait(list(running), num_returns=1)
            position, actor = running.pop(call)
            try:
                results[position] = ray.get(call)
            except RayTaskError as error:
                raise error.cause from None
            idle.append(actor)
        return [results[position] for position in range(len(shards))]

    def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            ray.kill(actor)
