"""What the command line prints on: one console for all commands."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

console = Console(width=None if sys.stdout.isatty() else 120)


def print_line(line: str) -> None:
    """Print text as it is, however long."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


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
            console.print(f"figure {path}", highlight=False, soft_wrap=True)
