"""Imports go downwards only, without exceptions, and never in a circle; one name leads to all."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("core", "workers", "analysis", "sweeps")
ABOVE = {
    "core": {"workers", "analysis", "sweeps"},
    "workers": {"analysis", "sweeps"},
    "analysis": {"workers", "sweeps"},
    "sweeps": set[str](),
}
"""What a layer may not import, of ours."""
NOT_IN_CORE = {"ray", "mlflow", "optuna"}
"""What `core` may not import of others', so that it runs in a notebook or on a bare GPU machine."""
FILES = {
    "luceloop." + ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for layer in LAYERS
    for path in sorted((ROOT / layer).rglob("*.py"))
}
MODULES = {name.removesuffix(".__init__"): path for name, path in FILES.items()}
"""Every module of the layers, by the name it is imported by."""


def _imports(path: Path) -> Iterator[str]:
    """Whatever a file imports, anywhere in it: in functions, for type checkers, or lazily."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                assert level == 0, f"{path}: relative imports hide their layer"
                assert module is not None
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.Call(func=ast.Name(id="LazyModule"), args=[ast.Constant(value=str(name))]):
                yield name


def _module(imported: str) -> str | None:
    """The module of ours that an import names, be it by something in it; None if it is none."""
    while imported and imported not in MODULES:
        imported = imported.rpartition(".")[0]
    return imported or None


GRAPH: dict[str, set[str]] = {
    name: {found for found in map(_module, _imports(path)) if found and found != name}
    for name, path in MODULES.items()
}
"""By module, the modules that it imports."""


def _layer(module: str) -> str:
    return module.split(".")[1]


def _room(module: str) -> str:
    """The folder of a module inside its layer; the module itself where it lies at the top."""
    return ".".join(module.split(".")[:3])


def _assert_no_circle(graph: Mapping[str, set[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_every_layer_has_files():
    assert {_layer(module) for module in MODULES} == set(LAYERS)


@pytest.mark.parametrize("module", MODULES)
def test_a_file_imports_no_layer_above_its_own(module):
    above = {found for found in GRAPH[module] if _layer(found) in ABOVE[_layer(module)]}
    assert above == set()
    if _layer(module) == "core":
        assert {name.split(".")[0] for name in _imports(MODULES[module])} & NOT_IN_CORE == set()


def test_files_import_each_other_in_no_circle():
    _assert_no_circle(GRAPH)


@pytest.mark.parametrize("layer", LAYERS)
def test_the_rooms_of_a_layer_import_each_other_in_no_circle(layer):
    rooms: dict[str, set[str]] = {}
    for module, imported in GRAPH.items():
        if _layer(module) == layer:
            inside = {_room(found) for found in imported if _layer(found) == layer}
            rooms.setdefault(_room(module), set()).update(inside - {_room(module)})
    rooms.pop(f"luceloop.{layer}", None)  # the layer's own docstring
    _assert_no_circle({room: found - {f"luceloop.{layer}"} for room, found in rooms.items()})


@pytest.mark.parametrize("folder", [*LAYERS, "luceloop", "tests", "benchmarks", "examples"])
def test_nothing_of_ours_is_imported_without_its_name(folder):
    for path in (ROOT / folder).rglob("*.py"):
        bare = {name.split(".")[0] for name in _imports(path)} & set(LAYERS)
        assert bare == set(), f"{path}: imports begin with luceloop."


@pytest.mark.external
def test_lint_refuses_a_bare_import():
    code = "from core.errors import ConfigError\n\nprint(ConfigError)\n"
    ruff = [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--stdin-filename"]
    found = subprocess.run(
        [*ruff, "x.py", "-"], input=code, cwd=ROOT, text=True, capture_output=True
    )
    assert found.returncode == 1 and "luceloop.core" in found.stdout
