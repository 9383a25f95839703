"""Which files a plugin runs: found by reading, the same ones that Python would import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from luceloop.core.io.sources import Sources


def write(folder: Path, **files: str) -> None:
    """Write modules; of a name's underscores, double ones are slashes."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def of(folder: Path, module: str) -> list[str]:
    return list(Sources(folder).of(module))


FORMS = {
    "import helper_one": {"helper_one.py"},
    "import pack.deep.leaf": {"pack/__init__.py", "pack/deep/leaf.py"},
    "from pack import deep": {"pack/__init__.py"},
    "from pack.deep import leaf": {"pack/__init__.py", "pack/deep/leaf.py"},
    "from pack.deep.leaf import value": {"pack/__init__.py", "pack/deep/leaf.py"},
    "from pack import *": {"pack/__init__.py"},
    "def late():\n    from helper_one import a": {"helper_one.py"},
    "try:\n    import helper_one\nexcept ImportError:\n    pass": {"helper_one.py"},
    "import importlib\nimportlib.import_module('helper_one')": {"helper_one.py"},
    "import not_there_at_all": set(),
    "import torch, os, luceloop.core.rng": set(),
    "this is no Python": set(),
}


@pytest.mark.parametrize("text", FORMS)
def test_an_import_is_followed_however_it_is_written(text, tmp_path):
    write(tmp_path, mine=text, helper_one="a = 1", pack__deep__leaf="value = 1")
    (tmp_path / "pack" / "__init__.py").write_text("")
    assert set(of(tmp_path, "mine")) == FORMS[text] | {"mine.py"}


def test_relative_imports_and_circles_are_followed_as_python_does(tmp_path):
    """The files are those that Python itself has imported of the folder."""
    (tmp_path / "lab" / "sub").mkdir(parents=True)
    (tmp_path / "lab" / "__init__.py").write_text("from . import base\n")
    (tmp_path / "lab" / "base.py").write_text("import json\nfrom lab import sub\n")
    (tmp_path / "lab" / "sub" / "__init__.py").write_text("from .one import value\n")
    (tmp_path / "lab" / "sub" / "one.py").write_text("from ..two import value\n")
    (tmp_path / "lab" / "two.py").write_text("import lab.base\nimport beside\nvalue = 3\n")
    (tmp_path / "beside.py").write_text("")
    (tmp_path / "unrelated.py").write_text("")
    code = "import lab.sub.one, sys, os; print(*[m.__file__ for m in sys.modules.values() "
    code += "if (getattr(m, '__file__', None) or '').startswith(os.getcwd())])"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    imported = {Path(file).relative_to(tmp_path).as_posix() for file in ran.stdout.split()}
    assert set(of(tmp_path, "lab.sub.one")) == imported and "beside.py" in imported


def test_code_elsewhere_on_the_path_is_followed_unless_it_was_installed(tmp_path, monkeypatch):
    elsewhere, installed = tmp_path / "elsewhere", tmp_path / "site-packages"
    write(elsewhere, lab_code="import lab_helper, lab_package\n", lab_helper="")
    write(installed, lab_package="import lab_inside\n", lab_inside="")
    monkeypatch.syspath_prepend(str(elsewhere))
    monkeypatch.syspath_prepend(str(installed))
    users = tmp_path / "users"
    write(users, mine="import lab_code\n")
    assert of(users, "mine") == ["lab_code.py", "lab_helper.py", "mine.py"]
    assert of(users, "lab_code") == ["lab_code.py", "lab_helper.py"]
    assert of(users, "lab_package") == ["lab_package.py"]  # a plugin's own file always counts
    assert Sources(users).find("lab_helper.py") == elsewhere / "lab_helper.py"


def test_an_environment_inside_the_users_folder_is_not_their_code(tmp_path, monkeypatch):
    packages = tmp_path / ".venv" / "lib" / "site-packages"
    write(packages, lab_of_others="")
    monkeypatch.syspath_prepend(str(packages))
    write(tmp_path, mine="import lab_of_others\n")
    assert of(tmp_path, "mine") == ["mine.py"]


def test_the_users_folder_comes_first_and_nothing_is_run(tmp_path, monkeypatch):
    write(tmp_path / "path", twice="raise SystemExit\n")
    write(tmp_path / "users", twice="raise SystemExit\n", mine="import twice\n")
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    found = Sources(tmp_path / "users").of("mine")
    assert found["twice.py"] == tmp_path / "users" / "twice.py"
    assert "twice" not in sys.modules and "mine" not in sys.modules


@pytest.mark.parametrize("module", ["sys", "builtins", "not_there_at_all"])
def test_what_has_no_file_has_no_sources(module, tmp_path):
    assert Sources(tmp_path).of(module) == {}
