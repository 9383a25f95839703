"""Measuring: CPU time in a process of its own, medians of repetitions, and how both are shown."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Options:
    """What the command line sets."""

    quick: bool
    """Reduced sizes."""
    seeds: int
    """Seeds of our loop."""
    reference_seeds: int
    """Seeds of the reference loop."""
    modes: tuple[str, ...] = ()
    """Parts of the benchmark `gpu`; all if there are none."""


@dataclass(frozen=True)
class Measured:
    """What a function returned in a process of its own, and what it cost."""

    result: Any
    import_cpu: float
    """CPU-seconds of starting the interpreter and importing the function's module."""
    cpu: float
    """CPU-seconds of the call, all threads."""
    wall: float
    """Seconds of the call."""


def in_child(module: str, function: str, *args: Any) -> Measured:
    """Call `module.function(*args)` with one thread in a fresh process."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(_call, module, function, args).result()


def _call(module: str, function: str, args: tuple[Any, ...]) -> Measured:
    import torch

    torch.set_num_threads(1)
    call = getattr(importlib.import_module(module), function)
    imported, start = time.process_time(), time.perf_counter()
    result = call(*args)
    return Measured(result, imported, time.process_time() - imported, time.perf_counter() - start)


def median_ms(call: Callable[[], object], repetitions: int, warm_up: int = 3) -> float:
    """Median CPU-milliseconds of a call."""
    spent = []
    for _ in range(warm_up + repetitions):
        start = time.process_time()
        call()
        spent.append(time.process_time() - start)
    return 1000 * statistics.median(spent[warm_up:])


def median_seconds(
    call: Callable[[], object], times: int, wait: Callable[[], None] = lambda: None
) -> float:
    """Median wall seconds of some calls, after one that warms up and compiles.

    Args:
        call: what is timed.
        times: how often.
        wait: returns when the device has done what it was given.
    """
    call()
    found = []
    for _ in range(times):
        wait()
        start = time.perf_counter()
        call()
        wait()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def spread(values: list[float], digits: int = 3) -> str:
    """Mean ± standard deviation over seeds (ddof=1); of one seed, its value."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def new_table(first: str, *columns: str) -> Table:
    """A table whose first column is text and whose other columns are numbers."""
    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def show(console: Console, title: str, table: Table) -> None:
    """Print a table under its title."""
    console.print(title, style="bold")
    console.print(table)


def machine() -> str:
    """Processor, cores and versions."""
    import torch

    model, cpuinfo = platform.machine(), Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    python = platform.python_version()
    return f"{model}, {os.cpu_count()} cores, Python {python}, torch {torch.__version__}"
