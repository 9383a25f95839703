"""The commands that read what is on record: list, show, export."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from luceloop.analysis.reading.curves import write_table
from luceloop.analysis.statistics.claims import Verdict
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError, LoopError, one_line
from luceloop.core.text import printable
from luceloop.sweeps.console import console, print_json, print_line
from luceloop.sweeps.costs.recorded import Pricing
from luceloop.sweeps.costs.table import cost_table
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.record.mending import read_ledger
from luceloop.sweeps.record.table import recorded_table
from luceloop.sweeps.run.answers import answers
from luceloop.sweeps.run.progress import (
    duration,
    forecast_gaps,
    name_of,
    remarks,
    sweep_table,
)
from luceloop.sweeps.run.summary import Summary, in_words, summarize
from luceloop.sweeps.tracking.load import aggregates


def list_sweeps(output: Output, *, as_json: bool = False) -> None:
    """Print a table of all sweeps; one that cannot be read is said to be so, with the reason."""
    found, unread = list[Summary](), list[str]()
    for folder in output.sweeps():
        try:
            found.append(summarize(folder))
        except (ConfigError, OSError, ValueError, KeyError, TypeError) as error:  # or damaged
            unread.append(f"{folder.id} cannot be read: {_reason(error)}")
    if as_json:
        print_json([each.plain() for each in found])
    elif found:
        console.print(_listed(found))
    elif not unread:
        console.print(f"no sweeps under {output.path}; start with: luceloop demo", highlight=False)
    for line in unread:
        print(printable(line), file=sys.stderr)


def _reason(error: Exception) -> str:
    """Why a sweep cannot be read; its id stands before that already."""
    if isinstance(error, ConfigError) and error.key == "SWEEP":
        return error.allowed
    return one_line(error)


def _listed(found: Sequence[Summary]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    columns = (
        "sweep",
        "name",
        "points",
        "seeds",
        "took",
        "size",
        "state",
        "best",
        "claims",
        "note",
    )
    for column in columns:
        table.add_column(column, overflow="fold")
    for each in found:
        best = each.best
        cells = (
            each.id,
            each.name,
            str(each.points),
            str(each.seeds),
            duration(each.seconds),
            in_words(each.size),
            each.state,
            f"{best.point}: {best.value:.4g}" if best else "",
            each.claims_in_words,
            " ".join([each.note, *(f"#{tag}" for tag in each.tags)]).strip(),
        )
        table.add_row(*cells)
    return table


def show_json(folder: SweepFolder) -> None:
    """Print a sweep and its points as JSON: statistics over seeds of the last iteration."""
    config = folder.config()
    ledger = read_ledger(folder, config)
    pricing = Pricing(config)
    points = [
        {
            "point": point.index,
            "name": name_of(config, point),
            "values": point.values,
            "status": point.status or "running",
            "reason": point.reason,
            "iteration": point.last,
            "metrics": aggregates(point.rows[point.last], point.supremum) if point.rows else {},
            "costs": costs.plain() if (costs := pricing.try_costs(point)) else None,
        }
        for point in ledger.points.values()
    ]
    print_json(summarize(folder).plain() | {"points": points})


def show(folder: SweepFolder) -> list[Verdict]:
    """Print a sweep's points, their gaps to the forecast, and remarks.

    Returns:
        How its claims are answered.
    """
    config = folder.config()
    ledger = read_ledger(folder, config)
    console.print(f"{config.name}  {folder.id}", style="bold", highlight=False)
    lines, gaps, verdicts = remarks(config, ledger), None, list[Verdict]()
    try:
        gaps = forecast_gaps(config, ledger, folder)
        verdicts = answers(config, ledger, folder)
        lines += [f"claim: {each.claim.says}  {each.words}" for each in verdicts]
    except (ConfigError, LoopError) as error:  # the sweep's own code may not be here
        lines.append(f"no forecast: {error}")
    console.print(sweep_table(config, ledger, config.point_count, gaps=gaps))
    _print_costs(config, ledger)
    if ledger.stopped:
        lines.append(f"stopped at its budget: {ledger.stopped}")
    for line in lines:
        print_line(line)
    return verdicts


def _print_costs(config: SweepConfig, ledger: Ledger) -> None:
    pricing, points = Pricing(config), ledger.points.values()
    try:
        costs = {name_of(config, point): pricing(point) for point in points}
    except (ConfigError, OSError) as error:  # of points that have not ended
        print_line(f"no costs: {one_line(error)}")
        return
    if costs:
        console.print(cost_table(costs))


def export(sweep: str, output: Output, file: Path) -> None:
    """Write the tidy table of the sweep that `sweep` names, as the ledger has it."""
    table = recorded_table(output.find_readable(sweep))
    write_table(table, file)
    console.print(f"{len(table)} rows in {file}", highlight=False)
