"""The commands one begins with: init, presets, schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from luceloop.core.errors import ConfigError
from luceloop.sweeps.cli.completion import complete_presets
from luceloop.sweeps.cli.lazy import LazyModule
from luceloop.sweeps.console import console, print_json, print_line

if TYPE_CHECKING:
    from luceloop.core.config import schema as schemas
    from luceloop.sweeps import presets
else:
    schemas = LazyModule("luceloop.core.config.schema")
    presets = LazyModule("luceloop.sweeps.presets")

SCHEMA = "luceloop.schema.json"
"""The file of the schema that the configuration of `init` names in its first line."""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
def init(folder: Path) -> None:
    """Write a commented configuration and a reward to edit into FOLDER, the current one."""
    files = presets.start_files() | {SCHEMA: json.dumps(schemas.config_schema(), indent=1) + "\n"}
    for name in files:
        if (folder / name).exists():
            allowed = (
                f"is there already, and is kept; to begin anew, name another folder than {folder}"
            )
            raise ConfigError("FOLDER", str(folder / name), allowed)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
        print_line(f"wrote {folder / name}")
    config = next(name for name in files if name.endswith(".yaml"))
    inside = "" if folder == Path() else f"cd {folder} && "
    print_line(f"check it with: {inside}luceloop validate {config}")


@click.command("presets")
@click.argument("name", required=False, shell_complete=complete_presets)
def list_presets(name: str | None) -> None:
    """List the presets, or print the YAML of one, to begin a file of your own with."""
    if name is not None:
        print(presets.preset_text(name), end="")
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for each in presets.preset_names():
        table.add_row(each, presets.preset_description(each))
    console.print(table)


@click.command()
def schema() -> None:
    """Print the JSON schema of configurations, by which editors complete keys and mark mistakes.

    An editor with a YAML language server takes it from a file, which the first line of a
    configuration names: `# yaml-language-server: $schema=luceloop.schema.json`.
    """
    print_json(schemas.config_schema())


COMMANDS = (init, list_presets, schema)
