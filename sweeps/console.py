"""What the command line prints on: one console for all commands.

Names, descriptions, reasons and paths are their users' text: what stands in square brackets or
between colons is shown as it is, and what a terminal would obey is shown as an escape.
"""

from __future__ import annotations

import json
import math
import os
import select
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from luceloop.core.text import printable


class PlainConsole(Console):
    """A console that shows text as it is, on which a closed output ends nothing."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        """Text as it will be shown, be it a line or a cell of a table."""
        return super().render_str(printable(text), **settings)

    def on_broken_pipe(self) -> None:
        """Go on in silence: a sweep does not end because nobody looks at it any more."""
        drop_output()


console = PlainConsole(width=None if sys.stdout is not None and sys.stdout.isatty() else 120)


def print_line(line: str) -> None:
    """Print text as it is, however long."""
    console.print(line, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print plain values as JSON, which lacks NaN and infinities: null, and `inf` or `-inf`."""
    print(json.dumps(_spelled(value), ensure_ascii=False, indent=2))


def _spelled(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _spelled(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_spelled(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def print_remark(remark: str) -> None:
    """Print why something is missing, if it is."""
    if remark:
        print_line(remark)


def print_figures(paths: Iterable[Path]) -> None:
    """Print the paths of images."""
    for path in paths:
        if path.suffix == ".png":
            print_line(f"figure {path}")


def close_output() -> None:
    """Write what is left to be written; where nobody reads it any more, that is no failure."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        drop_output()


def is_output_closed() -> bool:
    """Whether whoever read the standard output has left."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(0))


def drop_output() -> None:
    """Let whatever is written to the standard output from now on be lost."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def write_everything() -> None:
    """Let no character end a command: what an output cannot encode is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # which only files have
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
