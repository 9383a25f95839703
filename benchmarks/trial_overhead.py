"""What a Tune trial costs beyond its own work: scheduling, ledger, checkpoints, MLflow.

The slope between a short and a long sweep of points that do almost nothing, from the first row on
record to the end of `run_sweep`: starting Ray, which takes seconds more or less from one time to
the next, drops out. MLflow's store is the default one, as for a user.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.measure import Options, in_child, new_table, show
from benchmarks.sweep import ran
from luceloop.core.config.parsing import at_point, parse_config
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.loop.loop import Loop

TARGET = 0.2
"""Seconds of overhead a trial, at most."""


@dataclass(frozen=True)
class SweepTimes:
    """Seconds of one sweep."""

    wall: float
    starting: float
    """Until the first iteration is on record."""
    running: float
    """From there until the last is."""

    driver_cpu: float
    """CPU-seconds of the driver, its MLflow thread included."""

    @property
    def ending(self) -> float:
        """What is left: delivering the rest to MLflow, stopping Ray."""
        return self.wall - self.starting - self.running


def main(options: Options, console: Console) -> None:
    """Run a short and a long sweep, and the same trials without Tune."""
    few, many = (10, 30) if options.quick else (10, 60)
    _sweep(1)  # the first start of Ray on a machine reads everything from disk
    short, long = _sweep(few), _sweep(many)
    own: float = in_child("benchmarks.trial_overhead", "own_work", many).result
    columns = ("in all", "to first row", "to last row", "to the end", "driver CPU s")
    table = new_table("points", *columns)
    for points, times in ((few, short), (many, long)):
        stages = times.wall, times.starting, times.running, times.ending, times.driver_cpu
        table.add_row(str(points), *(f"{seconds:.2f}" for seconds in stages))
    show(console, "Sweeps of trials that do almost nothing: wall seconds", table)
    more = many - few
    trial = (long.running + long.ending - short.running - short.ending) / more
    console.print(
        f"a further trial: {trial:.3f} s from the first row on "
        f"({(long.wall - short.wall) / more:.3f} s with the start), "
        f"{(long.driver_cpu - short.driver_cpu) / more:.3f} CPU s of the driver\n"
        f"its own work: {own:.3f} s; "
        f"overhead: {trial - own:.3f} s a trial (target: {TARGET:g} or less)"
    )


def _sweep(points: int) -> SweepTimes:
    times: SweepTimes = in_child("benchmarks.trial_overhead", "run", points).result
    return times


def run(points: int) -> SweepTimes:
    """Run a sweep and see when its rows went on record."""
    from luceloop.sweeps.record.events import IterationDone, PointEnded
    from luceloop.sweeps.record.ledger import Ledger

    with ran(_config(points)) as sweep:
        events = Ledger(sweep.folder.ledger, writable=False).events
    timed = (IterationDone, PointEnded)
    recorded = [event.time / 1000 for event in events if isinstance(event, timed)]
    starting, running = recorded[0] - sweep.began, recorded[-1] - recorded[0]
    return SweepTimes(sweep.wall, starting, running, sweep.driver_cpu)


def own_work(points: int) -> float:
    """Median seconds of a trial's loop run directly, p_0 from a cache as in a sweep."""
    config, seconds = _config(points), []
    with tempfile.TemporaryDirectory(prefix="luceloop-benchmark-") as cache:
        for beta in config.search.space["curation.beta"].values or []:
            start = time.perf_counter()
            for _ in Loop(at_point(config, {"beta": beta}), cache=Path(cache)).run():
                pass
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _config(points: int) -> SweepConfig:
    return parse_config(
        {
            "name": "benchmark",
            "data": {"name": "eight_gaussians", "size": 64},
            "learner": {"name": "empirical"},
            "iterations": 2,
            "seeds": 1,
            "search": {"beta": {"grid": [point / 10 for point in range(points)]}},
        }
    )
