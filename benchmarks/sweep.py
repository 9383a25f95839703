"""A sweep run as a user runs it, in a new output folder and a Ray of its own."""

from __future__ import annotations

import io
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console

from luceloop.core.config.sweep import SweepConfig
from luceloop.sweeps.record.folders import Output, SweepFolder


@dataclass(frozen=True)
class Ran:
    """A sweep that has ended, and what its driver took."""

    output: Output
    folder: SweepFolder
    began: float
    """Seconds since the epoch."""
    wall: float
    driver_cpu: float
    """CPU-seconds of the driver's process, MLflow's thread among them."""
    handles: tuple[int, int]
    """Most open files, pipes and sockets of the driver's process in the first half and after."""


class _Handles(threading.Thread):
    """Counts the open files, pipes and sockets of this process, twice a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._over = threading.Event()
        self._counts: list[int] = []

    def run(self) -> None:
        while not self._over.wait(0.5):
            self._counts.append(psutil.Process().num_fds())

    def most(self) -> tuple[int, int]:
        """The largest counts of the first half and of the second; it counts no more."""
        self._over.set()
        self.join()
        middle = len(self._counts) // 2
        return max(self._counts[:middle], default=0), max(self._counts[middle:], default=0)


@contextmanager
def ran(config: SweepConfig) -> Iterator[Ran]:
    """Run a sweep, all of it; its output folder is there inside the block."""
    from luceloop.core.config.naming import describe
    from luceloop.sweeps.run.driver import run_sweep

    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory(prefix="luceloop-benchmark-") as temporary:
        output = Output.of(Path(temporary))
        folder = output.create_sweep(config, describe(config))
        began, start, cpu = time.time(), time.perf_counter(), time.process_time()
        handles = _Handles()
        handles.start()
        outcome = run_sweep(folder, output, Console(file=io.StringIO()))
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        assert not (outcome.failed or outcome.unfinished or outcome.delivery.undelivered), outcome
        yield Ran(output, folder, began, wall, cpu, handles.most())
