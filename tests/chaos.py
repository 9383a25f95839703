"""Kill the driver of a sweep at random moments, resume it, and compare: `make chaos`.

Prints, for every kill, the moment, what was lost, and how long it took to go on. Fails if a row
that was on record is gone, an exported table differs from that of the undisturbed sweep, or a
process outlives its driver by minutes.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
from rich.console import Console
from rich.table import Table

from luceloop.analysis.reading.store import connect
from tests import processes
from tests.processes import finish, luceloop, rows
from tests.support import QUICK, curves

SWEEP = [*processes.SWEEP, "iterations=10"]
"""Takes long enough that most kills come after its first iteration."""
ROWS = 2 * 11
"""Iterations of its points."""
GRACE = 150.0
"""Seconds that processes of a killed driver may take to notice it, as Ray's agents do."""


@dataclass
class Kill:
    """What one kill did."""

    moment: float
    """Seconds after the sweep began."""
    recorded: int
    """Iterations on record by then."""
    lost: int
    """Of them, those that are not on record after the sweep was resumed."""
    recovery: float
    """Seconds from the command that resumes to the next iteration; to the end if none is left."""
    same: bool
    """Whether the exported table is that of the undisturbed sweep."""
    orphans: float
    """Seconds until the last of the driver's processes had ended."""

    @property
    def passed(self) -> bool:
        return self.same and not self.lost and self.orphans < GRACE


class Orphans(threading.Thread):
    """Waits for the processes of a killed driver to end by themselves."""

    def __init__(self, processes: list[psutil.Process]) -> None:
        super().__init__()
        self._processes = processes
        self.seconds = 0.0

    def run(self) -> None:
        started = time.monotonic()
        _, alive = psutil.wait_procs(self._processes, timeout=GRACE)
        self.seconds = time.monotonic() - started
        for process in alive:
            process.kill()


def new_output(store: Path) -> Path:
    """An output folder beside an empty store, with a copy of it."""
    output = Path(tempfile.mkdtemp(dir=store.parent))
    shutil.copy(store, output / "mlflow.db")
    return output


def run_undisturbed(output: Path) -> tuple[pd.DataFrame, float]:
    """The table, and the seconds from the sweep's beginning to its end."""
    process = luceloop(output, *SWEEP)
    wait_for_sweep(output)
    began = time.monotonic()
    finish(process, 0)
    return curves(output), time.monotonic() - began


def wait_for_sweep(output: Path) -> None:
    """Wait until there is a sweep to resume."""
    deadline = time.monotonic() + 120
    while not list((output / "sweeps").glob("*/config.yaml")):
        assert time.monotonic() < deadline, "no sweep began"
        time.sleep(0.01)


def kill_and_resume(output: Path, moment: float, undisturbed: pd.DataFrame) -> Kill | None:
    """Run the sweep, kill its driver at `moment`, resume, and compare; None if it had ended."""
    process = luceloop(output, *SWEEP)
    wait_for_sweep(output)
    time.sleep(moment)
    if process.poll() is not None:
        return None
    orphans = Orphans(psutil.Process(process.pid).children(recursive=True))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    orphans.start()
    before = rows(output)
    recovery = resume(output, len(before))
    after = rows(output)
    table = curves(output)
    orphans.join()
    return Kill(
        moment=moment,
        recorded=len(before),
        lost=sum(row not in after for row in before),
        recovery=recovery,
        same=table.equals(undisturbed),
        orphans=orphans.seconds,
    )


def resume(output: Path, recorded: int) -> float:
    """Resume the sweep; seconds until it had gone on."""
    started = time.monotonic()
    process = luceloop(output, "resume", "latest", QUICK)
    recovery = None
    while process.poll() is None and recorded < ROWS and recovery is None:
        if len(rows(output)) > recorded:
            recovery = time.monotonic() - started
        time.sleep(0.05)
    finish(process, 0)
    return time.monotonic() - started if recovery is None else recovery


def show(kills: list[Kill], console: Console) -> None:
    """Print what happened."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    columns = (
        "killed after",
        "on record",
        "lost",
        "recovered in",
        "table",
        "no process after",
    )
    for column in columns:
        table.add_column(column, justify="right")
    for kill in kills:
        table.add_row(
            f"{kill.moment:.1f} s",
            f"{kill.recorded} of {ROWS}",
            str(kill.lost or "nothing"),
            f"{kill.recovery:.1f} s",
            "the same" if kill.same else "DIFFERS",
            f"{kill.orphans:.0f} s",
        )
    console.print(table)


def main() -> None:
    """Kill as often as asked and exit by what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="how many moments (20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    given = parser.parse_args()
    console = Console(highlight=False, width=120)
    draw, kills = random.Random(given.seed), list[Kill]()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        store = Path(folder) / "mlflow.db"
        connect(f"sqlite:///{store}")
        undisturbed, seconds = run_undisturbed(new_output(store))
        console.print(f"undisturbed: {ROWS} iterations in {seconds:.1f} s")
        while len(kills) < given.kills:
            kill = kill_and_resume(new_output(store), draw.uniform(0, seconds), undisturbed)
            if kill is None:  # it was faster than the undisturbed one
                continue
            kills.append(kill)
            ended = "no trace" if kill.passed else "NOT as undisturbed"
            console.print(f"kill {len(kills)} after {kill.moment:.1f} s: {ended}")
    show(kills, console)
    failed = sum(not kill.passed for kill in kills)
    console.print(f"{len(kills) - failed} of {len(kills)} kills without a trace")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
