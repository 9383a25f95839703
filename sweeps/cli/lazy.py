"""Modules that are imported when they are first used, so that a typo is answered at once.

What a command does brings Ray or torch: seconds that `--help` and a misspelt option need not wait
for. So the files that declare commands name such modules here, and type checkers the real ones.
"""

from __future__ import annotations

import importlib
from typing import Any


class LazyModule:
    """Stands for a module; its attributes are the module's, which is imported for the first."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        """The module's attribute of this name."""
        return getattr(importlib.import_module(self._name), attribute)
