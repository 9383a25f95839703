"""Kill or stop any process of sweeps at random moments, let them go on, and compare.

Prints a line for every disturbance as it happens and a table at the end. Fails if a row that was on
record is gone, if an exported table differs from that of the undisturbed sweep, if a sweep hangs,
or if a process outlives its sweep by minutes.
"""

from __future__ import annotations

import argparse
import random
import signal
import statistics
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.sweeps import ROWS, DisturbedSweep, Report, Servers, run_undisturbed
from tests.servers import MlflowServer, Postgres, why_no_postgres

EACH = 10
"""Disturbances of one sweep, at most."""
CLUSTERS = 4
"""Of so many sweeps, one runs on a cluster of several nodes."""


def show(reports: list[Report], console: Console) -> None:
    """Print what happened, a line a kind."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("disturbance", "times", "rows lost", "went on after", "at the latest"):
        table.add_column(column, justify="left" if column == "disturbance" else "right")
    every = [each for report in reports for each in report.disturbances]
    for kind in sorted({each.kind for each in every}):
        found = [each for each in every if each.kind == kind]
        waited = [each.waited for each in found]
        lost = sum(each.lost for each in found)
        middle, latest = f"{statistics.median(waited):.1f} s", f"{max(waited):.1f} s"
        table.add_row(kind, str(len(found)), str(lost), middle, latest)
    console.print(table)


def main() -> None:
    """Disturb as often as asked and exit by what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="how many disturbances (20)")
    parser.add_argument("--seed", type=int, default=0, help="of kinds and moments (0)")
    given = parser.parse_args()
    if reason := why_no_postgres():
        parser.error(reason)
    console = Console(highlight=False, width=120)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # which ends the servers, too
    draw, reports = random.Random(given.seed), list[Report]()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        database = Postgres()
        database.create()
        database.start()
        server = MlflowServer(database.uri, Path(folder) / "artifacts")
        server.start()
        try:
            servers = Servers(server, database)
            undisturbed, seconds = run_undisturbed(Path(tempfile.mkdtemp(dir=folder)), servers)
            console.print(f"undisturbed: {ROWS} iterations in {seconds:.1f} s")
            while (left := given.kills - sum(len(r.disturbances) for r in reports)) > 0:
                on_cluster = len(reports) % CLUSTERS == CLUSTERS - 1
                output = Path(tempfile.mkdtemp(dir=folder))
                most = min(EACH, left)
                sweep = DisturbedSweep(
                    output, servers, draw, most, undisturbed, on_cluster=on_cluster
                )
                reports.append(sweep.run())
                tell(reports[-1], on_cluster, console)
        finally:
            server.kill()
            database.remove()
    show(reports, console)
    failed = sum(not report.passed for report in reports)
    console.print(f"{len(reports) - failed} of {len(reports)} sweeps end as if undisturbed")
    sys.exit(1 if failed else 0)


def tell(report: Report, on_cluster: bool, console: Console) -> None:
    """Print what became of a sweep."""
    for each in report.disturbances:
        line = f"  {each.kind} at {each.recorded} of {ROWS}: went on after {each.waited:.1f} s"
        console.print(line + (f", {each.lost} ROWS LOST" if each.lost else ""))
    table = "the same table" if report.same else "ANOTHER TABLE"
    left = f"{report.orphans} PROCESSES LEFT" if report.orphans else "no process left"
    where = "on a cluster" if on_cluster else "here"
    console.print(f"sweep {where}: {table}, {left} {report.trouble}", markup=False)
    if not report.passed:
        for number, printed in enumerate(report.printed, 1):
            console.print(f"driver {number} printed:\n{printed}", markup=False)


if __name__ == "__main__":
    main()
