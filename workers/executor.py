"""A trial's sampler actors: weights go out once, winners and statistics come back.

They also train, a row each, where networks are so large that rows gain nothing by sharing a device.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from torch import Tensor

from luceloop.core.io.holdings import Holdings
from luceloop.core.learners.base import Fitted, to_device
from luceloop.core.loop.loop import Loop
from luceloop.core.loop.state import LoopState
from luceloop.core.pool.shards import ShardResult, ShardTask
from luceloop.workers.arrays import to_numpy
from luceloop.workers.messages import TrialSetup, Work
from luceloop.workers.sampler import RETRIES, SamplerActor

LIKELY = "too little memory, or compiled code of your own that crashes or ends it, is likely"
"""Why a process that leaves no word died, if nobody killed it."""


class SamplerDiedError(RuntimeError):
    """A sampler that died whenever it did the same work, so its trial does; it is tried again."""


@dataclass(frozen=True)
class Job:
    """A piece of work that is the same whoever does it."""

    there: Callable[[Any], Any]
    """Has an actor do it; what Ray will deliver."""
    here: Callable[[], Any]
    """Does it in this process."""


class ActorPool:
    """A trial's sampler actors inside its placement group, which outlive its points."""

    def __init__(self, setup: TrialSetup) -> None:
        """Start the actors that a trial was given."""
        samplers = setup.samplers
        threads = setup.points[0].point.resources.threads
        options = SamplerActor.options(num_cpus=samplers.cpus, num_gpus=samplers.gpus)
        self._actors = [
            options.remote(threads, setup.cache, setup.folder) for _ in range(samplers.count)
        ]
        # A process that holds a GPU works, too: it would idle.
        self._takes_part = setup.trial_gpus > 0 and samplers.gpus > 0
        self._alike = (setup.trial_gpus > 0) == (samplers.gpus > 0)

    @property
    def takes_part(self) -> bool:
        """Whether this process does a share of the work."""
        return self._takes_part

    def may_train(self, loop: Loop) -> bool:
        """Whether the actors train rows: those that gain nothing together, on the same device."""
        return loop.fitter.one_by_one and len(loop.rows.seeds) > 1 and self._alike

    def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            ray.kill(actor)

    def spread(self, jobs: Sequence[Job]) -> Iterator[Any]:
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
            except RayActorError as error:
                raise SamplerDiedError(
                    f"a sampler's process died {RETRIES + 1} times over the same work: {LIKELY}"
                ) from error


class ActorExecutor:
    """Spreads the shards and rows of one loop over actors; see `core.loop.executor.Executor`.

    Which actor does a piece changes nothing in its result, so neither does their number.
    """

    def __init__(self, actors: ActorPool, loop: Loop, files: Holdings | None = None) -> None:
        """Take a loop; `files` are digests of the user's files that it depends on, by name."""
        self._actors, self._loop = actors, loop
        self._work = ray.put(Work(loop.config, files or {}))

    def run_shards(
        self, model: Mapping[str, Tensor], tasks: Sequence[ShardTask]
    ) -> Iterator[ShardResult]:
        """What comes of each shard, in the order of the tasks.

        Raises:
            LoopError: as raised in the actor.
        """
        loop, weights = self._loop, ray.put(to_numpy(model))
        here = to_device(model, loop.device) if self._actors.takes_part else model

        def job(task: ShardTask) -> Job:
            return Job(
                lambda actor: actor.generate.remote(self._work, weights, weights.hex(), task),
                lambda: loop.sampler(here, task),
            )

        return self._actors.spread([job(task) for task in tasks])

    def fit_rows(self, start: LoopState | None) -> Fitted:
        """The next model of all rows; each by itself, where that is as good as together.

        Raises:
            LoopError: as raised in the actor.
        """
        loop = self._loop
        if not self._actors.may_train(loop):
            return loop.fitter.fit(start)

        def job(row: int) -> Job:
            own = None if start is None else start.row(row)
            sent = None if own is None else to_numpy(own.plain())
            return Job(
                lambda actor: actor.fit.remote(self._work, row, ray.put(sent)),
                lambda: loop.fitter.fit(own, [row]),
            )

        rows = range(len(loop.rows.seeds))
        fitted = self._actors.spread([job(row) for row in rows])
        # What this process trained is on its GPU, what actors did is not.
        return Fitted.stack([Fitted(to_device(f.state, "cpu"), f.loss) for f in fitted])
