"""The commands that conclude from sweeps: plot, report, compare, reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from luceloop.core.errors import ConfigError
from luceloop.sweeps.cli.lazy import LazyModule
from luceloop.sweeps.cli.options import (
    file_option,
    json_option,
    output_of,
    output_option,
    overrides_argument,
    sweep_argument,
)

if TYPE_CHECKING:
    from luceloop.analysis.reading.results import Start
    from luceloop.analysis.statistics.pairs import At
    from luceloop.sweeps.cli import comparing, plotting, reproducing
else:
    comparing = LazyModule("luceloop.sweeps.cli.comparing")
    plotting = LazyModule("luceloop.sweeps.cli.plotting")
    reproducing = LazyModule("luceloop.sweeps.cli.reproducing")

FIGURES = (
    "overview",
    "curve",
    "response",
    "samples",
    "class_shares",
    "kept_against_pool",
    "margins",
)
"""What `plot --figure` takes; listed here so that no command waits for Matplotlib."""

forecast_option = click.option(
    "--forecast",
    "start",
    type=click.Choice(["law", "measured", "off"]),
    default="law",
    show_default=True,
    help="Theory beneath the curves: from the real data's law, from the measured p_0, or none.",
)


def _iteration(context: click.Context, option: click.Parameter, text: str) -> At:
    """Reads `last`, `best` or a number."""
    if text == "last":
        return "last"
    if text == "best":
        return "best"
    if text.isdecimal():
        return int(text)
    raise ConfigError("--at", text, "must be last, best, or the number of an iteration")


@click.command()
@sweep_argument
@click.option("--figure", metavar="F", help=f"One figure: {', '.join(FIGURES)}.  [all]")
@click.option("--metric", metavar="M", help="What is drawn.  [the first objective's metric]")
@click.option(
    "--points", metavar="KEY=VALUE", multiple=True, help="Only points of this value.  [all]"
)
@click.option("--x", metavar="KEY", help="Draw where points end up against this searched key.")
@click.option(
    "--band",
    type=click.Choice(["ci", "std", "quantiles", "seeds"]),
    default="ci",
    show_default=True,
    help="How seeds differ: 95 % interval of the mean, mean ± std, quartiles, or each seed.",
)
@click.option("--size", type=click.Choice(["paper", "slide"]), default="paper", show_default=True)
@click.option("--against", metavar="SWEEP", help="Draw another sweep's curves besides.")
@click.option("--to", type=click.Path(path_type=Path, file_okay=False), help="Another folder.")
@forecast_option
@output_option
def plot(sweep: str, to: Path | None, start: Start, output: Path | None, **wanted: Any) -> None:
    """Draw a sweep's figures, PNG and PDF, or one of them."""
    plotting.plot(sweep, output_of(output), to, start, plotting.Plot(**wanted))


@click.command()
@sweep_argument
@file_option("Another .html file.", ".html")
@forecast_option
@output_option
def report(sweep: str, file: Path | None, start: Start, output: Path | None) -> None:
    """Write a sweep's report, one HTML page."""
    plotting.report(sweep, output_of(output), file, start)


@click.command()
@click.argument("sweeps", metavar="SWEEP [SWEEP]", nargs=-1, required=True)
@click.option("--metric", metavar="M", help="What is compared.  [the first objective's metric]")
@click.option(
    "--at",
    metavar="last|best|T",
    default="last",
    show_default=True,
    callback=_iteration,
    help="At which iteration; best is that of the best mean over seeds.",
)
@click.option(
    "--point",
    "points",
    metavar="KEY=VALUE",
    multiple=True,
    help="Compare all other points with those of this value.  [all pairs]",
)
@file_option("Also write the table: a .csv or .parquet file.", ".csv", ".parquet")
@json_option
@click.option("--latex", "as_latex", is_flag=True, help="Print a LaTeX table (booktabs).")
@output_option
def compare(
    sweeps: tuple[str, ...],
    metric: str | None,
    at: At,
    points: tuple[str, ...],
    file: Path | None,
    as_json: bool,
    as_latex: bool,
    output: Path | None,
) -> None:
    """Compare points: by how much, how sure, how many seeds more.

    Within a sweep all pairs; of two sweeps, points of the same name.
    """
    if len(sweeps) > 2:
        raise ConfigError("SWEEP", sweeps[2], "must be one sweep or two")
    if as_json and as_latex:
        raise ConfigError("--latex", True, "is one way to print, --json another; choose one")
    found = output_of(output)
    wanted = comparing.Wanted(metric, at, points, file, as_json, as_latex)
    comparing.compare([found.find_readable(sweep) for sweep in sweeps], found, wanted)


@click.command()
@click.argument("name", metavar="[NAME]", required=False)
@overrides_argument
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the page.  [reproduction, in the output folder]",
)
@output_option
def reproduce(
    name: str | None, overrides: tuple[str, ...], to: Path | None, output: Path | None
) -> None:
    """Draw the paper's figures with several seeds, and answer what they claim.

    NAME is figure-2 to figure-11, whose sweep is run if it is not there. Without NAME: the figures
    on synthetic data (4 to 7), and of those on images the ones whose sweeps are there. KEY=VALUE
    changes the presets.
    """
    first = [name] if name is not None and "=" in name else []
    chosen = None if first else name
    reproducing.reproduce(chosen, [*first, *overrides], output_of(output), to)


COMMANDS = (plot, report, compare, reproduce)
"""In the order of the help."""
