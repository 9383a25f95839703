"""Arguments and options that several commands share."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from luceloop.core.errors import ConfigError
from luceloop.core.text import is_plain
from luceloop.sweeps.cli.completion import complete_configs, complete_keys, complete_sweeps
from luceloop.sweeps.cli.lazy import LazyModule

if TYPE_CHECKING:
    from luceloop.sweeps.record import folders
else:
    folders = LazyModule("luceloop.sweeps.record.folders")

F = TypeVar("F", bound=Callable[..., Any])

config_argument = click.argument("config", metavar="CONFIG", shell_complete=complete_configs)
overrides_argument = click.argument(
    "overrides", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=complete_keys
)
sweep_argument = click.argument("sweep", metavar="SWEEP", shell_complete=complete_sweeps)
output_option = click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="LUCELOOP_OUTPUT",
    help="Folder of all results.  [$LUCELOOP_OUTPUT, else luceloop-out]",
)
storage_option = click.option(
    "--storage",
    metavar="PLACE",
    help="Where all nodes find checkpoints and trained models: a path or an fsspec URL.  "
    "[$LUCELOOP_STORAGE, else the output folder]",
)
figures_option = click.option(
    "--figures/--no-figures",
    default=True,
    help="Draw figures at the end.  [on]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
accept_option = click.option(
    "--accept-changes",
    "accept",
    is_flag=True,
    help="Go on although files that the numbers depend on have changed; that is recorded.",
)
notify_option = click.option(
    "--notify",
    metavar="URL",
    help="What is told when the sweep ends, when a point fails and when a claim is decided.  A URL "
    "on a command line can be seen by others: @FILE names a file that holds it.  "
    "[the key notify, else $LUCELOOP_NOTIFY]",
)
hours_option = click.option(
    "--hours",
    type=click.FloatRange(min=0, min_open=True),
    help="Stop in order after so many hours, for `luceloop resume` to go on: budget.hours.",
)
address_option = click.option(
    "--address",
    metavar="URL",
    envvar=["RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"],
    help="Of the cluster's dashboard.  [$RAY_API_SERVER_ADDRESS, else $RAY_ADDRESS]",
)


def output_of(given: Path | None, storage: str | None = None) -> folders.Output:
    """The output folder, and where workers keep what they share if that is elsewhere."""
    return folders.Output.of(given, storage)


def with_notify(overrides: Sequence[str], notify: str | None) -> list[str]:
    """The overrides, and what `--notify` sets."""
    return [*overrides, *([] if notify is None else [f"notify={json.dumps(notify)}"])]


def within(overrides: Sequence[str], hours: float | None) -> list[str]:
    """Overrides, and the budget of hours where one is given."""
    return [*overrides, *([] if hours is None else [f"budget.hours={hours!r}"])]


def file_option(help_text: str, *endings: str, required: bool = False) -> Callable[[F], F]:
    """The option `-o` of a file to write, which has one of these endings."""

    def check(context: click.Context, option: click.Parameter, file: Path | None) -> Path | None:
        if file is not None and file.suffix not in endings:
            raise ConfigError("-o", str(file), f"must end in {' or '.join(endings)}")
        if file is not None and not is_plain(str(file)):
            raise ConfigError("-o", str(file), "must hold no control characters")
        return file

    kind = click.Path(path_type=Path, dir_okay=False)
    names = ("-o", "--to", "file")
    return click.option(*names, type=kind, required=required, callback=check, help=help_text)
