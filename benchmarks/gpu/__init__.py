"""What one GPU can be asked in nine minutes each: is it right, how fast, how exact, and whole.

    python -m benchmarks gpu correct | speed | solver | sweep

The first three need no Ray. Without a GPU `solver` takes a smaller network, and of the others only
`--tiny` runs, which shows that everything works.
Every line is printed as soon as it is known, so that a run that is cut short tells what it found.
"""

from __future__ import annotations

import importlib

from rich.console import Console

from benchmarks.gpu.common import Bench
from benchmarks.measure import Options
from luceloop.core.device import own_device

MODES = ("correct", "speed", "solver", "sweep")


def main(options: Options, console: Console) -> None:
    """Run the modes that were asked for, or all."""
    failed = []
    for mode in options.modes or MODES:
        asked = mode == "solver" and mode in options.modes
        if own_device() == "cpu" and not options.quick and not asked:
            console.print(f"gpu {mode}: skipped, there is no GPU; --tiny runs it on the CPU")
            continue
        console.print(f"gpu {mode}", style="bold")
        bench = Bench(console, tiny=options.quick)
        importlib.import_module(f"benchmarks.gpu.{mode}").run(bench)
        failed += bench.failed
    if failed:
        raise SystemExit(f"failed: {'; '.join(failed)}")
