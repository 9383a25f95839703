"""How long rows take, measured: a few training steps and a shard, in seconds.

A first call of everything, in which functions are compiled and kernels chosen, is not timed.

Axes: R rows, N samples, `...` the sample's own shape.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from luceloop.core.config.point import PointConfig
from luceloop.core.device import make_repeatable
from luceloop.core.learners.base import Fitted, TrainingSet
from luceloop.core.learners.ddpm import DDPMConfig
from luceloop.core.learners.empirical import EmpiricalConfig
from luceloop.core.learners.gaussian import GaussianConfig
from luceloop.core.learners.otcfm import OTCFMConfig
from luceloop.core.learners.regression.config import RegressionConfig
from luceloop.core.learners.regression.regression import Regression
from luceloop.core.loop.loop import Loop
from luceloop.core.rng import stream
from luceloop.sweeps.costs.pace import Pace

STEPS = 75
"""Training steps of a small network that are timed."""
LARGE_STEPS, LARGE_BATCH = 2, 4
"""Training steps of a large network that are timed, and images of a step where it is on a CPU."""
MOST_ROWS = 8
"""Seeds that are timed together on a CPU, where a row takes as long in any company."""
MOST_SAMPLES = 4096
"""Real samples that a network is trained on for a measurement."""
PATIENCE = 3.0
"""Seconds that generating a pool may take to be timed whole; else one shard stands for it."""
DOPRI5 = 100
"""Network evaluations that are assumed of dopri5, which takes as many as it needs."""
PER_ITERATION = 0.15
"""Seconds that a report of a trial takes beside its rows, checkpoint included: a guess."""


def measure(point: PointConfig, device: str) -> tuple[Pace, str] | None:
    """What a row of a point takes on a device, and how that was measured.

    Args:
        point: of one kind of cost; see `cost_key`.
        device: `cpu` or `cuda`, of this process.

    Returns:
        None for a learner of the user's own, whose fits may take any time.

    Raises:
        ConfigError: if the parts of its loop do not fit each other.
        LoopError: if losses or samples become NaN or infinite at once.
    """
    make_repeatable(point.resources.threads)
    if isinstance(point.learner, EmpiricalConfig | GaussianConfig):
        return _measure_small(_shortened(point, device), device, 1)
    if not isinstance(point.learner, RegressionConfig):
        return None
    loop = Loop(_shortened(point, device), device)
    if loop.fitter.one_by_one:
        return _measure_large(loop, point.learner, device)
    return _measure_small(loop.config, device, point.learner.steps)


def _shortened(point: PointConfig, device: str) -> PointConfig:
    """A point with fewer seeds, which retrains for one step, from new weights."""
    update: dict[str, Any] = {}
    if device == "cpu":
        update["seeds"] = point.seeds[:MOST_ROWS]
    if isinstance(point.learner, RegressionConfig):
        update["learner"] = _of_steps(point.learner, 1)
    return point.model_copy(update=update)


def _of_steps(learner: RegressionConfig, steps: int, batch: int | None = None) -> RegressionConfig:
    update = {"steps": steps, "initial_steps": steps, "compile": False, "checkpoint": None}
    return learner.model_copy(update=update | ({} if batch is None else {"batch_size": batch}))


def _measure_small(point: PointConfig, device: str, steps: int) -> tuple[Pace, str]:
    """A whole iteration of few steps, or a shard of it where that would take too long."""
    loop = Loop(point, device)
    loop.prepare()
    rows, training = len(point.seeds), _training(loop, whole=steps == 1)
    fitted = loop.learner.fit(None, training, point.seeds, 0)
    spent = _time(lambda: loop.learner.fit(None, training, point.seeds, 0), device)
    if isinstance(point.learner, RegressionConfig):
        learner = _of_steps(point.learner, 1 + STEPS).build(loop.dataset.shape, device)
        longer = _time(lambda: learner.fit(None, training, point.seeds, 0), device)
        spent = max(longer - spent, 0.0) * steps / STEPS
    pool, others, how = _pool(loop, fitted, device)
    stretch = 1 + (others + PER_ITERATION) / (spent + pool)
    stages = f"{STEPS} training steps" if steps > 1 else "a fit"
    return Pace(spent / rows, pool / rows, stretch), f"{stages} and {how} of {rows} seeds"


def _pool(loop: Loop, fitted: Fitted, device: str) -> tuple[float, float, str]:
    """Seconds of a pool, those of what is made of it, and what was timed."""
    tasks, model = loop.tasks(0), loop.learner.model(fitted.state)
    loop.sampler(model, tasks[0])
    shard = _time(lambda: loop.sampler(model, tasks[0]), device)
    if shard * len(tasks) > PATIENCE:
        return shard * len(tasks), 0.0, "a shard"
    results: list[Any] = []
    pool = _time(lambda: results.extend(loop.sampler(model, task) for task in tasks), device)
    _ = loop.real_features
    others = _time(lambda: loop.conclude(None, fitted, 0.0, results), device)
    return pool, others, "a pool"


def _measure_large(loop: Loop, learner: RegressionConfig, device: str) -> tuple[Pace, str]:
    """Few steps of few images; a pool by one evaluation of the network, without its scores."""
    on_cpu, seeds = device == "cpu", loop.config.seeds[:1]
    training = _training(loop, whole=False, rows=1)
    batch = min(learner.batch_size, LARGE_BATCH) if on_cpu else learner.batch_size
    short = _of_steps(learner, 1, batch).build(loop.dataset.shape, device)
    fitted = short.fit(None, training, seeds, 0)
    longer = _of_steps(learner, LARGE_STEPS, batch).build(loop.dataset.shape, device)
    step = _time(lambda: longer.fit(fitted.state, training, seeds, 1), device) / LARGE_STEPS
    fit = step * learner.batch_size / batch * learner.steps
    count = LARGE_BATCH if on_cpu else min(256, int(loop.rows.pool.max()))
    evaluated = _evaluation(loop, fitted, count, device)
    pool = evaluated / count * evaluations(learner) * int(loop.rows.pool[0])
    how = f"{LARGE_STEPS} steps of {batch} images and an evaluation of {count}"
    how += ", without scores" + (" and torch.compile" if learner.compile else "")
    return Pace(fit, pool), how


def _evaluation(loop: Loop, fitted: Fitted, count: int, device: str) -> float:
    """Seconds of an evaluation of a large network on so many images."""
    assert isinstance(loop.learner, Regression)
    learner, model = loop.learner, loop.learner.model(fitted.state)
    x, t = torch.zeros(1, count, *learner.shape, device=device), torch.tensor(0.5, device=device)
    with torch.no_grad():
        learner.network(model, t, x.flatten(2))
        return _time(lambda: learner.network(model, t, x.flatten(2)), device)


def evaluations(learner: RegressionConfig) -> int:
    """Evaluations of the network for a sample."""
    if isinstance(learner, OTCFMConfig):
        return DOPRI5 if learner.solver == "dopri5" else learner.nfe
    if isinstance(learner, DDPMConfig):
        return learner.ddim_steps if learner.sampler == "ddim" else learner.timesteps
    return 1


def _training(loop: Loop, *, whole: bool, rows: int | None = None) -> TrainingSet:
    """Real samples to train on, as many as a retraining has or fewer; `(R, N, ...)`."""
    seeds = loop.config.seeds[:rows]
    size = int((loop.rows.real + loop.rows.kept).max())
    drawn = loop.dataset.draw(
        size if whole else min(size, loop.dataset.size, MOST_SAMPLES), stream(0, "real-data")
    )
    samples = torch.stack([drawn] * len(seeds))
    return TrainingSet(samples, torch.full((len(seeds),), len(drawn)))


def _time(call: Callable[[], Any], device: str) -> float:
    """Seconds of a call; a device works on after it, so what it has to do is waited for."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
