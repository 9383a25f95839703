"""What the documentation says of the code is there, and the code keeps to its rooms."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import luceloop

ROOT = Path(__file__).parents[1]
LAYERS = ("core", "workers", "sweeps", "analysis")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
FILES = [path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]
LONGEST = 50
"""Lines of a function, its docstring included."""
PLACE = re.compile(r"`((?:core|workers|sweeps|analysis|luceloop|tests|docs|examples)/[\w/.]*)`")


@pytest.mark.parametrize("file", ["README.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))])
def test_files_that_the_documentation_names_exist(file):
    named = set(PLACE.findall((ROOT / file).read_text())) - {"core/data/ring.py", "core/"}
    assert {place for place in named if not (ROOT / place).exists()} == set()


def test_the_map_has_a_sentence_for_every_folder():
    folders = {f"{path.parent.relative_to(ROOT).as_posix()}/" for path in FILES}
    rows = dict(re.findall(r"^\| `([\w/]+/)` \| (.+) \|$", ARCHITECTURE, re.MULTILINE))
    told = {"core/", "sweeps/", "analysis/"}  # what lies there itself is told below the table
    assert folders - rows.keys() <= told
    assert all((ROOT / folder).is_dir() and text.endswith(".") for folder, text in rows.items())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_are_short(path):
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, functions):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < LONGEST, node.name


def test_every_public_name_is_there_and_tells_what_it_is():
    for name in luceloop.__all__:
        found = getattr(luceloop, name)
        assert name == "__version__" or (found.__doc__ and found.__doc__.strip())
    assert set(luceloop.__all__) <= set(dir(luceloop))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        luceloop.nothing  # noqa: B018
