"""What the command line prints on: one console for all commands."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

console = Console(width=None if sys.stdout.isatty() else 120)


def print_line(line: str) -> None:
    """Print text as it is, however long."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_remark(remark: str) -> None:
    """Print why something is missing, if it is."""
    if remark:
        print_line(remark)


def print_figures(paths: Iterable[Path]) -> None:
    """Print the paths of images."""
    for path in paths:
        if path.suffix == ".png":
            console.print(f"figure {path}", highlight=False, soft_wrap=True)
