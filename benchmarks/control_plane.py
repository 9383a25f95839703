"""What the driver costs: sweeps of many points whose trials do almost nothing.

A real sweep, with Ray, the ledger and MLflow on SQLite. An iteration costs the slope between
a short and a long one. Then its ledger is delivered to a new store, which is what the store can
take, and read back as a table.
"""

from __future__ import annotations

import resource
import shutil
import sqlite3
import time
from dataclasses import dataclass

from rich.console import Console

from benchmarks.measure import Options, in_child, new_table, show
from benchmarks.sweep import ran
from luceloop.core.config.parsing import parse_config
from luceloop.core.config.sweep import SweepConfig
from luceloop.sweeps.record.folders import Output

ITERATIONS = 10
"""Rows that each point reports."""


@dataclass(frozen=True)
class Costs:
    """Of one sweep."""

    wall: float
    driver_cpu: float
    """CPU-seconds of the driver's process, MLflow's thread among them."""
    memory: float
    """Largest resident memory of the driver, MiB."""
    handles: tuple[int, int]
    """Most open files, pipes and sockets of the driver in the first half, and after it."""
    delivered: float
    """Seconds to deliver the whole ledger to a new store."""
    rows: int
    """Rows of metrics in that store."""
    exported: float
    """Seconds of the tidy table from the ledger, as `luceloop export` makes it."""
    asked: float
    """Seconds of the same table from MLflow."""
    reopened: float
    """Seconds to read the ledger, as resuming does."""


def main(options: Options, console: Console) -> None:
    """Run a short and a long sweep."""
    few, many = (20, 60) if options.quick else (100, 1000)
    costs: dict[int, Costs] = {
        points: in_child("benchmarks.control_plane", "run", points).result for points in (few, many)
    }
    columns = (
        "wall s",
        "driver CPU s",
        "MiB",
        "handles",
        "rows",
        "rows/s",
        "export s",
        "MLflow s",
        "reopen s",
    )
    table = new_table("points", *columns)
    for points, cost in costs.items():
        table.add_row(
            str(points),
            f"{cost.wall:.1f}",
            f"{cost.driver_cpu:.1f}",
            f"{cost.memory:.0f}",
            "{} {}".format(*cost.handles),
            str(cost.rows),
            f"{cost.rows / cost.delivered:.0f}",
            f"{cost.exported:.1f}",
            f"{cost.asked:.1f}",
            f"{cost.reopened:.2f}",
        )
    show(console, f"Sweeps of {ITERATIONS} iterations a point, one seed", table)
    more, short, long = (many - few) * ITERATIONS, costs[few], costs[many]
    console.print(
        f"a further iteration on record: {1000 * (long.driver_cpu - short.driver_cpu) / more:.1f} "
        f"CPU-ms of the driver, {1000 * (long.wall - short.wall) / more:.1f} ms in all, "
        f"{1024 * (long.memory - short.memory) / more:.1f} KiB"
    )


def run(points: int) -> Costs:
    """Run a sweep in a new output folder, then deliver and read it again."""
    from luceloop.analysis.reading.curves import load_table, write_table
    from luceloop.sweeps.record.ledger import Ledger
    from luceloop.sweeps.record.table import recorded_table

    with ran(_config(points)) as sweep:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        start = time.perf_counter()
        Ledger(sweep.folder.ledger, writable=False)
        reopened = time.perf_counter() - start
        delivered, rows = _deliver(sweep.output, sweep.folder.id)
        start = time.perf_counter()
        write_table(recorded_table(sweep.folder), sweep.output.path / "table.csv")
        exported = time.perf_counter() - start
        start = time.perf_counter()
        assert len(load_table(sweep.output.tracking_uri, sweep.folder.id))
        asked = time.perf_counter() - start
    wall, cpu = sweep.wall, sweep.driver_cpu
    return Costs(wall, cpu, memory, sweep.handles, delivered, rows, exported, asked, reopened)


def _deliver(output: Output, sweep: str) -> tuple[float, int]:
    """Seconds to deliver a sweep to a new store, and the rows of metrics there."""
    from luceloop.analysis.reading.store import connect
    from luceloop.sweeps.record.ledger import Ledger
    from luceloop.sweeps.tracking.delivery import build_tracker
    from luceloop.sweeps.tracking.follower import Follower

    new = Output.of(output.path / "again")
    shutil.copytree(output.path / "sweeps", new.path / "sweeps")
    connect(new.tracking_uri)
    folder = new.find(sweep)
    (folder.path / "delivered").unlink()
    start = time.perf_counter()
    ledger = Ledger(folder.ledger, writable=False)
    tracker = build_tracker(new, folder, ledger)
    follower = Follower(ledger, tracker)
    follower.start()
    follower.close(600.0)
    seconds = time.perf_counter() - start
    assert not tracker.undelivered
    with sqlite3.connect(new.path / "mlflow.db") as connection:
        [(count,)] = connection.execute("select count(*) from metrics")
    return seconds, int(count)


def _config(points: int) -> SweepConfig:
    return parse_config(
        {
            "name": "benchmark",
            "data": {"name": "eight_gaussians", "size": 64},
            "learner": {"name": "empirical"},
            "iterations": ITERATIONS - 1,
            "seeds": 1,
            "sampling": {"preview": 0},
            "search": {"beta": {"grid": [point / 100 for point in range(points)]}},
        }
    )
