"""Throughput of one and of two samplers, on work that is nearly all generation.

The shards are those of a trial of `mog-ddpm`: 250 steps of a small network for every sample. The
trial's process only hands them out and puts the statistics together.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from typing import Any

from rich.console import Console

from benchmarks.measure import Options, in_child, new_table, show

TARGET = 1.8
"""Times the throughput of one sampler, with two on two idle cores."""


def main(options: Options, console: Console) -> None:
    """Time both in one process, one after another."""
    pool = 8_192 if options.quick else 65_536
    found: dict[int, list[float]] = in_child("benchmarks.scaling", "run", pool).result
    table = new_table("samplers", "samples/s", "times", "seconds of a pool")
    speed = {count: pool / statistics.median(seconds) for count, seconds in found.items()}
    for count, seconds in found.items():
        each = ", ".join(f"{second:.2f}" for second in seconds)
        table.add_row(str(count), f"{speed[count]:.0f}", f"{speed[count] / speed[1]:.2f}", each)
    show(console, f"Pools of {pool} samples of a 250-step diffusion, in shards of 1024", table)
    console.print(f"two samplers: {speed[2] / speed[1]:.2f} times (target: {TARGET:g} or more)")


def run(size: int) -> dict[int, list[float]]:
    """Seconds of three pools, by the number of samplers."""
    import logging

    import ray

    from luceloop.core.loop.loop import Loop
    from luceloop.sweeps.presets.reading import read_config
    from luceloop.workers.executor import ActorExecutor, ActorPool
    from luceloop.workers.messages import PointSetup, SamplerSetup, TrialSetup

    sizes = [
        f"kept_size={size // 2}",
        f"pool_size={size}",
        "learner.initial_steps=1",
        "sampling.preview=0",
    ]
    point = read_config("mog-ddpm", ["lam=inf", "seeds=1", *sizes]).point
    loop = Loop(point)
    model, tasks = loop.learner.model(loop.fitter.fit(None).state), loop.tasks(0)
    ray.init(
        address="local", num_cpus=2, log_to_driver=False, include_dashboard=False,
        logging_level=logging.ERROR,
    )  # fmt: skip
    found = {}
    for count in (1, 2):
        with tempfile.TemporaryDirectory(prefix="luceloop-benchmark-") as cache:
            pool = ActorPool(TrialSetup((PointSetup(0, point),), cache, SamplerSetup(count)))
            executor = ActorExecutor(pool, loop)
            list(executor.run_shards(model, tasks[: 2 * count]))  # imports and caches
            found[count] = [_seconds(executor, model, tasks) for _ in range(3)]
            pool.close()
    ray.shutdown()
    return found


def _seconds(executor: Any, model: Any, tasks: Any) -> float:
    start = time.perf_counter()
    for _ in executor.run_shards(model, tasks):
        pass
    return time.perf_counter() - start
