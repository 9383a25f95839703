"""The command line, `luceloop`: its commands, and how it ends.

Exit codes: 0 done; 1 the sweep ended with failed trials, or MLflow does not have all of it, or its
disk is full or its storage silent; 2 a usage or configuration error, in one line; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from rich.table import Table

from luceloop.core.errors import (
    ChangedFileError,
    ConfigError,
    DiskFullError,
    LoopError,
    StorageError,
)
from luceloop.core.io.files import FULL
from luceloop.sweeps.cli import cluster
from luceloop.sweeps.cli.lazy import LazyModule
from luceloop.sweeps.cli.options import (
    accept_option,
    config_argument,
    figures_option,
    output_option,
    overrides_argument,
    storage_option,
    sweep_argument,
)
from luceloop.sweeps.console import console

if TYPE_CHECKING:
    from luceloop.analysis.reading.results import Start
    from luceloop.analysis.statistics.pairs import At
    from luceloop.core.io import plugins
    from luceloop.sweeps import presets
    from luceloop.sweeps.cli import comparing, forecasting, reading, running
    from luceloop.sweeps.presets import reading as configurations
    from luceloop.sweeps.record import folders
    from luceloop.sweeps.tracking import server
else:
    plugins = LazyModule("luceloop.core.io.plugins")
    presets = LazyModule("luceloop.sweeps.presets")
    configurations = LazyModule("luceloop.sweeps.presets.reading")
    comparing = LazyModule("luceloop.sweeps.cli.comparing")
    forecasting = LazyModule("luceloop.sweeps.cli.forecasting")
    reading = LazyModule("luceloop.sweeps.cli.reading")
    running = LazyModule("luceloop.sweeps.cli.running")
    folders = LazyModule("luceloop.sweeps.record.folders")
    server = LazyModule("luceloop.sweeps.tracking.server")

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
@storage_option
@click.option("--id", "identity", hidden=True)  # of a job, known before it starts
def run(
    config: str,
    overrides: tuple[str, ...],
    figures: bool,
    output: Path | None,
    storage: str | None,
    identity: str | None,
) -> None:
    """Run a sweep."""
    parsed = configurations.read_config(config, list(overrides))
    running.start(parsed, _output(output, storage), figures=figures, identity=identity)


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
@click.option(
    "--replicates",
    metavar="N",
    type=click.IntRange(min=0),
    help="Simulate N seeds of a perfect learner at finite n.  [200, for at most 24 points; else 0]",
)
@figures_option
@output_option
def forecast(
    config: str,
    overrides: tuple[str, ...],
    file: Path | None,
    start: str | None,
    replicates: int | None,
    figures: bool,
    output: Path | None,
) -> None:
    """Print and draw what a perfect learner would do; nothing is trained."""
    if file is not None:
        _check_ending(file, ".csv", ".parquet")
    parsed = configurations.read_config(config, list(overrides))
    forecasting.forecast_points(
        parsed, _output(output), file, start, figures=figures, replicates=replicates
    )


@app.command()
@overrides_argument
@output_option
def demo(overrides: tuple[str, ...], output: Path | None) -> None:
    """Run the two-minute demo and draw its figures."""
    running.start(
        configurations.read_config("demo", list(overrides)), _output(output), figures=True
    )


@app.command()
@sweep_argument
@figures_option
@accept_option
@output_option
@storage_option
def resume(
    sweep: str, figures: bool, accept: bool, output: Path | None, storage: str | None
) -> None:
    """Go on with an interrupted sweep, on the files that it began with.

    Its storage is that which it began with, unless another is named. SWEEP may be the whole id of a
    sweep that ran on another machine: its record is then read from the storage.
    """
    found = _output(output, storage)
    running.resume(sweep, found, figures=figures, moved=storage is not None, accept=accept)


@app.command()
@sweep_argument
@figures_option
@output_option
def sync(sweep: str, figures: bool, output: Path | None) -> None:
    """Deliver to MLflow what it lacks of a sweep."""
    found = _output(output)
    running.sync(found.find(sweep), found, figures=figures)


@app.command("list")
@output_option
def list_sweeps(output: Path | None) -> None:
    """List all sweeps."""
    reading.list_sweeps(_output(output))


@app.command()
@sweep_argument
@output_option
def show(sweep: str, output: Path | None) -> None:
    """Show a sweep's points and how they stand."""
    reading.show(_output(output).find(sweep))


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
    _check_ending(file, ".csv", ".parquet")
    reading.export(sweep, _output(output), file)


@app.command()
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
    reading.plot(sweep, _output(output), to, start, reading.Plot(**wanted))


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
    if file is not None:
        _check_ending(file, ".html")
    reading.report(sweep, _output(output), file, start)


@app.command()
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
@click.option(
    "-o",
    "--to",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the table: a .csv or .parquet file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
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
    if file is not None:
        _check_ending(file, ".csv", ".parquet")
    found = _output(output)
    wanted = comparing.Wanted(metric, at, points, file, as_json, as_latex)
    comparing.compare([found.find(sweep) for sweep in sweeps], found, wanted)


@app.command("presets")
def list_presets() -> None:
    """List the presets."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name in presets.preset_names():
        table.add_row(name, presets.preset_description(name))
    console.print(table)


@app.command()
@config_argument
@overrides_argument
def validate(config: str, overrides: tuple[str, ...]) -> None:
    """Check a configuration and all its points."""
    running.validate(configurations.read_config(config, list(overrides)))


@app.command("train-classifier")
@config_argument
@overrides_argument
@output_option
@storage_option
def train_classifier(
    config: str, overrides: tuple[str, ...], output: Path | None, storage: str | None
) -> None:
    """Train a configuration's classifier of images, or say how good the trained one is."""
    parsed = configurations.read_config(config, list(overrides))
    running.train_classifier(parsed, _output(output, storage))


@app.command()
@click.argument("sweep", metavar="[SWEEP]", default="latest")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=5000,
    show_default=True,
    help="Port on 127.0.0.1.",
)
@output_option
def ui(sweep: str, port: int, output: Path | None) -> None:
    """Serve MLflow; print the address of a sweep's charts, the newest if none is named."""
    server.serve(_output(output), sweep, port, console)


for command in cluster.COMMANDS:
    app.add_command(command)


def main() -> None:
    """Entry point of the console script."""
    with reporting():
        plugins.use_folder(Path.cwd())  # custom code lives beside the user's configuration
        sys.exit(app(standalone_mode=False))


@contextmanager
def reporting() -> Iterator[None]:
    """End this process with a line and an exit code, where something is raised for the user."""
    try:
        yield
    except (ConfigError, LoopError, ChangedFileError) as error:
        fail(str(error), 2)
    except (DiskFullError, StorageError) as error:
        fail(str(error), 1)
    except OSError as error:
        if error.errno in FULL:
            fail(f"{error.filename or 'a file'}: {error.strerror} (ENOSPC); make room first", 1)
        if error.filename is None:
            raise
        fail(f"{error.filename}: {error.strerror}", 2)
    except click.exceptions.NoArgsIsHelpError as error:
        fail(error.format_message(), 2)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "luceloop"
        fail(f"{error.format_message()} See: {command} --help", 2)
    except (KeyboardInterrupt, click.Abort):
        fail("interrupted", 130)


def fail(line: str, code: int) -> NoReturn:
    """End this process with a line for the user."""
    print(line, file=sys.stderr)
    sys.exit(code)


def _output(given: Path | None, storage: str | None = None) -> folders.Output:
    return folders.Output.of(given, storage)


def _check_ending(file: Path, *endings: str) -> None:
    """Refuse a file of another kind than is written."""
    if file.suffix not in endings:
        raise ConfigError("-o", str(file), f"must end in {' or '.join(endings)}")
