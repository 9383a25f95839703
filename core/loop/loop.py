"""Algorithm 1 of Ferbach et al. (arXiv 2407.09499): the self-consuming loop with curation.

    for result in run_loop(config):
        print(result.iteration, result.metrics["reward_mean"])

needs no Ray: it runs in a notebook as it does in a trial, to the same bits.

Axes: R rows.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

import torch

from luceloop.core import rng
from luceloop.core.config.point import PointConfig
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.device import Stopwatch, make_repeatable
from luceloop.core.errors import ConfigError
from luceloop.core.io.places import Folder
from luceloop.core.learners.base import Fitted
from luceloop.core.learners.regression.regression import Regression
from luceloop.core.loop.executor import Executor, LocalExecutor
from luceloop.core.loop.fitting import Fitter
from luceloop.core.loop.state import IterationResult, LoopState
from luceloop.core.measures.quality import RealFeatures
from luceloop.core.pickers.custom import build_curation
from luceloop.core.pool.gather import gather
from luceloop.core.pool.own_metrics import OwnMetrics
from luceloop.core.pool.reference import real_features
from luceloop.core.pool.rows import Rows
from luceloop.core.pool.sampler import ShardSampler
from luceloop.core.pool.scoring import build_scorer
from luceloop.core.pool.shards import ShardResult, ShardTask, cut_into_shards
from luceloop.core.theory.bounds import Margins
from luceloop.core.theory.law import RewardLaw
from luceloop.core.theory.real_law import real_law

MOST_SHARDS = 100_000
"""The most shards a pool may be cut into; each is a call of its own."""
REHEARSED = 64
"""Real samples that a curation of the user's own is tried on before anything is trained."""


class Loop:
    """The self-consuming loop of one configuration point, all its rows at once."""

    def __init__(
        self, config: PointConfig, device: str = "cpu", cache: Folder | None = None
    ) -> None:
        """Build the parts of the loop; nothing runs yet.

        Args:
            config: the point.
            device: of the learner and the reward.
            cache: folder of trained p_0 and classifiers; without one, they are trained anew.

        Raises:
            ConfigError: if the parts do not fit each other.
        """
        self.config, self.device, self.cache = config, device, cache
        self.scorer = build_scorer(config, device, cache)
        self.dataset = self.scorer.dataset
        self.rows = Rows.of(config, self.dataset.size)
        self.learner = config.learner.build(self.dataset.shape, device)
        self.sampler = ShardSampler(config, self.rows, self.scorer, self.learner, device)
        self.fitter = Fitter(
            config, self.rows, self.dataset, self.learner, device=device, cache=cache
        )
        self._check_quality()
        self.own_metrics = OwnMetrics(config, self.dataset, device)
        self.own_curation = build_curation(config)
        pool, size = int(self.rows.pool.max()), config.sampling.shard_size
        if pool > MOST_SHARDS * size:
            allowed = f"makes more than {MOST_SHARDS} shards of a pool of {pool}"
            raise ConfigError("sampling.shard_size", size, allowed)
        self.shards = cut_into_shards(pool, config.k, size)

    def _check_quality(self) -> None:
        wanted, images = self.config.quality, self.dataset.images
        if wanted is None:
            return
        real = self.dataset.size if images is None else len(images)
        fewest = min(int(self.rows.pool.min()), real)
        if fewest <= wanted.neighbours:
            allowed = f"must be below {fewest}, the samples of the smaller of pool and data"
            raise ConfigError("quality.neighbours", wanted.neighbours, allowed)

    def check_trained(self) -> None:
        """Refuse files of trained weights that do not hold the networks they are named for.

        Raises:
            ConfigError: naming the file and what is wrong with it.
        """
        if isinstance(self.learner, Regression):
            self.learner.check_checkpoint()
        if self.scorer.classifier is not None:
            self.scorer.classifier.check_weights()
        if self.scorer.inception is not None:
            self.scorer.inception.check_weights()

    def run(
        self, start: LoopState | None = None, executor: Executor | None = None
    ) -> Iterator[IterationResult]:
        """Yield the iterations after `start`, or all of 0 to T.

        Args:
            start: where an interrupted loop stood; the rest is bitwise what it would have been.
            executor: who computes shards and trains rows; this process if not given.

        Raises:
            LoopError: if losses or samples become NaN or infinite.
            ValueError: if `start` was the end of a shorter loop, where nothing was kept to go on.
        """
        self.prepare()
        first = 0 if start is None else start.iteration + 1
        for _ in range(first, self.config.iterations + 1):
            result = self.iterate(start, executor)
            start = result.state
            yield result

    def prepare(self) -> None:
        """Have what breaks its contract on real data fail before hours of training.

        Raises:
            LoopError: if the reward, a metric or a curation does.
        """
        _ = self.law, self.own_metrics.names()
        if self.own_curation is not None:
            real = self.dataset.draw(min(REHEARSED, self.dataset.size), rng.stream(0, "rehearsal"))
            reward = self.scorer(real.to(self.device), measured=False).reward
            self.own_curation.rehearse(real, reward.cpu())

    def iterate(
        self, start: LoopState | None = None, executor: Executor | None = None
    ) -> IterationResult:
        """Train the next model p_t, and generate, score and curate its pool.

        Args:
            start: where the loop stands; None for p_0.
            executor: who computes shards and trains rows; this process if not given.

        Raises:
            LoopError: if losses or samples become NaN or infinite.
        """
        executor = executor or LocalExecutor(self.fitter, self.sampler)
        watch = Stopwatch(self.device)
        fitted = executor.fit_rows(start)
        watch.lap("fit")
        tasks = self.tasks(0 if start is None else start.iteration + 1)
        results = executor.run_shards(self.learner.model(fitted.state), tasks)
        return self.conclude(start, fitted, watch.seconds["fit"], results)

    def conclude(
        self,
        start: LoopState | None,
        fitted: Fitted,
        seconds: float,
        results: Iterable[ShardResult],
    ) -> IterationResult:
        """What an iteration yields.

        Args:
            start: where the loop stood.
            fitted: p_t.
            seconds: that it took to train all rows.
            results: of the shards of p_t's pool, in their order.

        Raises:
            LoopError: if a metric or a curation of the user's breaks its contract.
        """
        iteration = 0 if start is None else start.iteration + 1
        tasks = self.tasks(iteration)
        curate, real_bins = tasks[0].curate, torch.from_numpy(self.law.real_bins)
        compared = self.real_features if tasks[0].measured else None
        pool = gather(
            results,
            self.rows,
            iteration,
            curate,
            real_bins,
            compared,
            self.own_metrics,
            self.own_curation,
        )
        count = len(self.rows.seeds)
        share = torch.full((count,), seconds / count, dtype=torch.float64)
        metrics = pool.metrics | {"seconds/fit": share}
        if fitted.loss is not None:
            metrics["loss"] = fitted.loss
        if start is not None and self.own_curation is None:
            metrics |= self.margins.after(start.metrics, metrics, start.iteration)
        again = pool.kept is not None and self.config.training.synthetic != "replace"
        earlier = start.all_kept if again and start is not None else None
        state = LoopState(iteration, fitted.state, pool.kept, metrics, earlier)
        return IterationResult(iteration, metrics, pool.preview, pool.reward, state)

    def tasks(self, iteration: int) -> list[ShardTask]:
        """The shards of p_t's pool; samples are chosen from all pools but the last."""
        curate = iteration < self.config.iterations
        edges, quality = torch.from_numpy(self.law.edges), self.config.quality
        measured = quality is not None and (iteration % quality.every == 0 or not curate)
        return [ShardTask(iteration, shard, curate, edges, measured) for shard in self.shards]

    @functools.cached_property
    def margins(self) -> Margins:
        """The bounds that the theory gives these rows."""
        return Margins(self.law, self.rows, self.config.k, self.config.training.synthetic)

    @functools.cached_property
    def law(self) -> RewardLaw:
        """The law of the real data's rewards; worked out when the loop first runs."""
        return real_law(self.config, self.device, self.cache)

    @functools.cached_property
    def real_features(self) -> RealFeatures | None:
        """What quality is measured against; None where it is not."""
        wanted = self.config.quality
        return None if wanted is None else real_features(wanted, self.scorer, self.device)


def run_loop(config: PointConfig | SweepConfig, device: str = "cpu") -> Iterator[IterationResult]:
    """Run the loop of one point in this process; see `Loop.run`.

    Sets torch's number of CPU threads to the configuration's, on which the last bits depend.

    Args:
        config: a point, or a sweep, whose own point it then is, outside its search.
        device: of the learner and the reward.

    Raises:
        ConfigError: if the parts of the loop do not fit each other.
    """
    point = config.point if isinstance(config, SweepConfig) else config
    make_repeatable(point.resources.threads)
    return Loop(point, device).run()
