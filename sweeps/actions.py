"""What the commands do: the body of the composition root, beside the command line itself.

Heavy imports wait for the command that needs them, so that a typo is answered at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from luceloop.core.errors import ConfigError, LoopError

if TYPE_CHECKING:
    import pandas as pd

    from luceloop.analysis.results import Start
    from luceloop.core.config import Config
    from luceloop.sweeps.delivery import Delivery
    from luceloop.sweeps.output import Output, SweepFolder

console = Console(width=None if sys.stdout.isatty() else 120)


def start(config: Config, output: Output, figures: bool, identity: str | None = None) -> None:
    """Check a configuration and run it as a new sweep, with an id chosen before if there is one."""
    from luceloop.core.storage import try_writing
    from luceloop.sweeps.naming import describe
    from luceloop.sweeps.runner import check

    points = check(config)
    if output.named_storage is not None:
        try_writing("--storage", output.named_storage)
    folder = output.create_sweep(config, describe(config), identity)
    console.print(f"sweep {folder.id}  {config.name}: {points} points", highlight=False)
    console.print(describe(config), style="dim", highlight=False)
    run(folder, output, figures)


def resume(wanted: str, output: Output, figures: bool, moved: bool) -> None:
    """Run what is left of the sweep that `wanted` names.

    Args:
        wanted: the sweep.
        output: the output folder.
        figures: whether to draw at the end.
        moved: whether its storage is from now on that of `output`.
    """
    from luceloop.core.storage import try_writing
    from luceloop.sweeps.delivery import alone
    from luceloop.sweeps.mirror import check_move, find_or_fetch

    if moved:
        try_writing("--storage", output.storage)
    folder = find_or_fetch(output, wanted)
    if moved:
        with alone(folder):
            check_move(folder, output.storage)
            folder.keep_storage(output.storage)
    elif folder.has_own_storage:
        try_writing("--storage", folder.storage)
    run(folder, output, figures)


def run(folder: SweepFolder, output: Output, figures: bool) -> None:
    """Run what is left of a sweep, show what came of it, and exit by it."""
    from luceloop.sweeps.runner import run_sweep

    outcome = run_sweep(folder, output, console, lambda: finish(folder, output, figures))
    show(folder)
    delivered = print_missing(outcome.delivery, folder, output)
    if outcome.unfinished:
        print_line(f"go on with: luceloop resume {folder.id}{_where(output)}")
        sys.exit(130)
    if outcome.delivery.undelivered:
        sys.exit(1)
    print_figures(sorted(folder.figures.glob("*.png")))
    if folder.report.exists():
        console.print(f"report {folder.report}", highlight=False, soft_wrap=True)
    print_line(f"compare the points in MLflow with: luceloop ui{_where(output)}")
    if outcome.failed or not delivered:
        sys.exit(1)


def finish(folder: SweepFolder, output: Output, figures: bool) -> list[Path]:
    """Draw the figures and the report of a sweep that has ended, if it came to anything."""
    from luceloop.sweeps.ledger import Ledger

    points = Ledger(folder.ledger, writable=False).points.values()
    drawn = figures and any(point.rows for point in points)
    return draw_and_report(output, folder, folder.report) if drawn else []


def sync(folder: SweepFolder, output: Output, figures: bool) -> None:
    """Give MLflow what it lacks of a sweep, and exit by whether it has all."""
    from luceloop.sweeps import delivery

    found = delivery.sync(folder, output, lambda: finish(folder, output, figures))
    if not print_missing(found, folder, output):
        sys.exit(1)
    print_line(f"MLflow at {output.shown_uri} has all {found.events} events of {folder.id}")


def print_missing(delivery: Delivery, folder: SweepFolder, output: Output) -> bool:
    """Print in one line what MLflow lacks of a sweep, and how to deliver it; True if nothing."""
    if not delivery.undelivered and not delivery.error:
        return True
    count = delivery.undelivered
    print_line(
        f"MLflow at {output.shown_uri} "
        f"{f'lacks {count} events' if count else 'may lack files'} of {folder.id} "
        f"({delivery.error}); deliver them with: luceloop sync {folder.id}{_where(output)}"
    )
    return False


def _where(output: Output) -> str:
    """The option that names an output folder to the next command, where it must be named."""
    return "" if output == type(output).of(None) else f" --output {output.path}"


def show(folder: SweepFolder) -> None:
    """Print a sweep's points, their gaps to the forecast, and remarks."""
    from luceloop.sweeps.ledger import Ledger
    from luceloop.sweeps.progress import forecast_gaps, remarks, sweep_table

    config = folder.config()
    ledger = Ledger(folder.ledger, writable=False)
    console.print(f"{config.name}  {folder.id}", style="bold", highlight=False)
    lines, gaps = remarks(config, ledger), None
    try:
        gaps = forecast_gaps(config, ledger, folder.cache)
    except (ConfigError, LoopError) as error:  # the sweep's own code may not be here
        lines.append(f"no forecast: {error}")
    console.print(sweep_table(config, ledger, config.point_count, gaps=gaps))
    for line in lines:
        print_line(line)


def table(sweep: str, output: Output) -> pd.DataFrame:
    """The tidy table of the sweep that `sweep` names."""
    from luceloop.analysis.curves import load_table

    return load_table(output.tracking_uri, output.find(sweep).id)


def draw_and_report(
    output: Output, folder: SweepFolder, file: Path, start: Start = "law"
) -> list[Path]:
    """The files written: the report last, after the figures."""
    from luceloop.analysis.figures import draw_all
    from luceloop.analysis.report import write_report
    from luceloop.analysis.results import load_results

    results = load_results(output.tracking_uri, folder.id, start, folder.cache)
    print_remark(results.remark)
    written = draw_all(results, folder.figures)
    return [*written, write_report(results, written, file)]


def check_table_file(file: Path) -> None:
    """Refuse a file that is no kind of table."""
    if file.suffix not in (".csv", ".parquet"):
        raise ConfigError("-o", str(file), "must end in .csv or .parquet")


def forecast_points(
    config: Config, output: Output, file: Path | None, start: str | None, figures: bool
) -> None:
    """Print, write and draw the forecast of a configuration's points.

    Args:
        config: what is forecast.
        output: the output folder.
        file: of the tidy table, if wanted.
        start: a sweep whose p_0 the forecast starts from.
        figures: whether to draw.
    """
    from luceloop.analysis.curves import find_runs, write_table
    from luceloop.analysis.forecasts import average, forecast_from, forecast_table
    from luceloop.core.forecast import forecast
    from luceloop.sweeps.forecast_table import bound_table, curve_table
    from luceloop.sweeps.naming import describe, point_name
    from luceloop.sweeps.space import planned_points

    points, searched = dict(enumerate(planned_points(config))), list(config.search.space)
    names = {index: point_name(point.flat(), searched) for index, point in points.items()}
    seeds: tuple[int, ...] = ()
    if start is None:
        every = {
            i: [found]
            for i, found in enumerate(forecast(list(points.values()), cache=output.cache))
        }
    else:
        folder = output.find(start)
        seeds = folder.config().seeds
        every = forecast_from(find_runs(output.tracking_uri, folder.id), points, output.cache)
    forecasts = {index: average(found) for index, found in every.items()}
    console.print(describe(config), style="dim", highlight=False)
    if config.search.learns_values:
        print_remark(f"{config.search.sampler} chooses as it goes: these are ends of its ranges")
    for table in (curve_table(names, forecasts), bound_table(names, forecasts)):
        if table is not None:
            console.print(table)
    if file is not None:
        rows = forecast_table(config.name, searched, points, every, seeds)
        write_table(rows, file)
        console.print(f"{len(rows)} rows in {file}", highlight=False)
    if figures:
        from luceloop.analysis.figures import draw_forecasts

        print_figures(draw_forecasts(names, forecasts, output.forecasts / config.name))


def train_classifier(config: Config, output: Output) -> None:
    """Print the accuracy of a configuration's classifier, which is trained if it never was."""
    import torch

    from luceloop.core.scoring import build_scorer
    from luceloop.workers.sampler import here

    torch.set_num_threads(config.resources.threads)
    classifier = build_scorer(config, here(), output.cache).classifier
    if classifier is None:
        raise ConfigError("classifier", None, "must be set, like classifier.name=small_cnn")
    share = 100 * classifier.trained.accuracy
    console.print(
        f"{share:.2f} % of held-out images right; kept in {output.cache}", highlight=False
    )


def print_remark(remark: str) -> None:
    """Print why something is missing, if it is."""
    if remark:
        print_line(remark)


def print_line(line: str) -> None:
    """Print text as it is, however long."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_figures(paths: list[Path]) -> None:
    """Print the paths of images."""
    for path in paths:
        if path.suffix == ".png":
            console.print(f"figure {path}", highlight=False, soft_wrap=True)
