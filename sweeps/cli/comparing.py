"""The command `compare`: points against each other, printed, written as CSV, JSON or LaTeX."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from luceloop.analysis.pages.latex import to_latex
from luceloop.analysis.reading.curves import write_table
from luceloop.analysis.statistics.pairs import At, verdict
from luceloop.core.errors import ConfigError, LoopError
from luceloop.sweeps.comparisons import comparison_table, configuration_difference
from luceloop.sweeps.console import console, print_json, print_line, print_remark
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.run.answers import answers


@dataclass(frozen=True)
class Wanted:
    """What is compared, and how it is shown."""

    metric: str | None
    """The first objective's if not given."""
    at: At
    points: Sequence[str]
    """`key=value` of the points that all others are compared with; all pairs if there are none."""
    file: Path | None
    as_json: bool
    as_latex: bool


def compare(sweeps: Sequence[SweepFolder], output: Output, wanted: Wanted) -> None:
    """Compare the points of one sweep, or those of two.

    Args:
        sweeps: one or two.
        output: the output folder.
        wanted: what is compared.

    Raises:
        ConfigError: if there is no such metric, iteration or point, or nothing to compare.
    """
    config = sweeps[0].config()
    metric = wanted.metric or config.search.objective[0].metric
    table = comparison_table(sweeps, output, metric, wanted.at, wanted.points)
    if wanted.file is not None:
        write_table(table, wanted.file)
    if wanted.as_json:
        print_json(table.to_dict("records"))
    elif wanted.as_latex:
        print(to_latex(table))
    else:
        if len(sweeps) == 2:
            for line in configuration_difference(config, sweeps[1].config()):
                print_line(line)
        _print(table, metric)
        for sweep in sweeps:
            _answer(sweep, len(sweeps) > 1)
        if wanted.file is not None:
            print_line(f"{len(table)} rows in {wanted.file}")


def _answer(sweep: SweepFolder, named: bool) -> None:
    """Print what a sweep's seeds say of its claims, if it makes any."""
    config = sweep.config()
    where = f" ({config.name} {sweep.id})" if named else ""
    try:
        for each in answers(config, Ledger(sweep.ledger, writable=False), sweep):
            print_line(f"claim{where}: {each.claim.says}  {each.words}")
    except (ConfigError, LoopError) as error:  # the sweep's own code may not be here
        print_remark(f"claims are not answered: {error}")


def _print(table: pd.DataFrame, metric: str) -> None:
    shown = Table(box=None, header_style="bold", pad_edge=False)
    shown.add_column("A")
    shown.add_column("against B")
    for column in (f"{metric}: A - B", "95 % interval", "p (Holm)", "A > B", "seeds"):
        shown.add_column(column, justify="right")
    shown.add_column("A is")
    for row in table.to_dict("records"):
        shown.add_row(*_cells({str(key): value for key, value in row.items()}))
    console.print(shown)
    paired = table["paired"]
    how = "seeds are paired" if paired.all() else "seeds are not shared: Welch's test"
    if paired.any() and not paired.all():
        how = "seeds are paired where points share them; elsewhere Welch's test"
    count = int(table["p_holm"].notna().sum())
    print_line(f"{how}; p-values are adjusted by Holm for {count} comparisons")


def _cells(row: Mapping[str, Any]) -> list[str]:
    interval = ""
    if not math.isnan(row["ci_low"]):
        interval = f"{row['ci_low']:+.3g} to {row['ci_high']:+.3g}"
    p = "" if math.isnan(row["p_holm"]) else f"{row['p_holm']:.2g}"
    numbers = [f"{row['difference']:+.4g}", interval, p, f"{row['better']:.0%}", str(row["seeds"])]
    return [row["a"], row["b"], *numbers, verdict(row)]
