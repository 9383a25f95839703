"""Imports go downwards only: analysis and sweeps on workers, workers on core, core on torch."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "core": {"workers", "sweeps", "analysis", "ray", "mlflow", "optuna"},
    "workers": {"sweeps", "analysis"},
    "sweeps": {"analysis"},
    "analysis": set(),
}
ALLOWED = {("sweeps/cli.py", "analysis"), ("sweeps/actions.py", "analysis")}
"""The command line is where a user asks for figures."""

FILES = [path for layer in FORBIDDEN for path in sorted((ROOT / layer).rglob("*.py"))]


def _imported(path: Path) -> set[str]:
    """Top-level packages imported anywhere in a file, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide their layer"
            found.add(node.module or "")
    return {name.split(".")[0] for name in found}


def test_every_layer_has_files():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(FORBIDDEN)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_no_layer_above_its_own(path):
    place = path.relative_to(ROOT).as_posix()
    above = _imported(path) & FORBIDDEN[place.split("/")[0]]
    assert {name for name in above if (place, name) not in ALLOWED} == set()
