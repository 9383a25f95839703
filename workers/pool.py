"""A trial's sampler actors: weights go out once, winners and statistics come back.

They also train, a row each, where networks are so large that rows gain nothing by sharing a device.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayTaskError
from torch import Tensor

from luceloop.core.learners.base import Fitted, to_device
from luceloop.core.loop import Loop, LoopState
from luceloop.core.sampling import Shard, ShardResult
from luceloop.workers.sampler import SamplerActor, to_numpy


@dataclass(frozen=True)
class Job:
    """A piece of work that is the same whoever does it."""

    there: Callable[[Any], Any]
    """Has an actor do it; what Ray will deliver."""
    here: Callable[[], Any]
    """Does it in this process."""


class SamplerPool:
    """Spreads shards and rows over `count` actors inside the trial's placement group.

    Which actor does a piece changes nothing in its result, so neither does `count`.
    """

    def __init__(
        self,
        count: int,
        cpus: float,
        gpus: float,
        threads: int,
        cache: str | None = None,
        takes_part: bool = False,
    ) -> None:
        """Start the actors.

        Args:
            count: of actors.
            cpus: of each.
            gpus: of each.
            threads: of torch, in each.
            cache: folder of trained p_0 and classifiers.
            takes_part: whether this process works, too: it holds a GPU that would idle.
        """
        options = SamplerActor.options(num_cpus=cpus, num_gpus=gpus)
        self._actors = [options.remote(threads, cache) for _ in range(count)]
        self._takes_part = takes_part

    def run(
        self,
        loop: Loop,
        point: dict[str, Any],
        model: Mapping[str, Tensor],
        iteration: int,
        shards: Sequence[Shard],
        curate: bool,
        edges: Tensor,
    ) -> Iterator[ShardResult]:
        """Compute `shards`, results in their order.

        Args:
            loop: of this process.
            point: plain configuration of the same.
            model: p_t's weights.
            iteration: t.
            shards: parts of the pool.
            curate: whether to choose the kept samples.
            edges: of the reward bins.

        Raises:
            LoopError: as raised in the actor.
        """
        weights, shared_point = ray.put(to_numpy(model)), ray.put(point)
        here = to_device(model, loop.device) if self._takes_part else model

        def job(shard: Shard) -> Job:
            return Job(
                lambda actor: actor.generate.remote(
                    shared_point, weights, iteration, shard, curate, edges
                ),
                lambda: loop.sampler(here, iteration, shard, curate, edges),
            )

        return self._spread([job(shard) for shard in shards])

    def fit(self, loop: Loop, point: dict[str, Any], start: LoopState | None) -> Fitted:
        """Train the next model, each row by itself; see `Loop.fit`.

        Raises:
            LoopError: as raised in the actor.
        """

        def job(row: int) -> Job:
            own = None if start is None else start.row(row)
            sent = None if own is None else to_numpy(own.plain())
            return Job(
                lambda actor: actor.fit.remote(point, row, ray.put(sent)),
                lambda: loop.fit(own, [row]),
            )

        rows = range(len(loop.rows.seeds))
        fitted = self._spread([job(row) for row in rows])
        # What this process trained is on its GPU, what actors did is not.
        return Fitted.stack([Fitted(to_device(f.state, "cpu"), f.loss) for f in fitted])

    def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            ray.kill(actor)

    def _spread(self, jobs: Sequence[Job]) -> Iterator[Any]:
        """Results in the order of their jobs, each as soon as it and those before it are there."""
        waiting, results = deque(enumerate(jobs)), dict[int, Any]()
        running: dict[Any, tuple[int, Any]] = {}
        for wanted in range(len(jobs)):
            while wanted not in results:
                self._hand_out(waiting, running)
                if waiting and self._takes_part:
                    position, job = waiting.popleft()
                    results[position] = job.here()
                    self._collect(running, results, timeout=0)
                else:
                    self._collect(running, results, timeout=None)
            yield results.pop(wanted)

    def _hand_out(
        self, waiting: deque[tuple[int, Job]], running: dict[Any, tuple[int, Any]]
    ) -> None:
        """Give each actor a job, and the next one, too, while this process is busy itself."""
        busy = [actor for _, actor in running.values()]
        for depth in range(2 if self._takes_part else 1):
            for actor in self._actors:
                enough = len(waiting) > (len(self._actors) if depth else 0)
                if enough and busy.count(actor) <= depth:
                    position, job = waiting.popleft()
                    running[job.there(actor)] = (position, actor)
                    busy.append(actor)

    def _collect(
        self, running: dict[Any, tuple[int, Any]], results: dict[int, Any], timeout: float | None
    ) -> None:
        if not running:
            return
        wanted = len(running) if timeout == 0 else 1
        ready, _ = ray.wait(list(running), num_returns=wanted, timeout=timeout)
        for call in ready:
            position, _ = running.pop(call)
            try:
                results[position] = ray.get(call)
            except RayTaskError as error:
                raise error.cause from None
