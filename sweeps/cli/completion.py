"""What a shell completes: presets and files, sweeps, and keys of configurations.

In bash: eval "$(_LUCELOOP_COMPLETE=bash_source luceloop)"; zsh and fish have their own names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from luceloop import core
from luceloop.core.io.files import write_atomically
from luceloop.sweeps.cli.lazy import LazyModule

if TYPE_CHECKING:
    from luceloop.core.config import schema as schemas
    from luceloop.sweeps import presets
    from luceloop.sweeps.record import folders
else:
    schemas = LazyModule("luceloop.core.config.schema")
    presets = LazyModule("luceloop.sweeps.presets")
    folders = LazyModule("luceloop.sweeps.record.folders")


def complete_presets(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Presets by their names."""
    found = presets.preset_names()
    return [CompletionItem(name) for name in found if name.startswith(incomplete)]


def complete_configs(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Presets by their names, and files."""
    return [
        *complete_presets(context, parameter, incomplete),
        CompletionItem(incomplete, type="file"),
    ]


def complete_sweeps(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Sweeps of the output folder by their ids, and `latest`."""
    output = folders.Output.of(context.params.get("output"))
    names = ["latest", *(sweep.id for sweep in output.sweeps())]
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_keys(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Dotted keys of a configuration, each up to its `=`."""
    if "=" in incomplete:
        return []
    found = (f"{key}=" for key in _known_keys() if key.startswith(incomplete))
    return [CompletionItem(key, type="nospace") for key in found]


def _known_keys() -> list[str]:
    """All keys; kept in a file, since working them out takes seconds."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    edited = max(file.stat().st_mtime_ns for file in Path(core.__path__[0]).rglob("*.py"))
    kept = Path(cache, "luceloop", f"keys-{edited}.txt")
    if kept.is_file():
        return kept.read_text().split()
    keys = sorted(set(schema_keys(schemas.config_schema())))
    with suppress(OSError):  # without a place for it they are worked out each time
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically("\n".join(keys), kept, durable=False)
    return keys


def schema_keys(schema: dict[str, Any]) -> Iterator[str]:
    """The dotted keys that a schema of configurations knows, those of all kinds of a part."""
    yield from _keys(schema, schema, "")


def _keys(part: Any, schema: dict[str, Any], prefix: str) -> Iterator[str]:
    if not isinstance(part, dict):
        return
    if "$ref" in part:
        name = part["$ref"].rpartition("/")[2]
        yield from _keys(schema["$defs"][name], schema, prefix)
    for choice in part.get("anyOf", ()):
        yield from _keys(choice, schema, prefix)
    for key, inner in part.get("properties", {}).items():
        below = list(_keys(inner, schema, f"{prefix}{key}."))
        yield from below or [f"{prefix}{key}"]
