"""The command line, `luceloop`.

The composition root: the one module that may import all layers. Heavy imports wait for the
command that needs them, so that a typo is answered at once.

Exit codes: 0 done; 1 the sweep ended with failed trials, or its rows are not all delivered;
2 a usage or configuration error, in one line; 130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
from rich.console import Console
from rich.table import Table

from core.errors import ConfigError, LoopError

if TYPE_CHECKING:
    import pandas as pd

    from analysis.results import Start
    from core.config import Config
    from sweeps.output import Output, SweepFolder

console = Console(width=None if sys.stdout.isatty() else 120)

config_argument = click.argument("config", metavar="CONFIG")
overrides_argument = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
sweep_argument = click.argument("sweep", metavar="SWEEP")
output_option = click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="LUCELOOP_OUTPUT",
    help="Folder of all results.  [$LUCELOOP_OUTPUT, else luceloop-out]",
)


figures_option = click.option(
    "--figures/--no-figures",
    default=True,
    help="Draw figures at the end.  [on]",
)


forecast_option = click.option(
    "--forecast",
    "start",
    type=click.Choice(["law", "measured", "off"]),
    default="law",
    show_default=True,
    help="Theory beneath the curves: from the real data's law, from the measured p_0, or none.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="luceloop")
def app() -> None:
    """Distributed sweeps of self-consuming generative loops with curated data.

    CONFIG is a preset's name or a YAML file; KEY=VALUE sets dotted keys, values in YAML.
    SWEEP is a sweep's name, an unambiguous start of its id, or latest.
    """


@app.command()
@config_argument
@overrides_argument
@figures_option
@output_option
def run(config: str, overrides: tuple[str, ...], figures: bool, output: Path | None) -> None:
    """Run a sweep."""
    from sweeps.presets import read_config

    _start(read_config(config, list(overrides)), _output(output), figures)


@app.command()
@config_argument
@overrides_argument
@click.option(
    "-o",
    "--to",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the tidy table: a .csv or .parquet file.",
)
@click.option(
    "--from",
    "start",
    metavar="SWEEP",
    help="Start from the p_0 that this sweep trained, seed by seed.  [the real data's law]",
)
@figures_option
@output_option
def forecast(
    config: str,
    overrides: tuple[str, ...],
    file: Path | None,
    start: str | None,
    figures: bool,
    output: Path | None,
) -> None:
    """Print and draw what a perfect learner would do; nothing is trained."""
    from sweeps.presets import read_config

    if file is not None:
        _check_table_file(file)
    _forecast(read_config(config, list(overrides)), _output(output), file, start, figures)


@app.command()
@overrides_argument
@output_option
def demo(overrides: tuple[str, ...], output: Path | None) -> None:
    """Run the two-minute demo and draw its figures."""
    from sweeps.presets import read_config

    _start(read_config("demo", list(overrides)), _output(output), figures=True)


@app.command()
@sweep_argument
@figures_option
@output_option
def resume(sweep: str, figures: bool, output: Path | None) -> None:
    """Go on with an interrupted sweep."""
    found = _output(output)
    _run(found.find(sweep), found, figures)


@app.command("list")
@output_option
def list_sweeps(output: Path | None) -> None:
    """List all sweeps."""
    from sweeps.ledger import Ledger

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("sweep", "name", "points", "seeds", "state"):
        table.add_column(column, overflow="fold")
    found = _output(output)
    for folder in found.sweeps():
        config = folder.config()
        ledger = Ledger(folder.ledger, writable=False)
        ended = [point.status for point in ledger.points.values() if point.status]
        total, failed = config.point_count, ended.count("failed")
        state = "done" if len(ended) == total else f"{len(ended)} of {total} points done"
        table.add_row(
            folder.id,
            config.name,
            str(total),
            str(len(config.seeds)),
            state + (f", {failed} failed" if failed else ""),
        )
    if not table.row_count:
        console.print(f"no sweeps under {found.path}; start with: luceloop demo", highlight=False)
        return
    console.print(table)


@app.command()
@sweep_argument
@output_option
def show(sweep: str, output: Path | None) -> None:
    """Show a sweep's points and how they stand."""
    _show(_output(output).find(sweep))


@app.command()
@sweep_argument
@click.option(
    "-o",
    "--to",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="A .csv or .parquet file.",
)
@output_option
def export(sweep: str, file: Path, output: Path | None) -> None:
    """Write a sweep's tidy table: seeds, then aggregates."""
    from analysis.curves import write_table

    _check_table_file(file)
    table = _table(sweep, _output(output))
    write_table(table, file)
    console.print(f"{len(table)} rows in {file}", highlight=False)


@app.command()
@sweep_argument
@click.option("--to", type=click.Path(path_type=Path, file_okay=False), help="Another folder.")
@forecast_option
@output_option
def plot(sweep: str, to: Path | None, start: Start, output: Path | None) -> None:
    """Draw a sweep's figures, PNG and PDF."""
    from analysis.figures import draw_all
    from analysis.results import load_results

    found = _output(output)
    folder = found.find(sweep)
    results = load_results(found.tracking_uri, folder.id, start)
    _print_figures(draw_all(results, to or folder.figures))


@app.command()
@sweep_argument
@click.option(
    "-o",
    "--to",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Another .html file.",
)
@forecast_option
@output_option
def report(sweep: str, file: Path | None, start: Start, output: Path | None) -> None:
    """Write a sweep's report, one HTML page."""
    found = _output(output)
    folder = found.find(sweep)
    _draw_and_report(found, folder, file or folder.report, start)
    console.print(f"report {file or folder.report}", highlight=False, soft_wrap=True)


@app.command()
def presets() -> None:
    """List the presets."""
    from sweeps.presets import preset_description, preset_names

    table = Table(box=None, show_header=False, pad_edge=False)
    for name in preset_names():
        table.add_row(name, preset_description(name))
    console.print(table)


@app.command()
@config_argument
@overrides_argument
def validate(config: str, overrides: tuple[str, ...]) -> None:
    """Check a configuration and all its points."""
    from sweeps.naming import describe
    from sweeps.presets import read_config
    from sweeps.runner import check

    parsed = read_config(config, list(overrides))
    points = check(parsed)
    console.print(f"ok: {points} points. {describe(parsed)}", highlight=False)


@app.command()
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=5000,
    show_default=True,
    help="Port on 127.0.0.1.",
)
@output_option
def ui(port: int, output: Path | None) -> None:
    """Serve MLflow; print the newest sweep's address."""
    from sweeps.ui import serve

    serve(_output(output), port, console)


def main() -> None:
    """Entry point of the console script."""
    sys.path.insert(0, str(Path.cwd()))  # custom code lives beside the user's configuration
    try:
        sys.exit(app(standalone_mode=False))
    except (ConfigError, LoopError) as error:
        _fail(str(error), 2)
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}", 2)
    except click.exceptions.NoArgsIsHelpError as error:
        _fail(error.format_message(), 2)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "luceloop"
        _fail(f"{error.format_message()} See: {command} --help", 2)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted", 130)


def _fail(line: str, code: int) -> NoReturn:
    print(line, file=sys.stderr)
    sys.exit(code)


def _output(given: Path | None) -> Output:
    from sweeps.output import Output

    return Output.of(given)


def _start(config: Config, output: Output, figures: bool) -> None:
    from sweeps.naming import describe
    from sweeps.runner import check

    points = check(config)
    folder = output.create_sweep(config, describe(config))
    console.print(f"sweep {folder.id}  {config.name}: {points} points", highlight=False)
    console.print(describe(config), style="dim", highlight=False)
    _run(folder, output, figures)


def _run(folder: SweepFolder, output: Output, figures: bool) -> None:
    from sweeps.runner import run_sweep

    def finish() -> list[Path]:
        return _draw_and_report(output, folder, folder.report) if figures else []

    outcome = run_sweep(folder, output, console, finish)
    _show(folder)
    if outcome.undelivered:
        console.print(
            f"MLflow at {output.tracking_uri} lacks {outcome.undelivered} events "
            f"({outcome.store_error}); deliver them with: luceloop resume {folder.id}",
            highlight=False,
        )
    if outcome.unfinished:
        console.print(f"go on with: luceloop resume {folder.id}", highlight=False)
        sys.exit(130)
    if outcome.undelivered:
        sys.exit(1)
    if outcome.store_error:
        console.print(f"figures were not drawn: {outcome.store_error}", highlight=False)
    _print_figures(sorted(folder.figures.glob("*.png")))
    if folder.report.exists():
        console.print(f"report {folder.report}", highlight=False, soft_wrap=True)
    console.print("compare the points in MLflow with: luceloop ui", highlight=False)
    if outcome.failed or outcome.store_error:
        sys.exit(1)


def _show(folder: SweepFolder) -> None:
    from sweeps.ledger import Ledger
    from sweeps.progress import forecast_gaps, remarks, sweep_table

    config = folder.config()
    ledger = Ledger(folder.ledger, writable=False)
    console.print(f"{config.name}  {folder.id}", style="bold", highlight=False)
    lines, gaps = remarks(config, ledger), None
    try:
        gaps = forecast_gaps(config, ledger)
    except (ConfigError, LoopError) as error:  # the sweep's own code may not be here
        lines.append(f"no forecast: {error}")
    console.print(sweep_table(config, ledger, config.point_count, gaps=gaps))
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _table(sweep: str, output: Output) -> pd.DataFrame:
    from analysis.curves import load_table

    return load_table(output.tracking_uri, output.find(sweep).id)


def _draw_and_report(
    output: Output, folder: SweepFolder, file: Path, start: Start = "law"
) -> list[Path]:
    """The files written: the report last, after the figures; none if no point has a row."""
    from analysis.figures import draw_all
    from analysis.report import write_report
    from analysis.results import load_results

    results = load_results(output.tracking_uri, folder.id, start)
    if not results.points:
        return []
    written = draw_all(results, folder.figures)
    return [*written, write_report(results, written, file)]


def _check_table_file(file: Path) -> None:
    if file.suffix not in (".csv", ".parquet"):
        raise ConfigError("-o", str(file), "must end in .csv or .parquet")


def _forecast(
    config: Config, output: Output, file: Path | None, start: str | None, figures: bool
) -> None:
    from analysis.curves import find_runs, write_table
    from analysis.forecasts import average, forecast_from, forecast_table
    from core.forecast import forecast
    from sweeps.forecast_table import bound_table, curve_table
    from sweeps.naming import describe, point_name
    from sweeps.space import planned_points

    points, searched = dict(enumerate(planned_points(config))), list(config.search.space)
    names = {index: point_name(point.flat(), searched) for index, point in points.items()}
    seeds: tuple[int, ...] = ()
    if start is None:
        every = {i: [found] for i, found in enumerate(forecast(list(points.values())))}
    else:
        folder = output.find(start)
        seeds = folder.config().seeds
        every = forecast_from(find_runs(output.tracking_uri, folder.id), points)
    forecasts = {index: average(found) for index, found in every.items()}
    console.print(describe(config), style="dim", highlight=False)
    for table in (curve_table(names, forecasts), bound_table(names, forecasts)):
        if table is not None:
            console.print(table)
    if file is not None:
        rows = forecast_table(config.name, searched, points, every, seeds)
        write_table(rows, file)
        console.print(f"{len(rows)} rows in {file}", highlight=False)
    if figures:
        from analysis.figures import draw_forecasts

        _print_figures(draw_forecasts(names, forecasts, output.forecasts / config.name))


def _print_figures(paths: list[Path]) -> None:
    for path in paths:
        if path.suffix == ".png":
            console.print(f"figure {path}", highlight=False, soft_wrap=True)
