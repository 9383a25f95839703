"""The command line, `luceloop`.

The composition root: the one module that may import all layers. Heavy imports wait for the
command that needs them, so that a typo is answered at once.

Exit codes: 0 done; 1 the sweep ended with failed trials, or its rows are not all delivered;
2 a usage or configuration error, in one line; 130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from core.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from core.config import Config
    from sweeps.output import Output, SweepFolder

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Distributed sweeps of self-consuming generative loops with curated data.",
)
console = Console()

ConfigArgument = Annotated[str, typer.Argument(metavar="CONFIG", help="A preset or a YAML file.")]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Dotted keys, values in YAML."),
]
SweepArgument = Annotated[
    str, typer.Argument(metavar="SWEEP", help="A name, the start of an id, or latest.")
]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", help="Folder of all results. [default: $LUCELOOP_OUTPUT]"),
]


@app.command()
def run(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    output: OutputOption = None,
) -> None:
    """Run a sweep."""
    from sweeps.presets import read_config

    _start(read_config(config, overrides or []), _output(output))


@app.command()
def demo(overrides: OverridesArgument = None, output: OutputOption = None) -> None:
    """Run the two-minute demo and draw its figures."""
    from sweeps.presets import read_config

    _start(read_config("demo", overrides or []), _output(output))


@app.command()
def resume(sweep: SweepArgument, output: OutputOption = None) -> None:
    """Go on with an interrupted sweep, to the numbers it would have had."""
    found = _output(output)
    _run(found.find(sweep), found)


@app.command("list")
def list_sweeps(output: OutputOption = None) -> None:
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
def show(sweep: SweepArgument, output: OutputOption = None) -> None:
    """Show a sweep's points and how they stand."""
    _show(_output(output).find(sweep))


@app.command()
def export(
    sweep: SweepArgument,
    file: Annotated[Path, typer.Option("-o", "--to", help="A .csv or .parquet file.")],
    output: OutputOption = None,
) -> None:
    """Write the tidy table of a sweep: a row per value, seeds and their aggregates."""
    from analysis.curves import write_table

    if file.suffix not in (".csv", ".parquet"):
        raise ConfigError("-o", str(file), "must end in .csv or .parquet")
    table = _table(sweep, _output(output))
    write_table(table, file)
    console.print(f"{len(table)} rows in {file}", highlight=False)


@app.command()
def plot(
    sweep: SweepArgument,
    to: Annotated[Path | None, typer.Option("--to", help="Another folder.")] = None,
    output: OutputOption = None,
) -> None:
    """Draw a sweep's figures, PNG and PDF."""
    found = _output(output)
    folder = found.find(sweep)
    _print_figures(_draw(found.tracking_uri, folder.id, to or folder.figures))


@app.command()
def presets() -> None:
    """List the presets."""
    from sweeps.presets import preset_description, preset_names

    table = Table(box=None, show_header=False, pad_edge=False)
    for name in preset_names():
        table.add_row(name, preset_description(name))
    console.print(table)


@app.command()
def validate(config: ConfigArgument, overrides: OverridesArgument = None) -> None:
    """Check a configuration and every point it can reach; run nothing."""
    from sweeps.presets import read_config
    from sweeps.runner import check, describe

    parsed = read_config(config, overrides or [])
    points = check(parsed)
    console.print(f"ok: {points} points. {describe(parsed)}", highlight=False)


@app.command()
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
    output: OutputOption = None,
) -> None:
    """Serve MLflow's pages of all sweeps, and print the address of the newest one's charts."""
    from sweeps.ui import serve

    serve(_output(output), port, console)


def main() -> None:
    """Entry point of the console script."""
    sys.path.insert(0, str(Path.cwd()))  # custom code lives beside the user's configuration
    try:
        app(standalone_mode=True)
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def _output(given: Path | None) -> Output:
    from sweeps.output import Output

    return Output.of(given)


def _start(config: Config, output: Output) -> None:
    from sweeps.runner import check, describe

    points = check(config)
    folder = output.create_sweep(config, describe(config))
    console.print(f"sweep {folder.id}  {config.name}: {points} points", highlight=False)
    console.print(describe(config), style="dim", highlight=False)
    _run(folder, output)


def _run(folder: SweepFolder, output: Output) -> None:
    from sweeps.runner import run_sweep

    outcome = run_sweep(
        folder,
        output,
        console,
        lambda sweep: _draw(output.tracking_uri, sweep, folder.figures),
    )
    _show(folder)
    if outcome.undelivered:
        console.print(
            f"MLflow at {output.tracking_uri} lacks {outcome.undelivered} events "
            f"({outcome.store_error}); deliver them with: luceloop resume {folder.id}",
            highlight=False,
        )
    if outcome.unfinished:
        console.print(f"go on with: luceloop resume {folder.id}", highlight=False)
        raise typer.Exit(130)
    if outcome.undelivered:
        raise typer.Exit(1)
    if outcome.store_error:
        console.print(f"figures were not drawn: {outcome.store_error}", highlight=False)
    _print_figures(sorted(folder.figures.glob("*.png")))
    console.print("compare the points in MLflow with: luceloop ui", highlight=False)
    if outcome.failed or outcome.store_error:
        raise typer.Exit(1)


def _show(folder: SweepFolder) -> None:
    from sweeps.ledger import Ledger
    from sweeps.progress import sweep_table

    config = folder.config()
    ledger = Ledger(folder.ledger, writable=False)
    console.print(f"{config.name}  {folder.id}", style="bold", highlight=False)
    console.print(sweep_table(config, ledger, config.point_count))


def _table(sweep: str, output: Output) -> pd.DataFrame:
    from analysis.curves import load_table

    return load_table(output.tracking_uri, output.find(sweep).id)


def _draw(tracking_uri: str, sweep: str, folder: Path) -> list[Path]:
    from analysis.figures import draw_all

    return draw_all(tracking_uri, sweep, folder)


def _print_figures(paths: list[Path]) -> None:
    for path in paths:
        if path.suffix == ".png":
            console.print(f"figure {path}", highlight=False, soft_wrap=True)
