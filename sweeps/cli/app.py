"""The command line, `luceloop`: its commands, and how it ends.

Exit codes: 0 done, or stopped at its budget; 1 the sweep ended with failed trials, or MLflow does
not have all of it, or its disk is full, or its storage or Ray are silent; 2 a usage or
configuration error, in one line; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from luceloop.core.errors import (
    ChangedFileError,
    ConfigError,
    DiskFullError,
    LoopError,
    SessionError,
    StorageError,
)
from luceloop.core.io.files import FULL
from luceloop.core.text import in_one_line
from luceloop.sweeps.cli import beginning, cluster, conclusions, tidying
from luceloop.sweeps.cli.ending import (
    INTERRUPTED,
    Commands,
    InterruptedCommand,
    came_of_interrupt,
    interruptible,
)
from luceloop.sweeps.cli.lazy import LazyModule
from luceloop.sweeps.cli.options import (
    accept_option,
    config_argument,
    figures_option,
    file_option,
    hours_option,
    json_option,
    notify_option,
    output_of,
    output_option,
    overrides_argument,
    storage_option,
    sweep_argument,
    with_notify,
    within,
)
from luceloop.sweeps.console import close_output, console, write_everything

if TYPE_CHECKING:
    from luceloop.core.io import plugins
    from luceloop.sweeps import presets
    from luceloop.sweeps.cli import forecasting, reading, running
    from luceloop.sweeps.presets import reading as configurations
    from luceloop.sweeps.tracking import server
else:
    plugins = LazyModule("luceloop.core.io.plugins")
    presets = LazyModule("luceloop.sweeps.presets")
    configurations = LazyModule("luceloop.sweeps.presets.reading")
    forecasting = LazyModule("luceloop.sweeps.cli.forecasting")
    reading = LazyModule("luceloop.sweeps.cli.reading")
    running = LazyModule("luceloop.sweeps.cli.running")
    server = LazyModule("luceloop.sweeps.tracking.server")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="luceloop")
def app() -> None:
    """Distributed sweeps of self-consuming generative loops with curated data.

    CONFIG is a preset's name or a YAML file; KEY=VALUE sets dotted keys, values in YAML.
    SWEEP is a sweep's name, an unambiguous start of its id, or latest. Where the newest cannot be
    read, what only reads takes the newest that can be; what changes a sweep takes no other one.
    """


@app.command()
@config_argument
@overrides_argument
@figures_option
@output_option
@storage_option
@notify_option
@click.option("--id", "identity", hidden=True)  # of a job, known before it starts
@click.option("--reuse", is_flag=True, help="Take rows that other sweeps have on record.")
@hours_option
def run(
    config: str,
    overrides: tuple[str, ...],
    figures: bool,
    output: Path | None,
    storage: str | None,
    notify: str | None,
    identity: str | None,
    reuse: bool,
    hours: float | None,
) -> None:
    """Run a sweep."""
    given = with_notify(within(overrides, hours), notify) + (["reuse=true"] if reuse else [])
    parsed = configurations.read_config(config, given)
    running.start(parsed, output_of(output, storage), figures=figures, identity=identity)


@app.command()
@config_argument
@overrides_argument
@file_option("Also write the tidy table: a .csv or .parquet file.", ".csv", ".parquet")
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
    parsed = configurations.read_config(config, list(overrides))
    forecasting.forecast_points(
        parsed, output_of(output), file, start, figures=figures, replicates=replicates
    )


@app.command()
@overrides_argument
@hours_option
@output_option
@notify_option
def demo(
    overrides: tuple[str, ...], hours: float | None, output: Path | None, notify: str | None
) -> None:
    """Run the two-minute demo and draw its figures."""
    given = with_notify(within(overrides, hours), notify)
    parsed = configurations.read_config("demo", given)
    running.start(parsed, output_of(output), figures=True)


@app.command()
@sweep_argument
@overrides_argument
@figures_option
@hours_option
@output_option
@storage_option
@notify_option
@click.option("--id", "identity", hidden=True)  # of a job, known before it starts
@click.option("--keep-files", "keep", is_flag=True, hidden=True)  # those of a job's upload
def extend(
    sweep: str,
    overrides: tuple[str, ...],
    figures: bool,
    hours: float | None,
    output: Path | None,
    storage: str | None,
    notify: str | None,
    identity: str | None,
    keep: bool,
) -> None:
    """Run a sweep again with more seeds, points or iterations; nothing is computed twice.

    KEY=VALUE says what is more: seeds=20, iterations=20, search.lam.grid=[0.5,1,2]. A new sweep is
    made, whose table is that of running all of it anew.
    """
    found, given = output_of(output, storage), with_notify(within(overrides, hours), notify)
    running.extend(sweep, given, found, figures=figures, identity=identity, keep=keep)


@app.command()
@sweep_argument
@click.argument("limits", nargs=-1, metavar="[budget.KEY=VALUE]...")
@figures_option
@accept_option
@hours_option
@output_option
@storage_option
@notify_option
def resume(
    sweep: str,
    limits: tuple[str, ...],
    figures: bool,
    accept: bool,
    hours: float | None,
    output: Path | None,
    storage: str | None,
    notify: str | None,
) -> None:
    """Go on with a sweep that was interrupted or stopped, on the files that it began with.

    Its budget is that of its configuration, unless another is given for this run. Its storage is
    that which it began with, unless another is named. SWEEP may be the whole id of a sweep that
    ran on another machine: its record is then read from the storage.
    """
    found, moved = output_of(output, storage), storage is not None
    given = within(limits, hours)
    running.resume(sweep, found, given, figures=figures, moved=moved, accept=accept, notify=notify)


@app.command()
@sweep_argument
@figures_option
@output_option
def sync(sweep: str, figures: bool, output: Path | None) -> None:
    """Deliver to MLflow what it lacks of a sweep."""
    found = output_of(output)
    running.sync(found.find(sweep), found, figures=figures)


@app.command("list")
@json_option
@output_option
def list_sweeps(as_json: bool, output: Path | None) -> None:
    """List all sweeps."""
    reading.list_sweeps(output_of(output), as_json=as_json)


@app.command()
@sweep_argument
@json_option
@output_option
def show(sweep: str, as_json: bool, output: Path | None) -> None:
    """Show a sweep's points and how they stand."""
    folder = output_of(output).find_readable(sweep)
    if as_json:
        reading.show_json(folder)
    else:
        reading.show(folder)


@app.command()
@sweep_argument
@file_option("A .csv or .parquet file.", ".csv", ".parquet", required=True)
@output_option
def export(sweep: str, file: Path, output: Path | None) -> None:
    """Write a sweep's tidy table: seeds, then aggregates."""
    reading.export(sweep, output_of(output), file)


@app.command()
@config_argument
@overrides_argument
@json_option
@output_option
@storage_option
def validate(
    config: str,
    overrides: tuple[str, ...],
    as_json: bool,
    output: Path | None,
    storage: str | None,
) -> None:
    """Check a configuration and all its points, and estimate what it costs on this machine.

    Time is that of earlier sweeps in the output folder, or else measured in a few seconds.
    """
    parsed = configurations.read_config(config, list(overrides))
    running.validate(parsed, output_of(output, storage), as_json=as_json)


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
    running.train_classifier(parsed, output_of(output, storage))


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
    server.serve(output_of(output), sweep, port, console)


for command in (*beginning.COMMANDS, *conclusions.COMMANDS, *cluster.COMMANDS, *tidying.COMMANDS):
    app.add_command(command)


def main() -> None:
    """Entry point of the console script."""
    write_everything()
    with interruptible() as interruptions:
        try:
            with reporting():
                plugins.use_folder(Path.cwd())  # custom code lives beside the user's configuration
                sys.exit(app(standalone_mode=False))
        except (KeyboardInterrupt, InterruptedCommand, click.Abort):
            interruptions.tell()
        except Exception as error:
            if not came_of_interrupt(error):
                raise
            interruptions.tell()
        finally:
            close_output()
        sys.exit(INTERRUPTED)


@contextmanager
def reporting() -> Iterator[None]:
    """End this process with a line and an exit code, where something is raised for the user."""
    try:
        yield
    except (ConfigError, LoopError, ChangedFileError) as error:
        fail(str(error), 2)
    except (DiskFullError, SessionError, StorageError) as error:
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


def fail(line: str, code: int) -> NoReturn:
    """End this process with a line for the user."""
    print(in_one_line(line), file=sys.stderr)
    sys.exit(code)
