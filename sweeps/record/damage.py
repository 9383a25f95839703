"""What is said of a file of a sweep that is not as it was written: which, where, and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from luceloop.core.errors import ConfigError

Content = TypeVar("Content")


class DamagedError(ConfigError):
    """A ledger that is not as it was written; its message is one line for the user.

    Args:
        path: of the ledger.
        number: of the line, from 0.
        reason: what is wrong with it.
    """

    def __init__(self, path: Path, number: int, reason: str) -> None:
        sweep = path.parent.name
        goes_on = f"luceloop resume {sweep} keeps what is sound and computes the rest again"
        super().__init__("SWEEP", sweep, f"{path}, line {number + 1}, {reason}; {goes_on}")
        self.path, self.number, self.reason = path, number, reason

    def __reduce__(self) -> tuple[type[DamagedError], tuple[Path, int, str]]:
        return DamagedError, (self.path, self.number, self.reason)


def read_json(file: Path, parse: Callable[[Any], Content]) -> Content:
    """What a JSON file of a sweep says.

    Args:
        file: directly in the sweep's folder.
        parse: makes something of its plain values.

    Raises:
        ConfigError: naming the file, if it holds something else.
    """
    try:
        return parse(json.loads(file.read_bytes()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        allowed = f"{file} is damaged: it does not hold what was written"
        raise ConfigError("SWEEP", file.parent.name, allowed) from None
