"""The command line, `luceloop`.

The composition root: the one module that may import all layers. Heavy imports wait for the
command that needs them, so that a typo is answered at once.

Exit codes: 0 done; 1 the sweep ended with failed trials, or MLflow does not have all of it, or its
disk is full or its storage silent; 2 a usage or configuration error, in one line; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
from rich.table import Table

from luceloop.core.errors import ConfigError, DiskFullError, LoopError, StorageError
from luceloop.core.files import FULL
from luceloop.sweeps import actions, cluster_cli
from luceloop.sweeps.actions import console
from luceloop.sweeps.options import (
    config_argument,
    figures_option,
    output_option,
    overrides_argument,
    storage_option,
    sweep_argument,
)

if TYPE_CHECKING:
    from luceloop.analysis.results import Start
    from luceloop.sweeps.output import Output

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
    from luceloop.sweeps.presets import read_config

    parsed = read_config(config, list(overrides))
    actions.start(parsed, _output(output, storage), figures, identity)


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
    from luceloop.sweeps.presets import read_config

    if file is not None:
        actions.check_table_file(file)
    actions.forecast_points(
        read_config(config, list(overrides)), _output(output), file, start, figures
    )


@app.command()
@overrides_argument
@output_option
def demo(overrides: tuple[str, ...], output: Path | None) -> None:
    """Run the two-minute demo and draw its figures."""
    from luceloop.sweeps.presets import read_config

    actions.start(read_config("demo", list(overrides)), _output(output), figures=True)


@app.command()
@sweep_argument
@figures_option
@output_option
@storage_option
def resume(sweep: str, figures: bool, output: Path | None, storage: str | None) -> None:
    """Go on with an interrupted sweep.

    Its storage is that which it began with, unless another is named. SWEEP may be the whole id of a
    sweep that ran on another machine: its record is then read from the storage.
    """
    found = _output(output, storage)
    actions.resume(sweep, found, figures, moved=storage is not None)


@app.command()
@sweep_argument
@figures_option
@output_option
def sync(sweep: str, figures: bool, output: Path | None) -> None:
    """Deliver to MLflow what it lacks of a sweep."""
    found = _output(output)
    actions.sync(found.find(sweep), found, figures)


@app.command("list")
@output_option
def list_sweeps(output: Path | None) -> None:
    """List all sweeps."""
    from luceloop.sweeps.ledger import Ledger

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
    actions.show(_output(output).find(sweep))


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
    from luceloop.analysis.curves import write_table

    actions.check_table_file(file)
    table = actions.table(sweep, _output(output))
    write_table(table, file)
    console.print(f"{len(table)} rows in {file}", highlight=False)


@app.command()
@sweep_argument
@click.option("--to", type=click.Path(path_type=Path, file_okay=False), help="Another folder.")
@forecast_option
@output_option
def plot(sweep: str, to: Path | None, start: Start, output: Path | None) -> None:
    """Draw a sweep's figures, PNG and PDF."""
    from luceloop.analysis.figures import draw_all
    from luceloop.analysis.results import load_results

    found = _output(output)
    folder = found.find(sweep)
    results = load_results(found.tracking_uri, folder.id, start, folder.cache)
    actions.print_remark(results.remark)
    actions.print_figures(draw_all(results, to or folder.figures))


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
    if file is not None and file.suffix != ".html":
        raise ConfigError("-o", str(file), "must end in .html")
    actions.draw_and_report(found, folder, file or folder.report, start)
    console.print(f"report {file or folder.report}", highlight=False, soft_wrap=True)


@app.command()
def presets() -> None:
    """List the presets."""
    from luceloop.sweeps.presets import preset_description, preset_names

    table = Table(box=None, show_header=False, pad_edge=False)
    for name in preset_names():
        table.add_row(name, preset_description(name))
    console.print(table)


@app.command()
@config_argument
@overrides_argument
def validate(config: str, overrides: tuple[str, ...]) -> None:
    """Check a configuration and all its points."""
    from luceloop.sweeps.naming import describe
    from luceloop.sweeps.presets import read_config
    from luceloop.sweeps.runner import check

    parsed = read_config(config, list(overrides))
    points = check(parsed)
    console.print(f"ok: {points} points. {describe(parsed)}", highlight=False)


@app.command("train-classifier")
@config_argument
@overrides_argument
@output_option
@storage_option
def train_classifier(
    config: str, overrides: tuple[str, ...], output: Path | None, storage: str | None
) -> None:
    """Train a configuration's classifier of images, or say how good the trained one is."""
    from luceloop.sweeps.presets import read_config

    actions.train_classifier(read_config(config, list(overrides)), _output(output, storage))


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
    from luceloop.sweeps.ui import serve

    serve(_output(output), port, console)


for command in cluster_cli.COMMANDS:
    app.add_command(command)


def main() -> None:
    """Entry point of the console script."""
    sys.path.insert(0, str(Path.cwd()))  # custom code lives beside the user's configuration
    with reporting():
        sys.exit(app(standalone_mode=False))


@contextmanager
def reporting() -> Iterator[None]:
    """End this process with a line and an exit code, where something is raised for the user."""
    try:
        yield
    except (ConfigError, LoopError) as error:
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


def _output(given: Path | None, storage: str | None = None) -> Output:
    from luceloop.sweeps.output import Output

    return Output.of(given, storage)
