"""The commands that read what is on record: list, show, export."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from luceloop.analysis.reading.curves import write_table
from luceloop.core.errors import ConfigError, LoopError
from luceloop.sweeps.console import console, print_line
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.record.table import recorded_table
from luceloop.sweeps.run.answers import answers
from luceloop.sweeps.run.progress import forecast_gaps, remarks, sweep_table


def list_sweeps(output: Output) -> None:
    """Print a table of all sweeps."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("sweep", "name", "points", "seeds", "state"):
        table.add_column(column, overflow="fold")
    for folder in output.sweeps():
        config = folder.config()
        ledger = Ledger(folder.ledger, writable=False)
        ended = [point.status for point in ledger.points.values() if point.status]
        total, failed = config.point_count, ended.count("failed")
        state = "done" if len(ended) == total else f"{len(ended)} of {total} points done"
        table.add_row(
            folder.id,
            config.name,
            str(total),
            str(len(config.point.seeds)),
            state + (f", {failed} failed" if failed else ""),
        )
    if not table.row_count:
        console.print(f"no sweeps under {output.path}; start with: luceloop demo", highlight=False)
        return
    console.print(table)


def show(folder: SweepFolder) -> None:
    """Print a sweep's points, their gaps to the forecast, and remarks."""
    config = folder.config()
    ledger = Ledger(folder.ledger, writable=False)
    console.print(f"{config.name}  {folder.id}", style="bold", highlight=False)
    lines, gaps = remarks(config, ledger), None
    try:
        gaps = forecast_gaps(config, ledger, folder)
        lines += [
            f"claim: {each.claim.says}  {each.words}" for each in answers(config, ledger, folder)
        ]
    except (ConfigError, LoopError) as error:  # the sweep's own code may not be here
        lines.append(f"no forecast: {error}")
    console.print(sweep_table(config, ledger, config.point_count, gaps=gaps))
    for line in lines:
        print_line(line)


def export(sweep: str, output: Output, file: Path) -> None:
    """Write the tidy table of the sweep that `sweep` names, as the ledger has it."""
    table = recorded_table(output.find(sweep))
    write_table(table, file)
    console.print(f"{len(table)} rows in {file}", highlight=False)
