"""Users' code: found in their folder, and never in place of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import luceloop
from luceloop.core.errors import ConfigError
from luceloop.core.io import plugins


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder, in use; afterwards no folder is, and nothing of it is imported."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(plugins, "_folder", None)
    before = set(sys.modules)
    users = tmp_path / "users"
    users.mkdir()
    plugins.use_folder(users)
    yield users
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_code_of_the_folder_is_found_with_what_it_imports(folder: Path):
    (folder / "helper_of_theirs.py").write_text("value = 3\n")
    (folder / "code_of_theirs").mkdir()
    source = "from helper_of_theirs import value\n\ndef late():\n    import later_of_theirs as m\n"
    (folder / "code_of_theirs" / "rw.py").write_text(source + "    return m.value\n")
    (folder / "later_of_theirs.py").write_text("value = 7\n")
    assert plugins.load("reward.name", "code_of_theirs.rw:value") == 3
    assert plugins.load("reward.name", "code_of_theirs.rw:late")() == 7


def test_the_folder_comes_before_installed_packages(folder: Path, tmp_path, monkeypatch):
    installed = tmp_path / "installed"
    installed.mkdir()
    (installed / "twice_there.py").write_text("whose = 'installed'\n")
    monkeypatch.syspath_prepend(str(installed))
    (folder / "twice_there.py").write_text("whose = 'the user'\n")
    assert plugins.load("reward.name", "twice_there:whose") == "the user"


def test_a_file_of_the_folder_replaces_no_other_module(folder: Path):
    """Neither of ours, nor of Python's, nor of a package's: those are found where they were."""
    for name in ("luceloop", "wave", "tabulate", "rewards_of_theirs"):
        (folder / f"{name}.py").write_text("mine = True\n")
    assert plugins.load("reward.name", "rewards_of_theirs:mine")
    import wave  # which nothing has imported yet

    assert not hasattr(wave, "mine") and not hasattr(luceloop, "mine")
    assert sys.path[-1] == str(folder) and sys.path.count(str(folder)) == 1


def test_another_folder_takes_the_place_of_the_first(folder: Path, tmp_path):
    (tmp_path / "only_in_second.py").write_text("value = 2\n")
    with pytest.raises(ConfigError, match="cannot be imported"):
        plugins.load("reward.name", "only_in_second:value")
    plugins.use_folder(tmp_path)
    assert plugins.load("reward.name", "only_in_second:value") == 2
    assert str(folder) not in sys.path


def test_a_folder_beside_the_package_is_named_from_there(folder: Path, tmp_path, monkeypatch):
    """Nodes unpack an upload at places of their own."""
    monkeypatch.chdir(tmp_path)
    here, there = tmp_path / "here", tmp_path / "there"
    for place in (here, there):
        (place / "users-folder").mkdir(parents=True)
    plugins.use_folder(here / "users-folder")
    name = plugins.name_folder(package=here)
    assert name == "users-folder"
    plugins.enter_folder(name, package=there)
    assert Path.cwd() == there / "users-folder" and sys.path[-1] == str(there / "users-folder")
    plugins.use_folder(tmp_path)
    assert plugins.name_folder(package=here) == str(tmp_path)
    plugins.enter_folder(str(tmp_path), package=there)
    assert Path.cwd() == tmp_path


def test_a_folder_that_is_not_on_this_node_is_no_error(folder: Path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plugins.enter_folder(str(tmp_path / "not-here"))
    assert Path.cwd() == tmp_path


def test_a_fingerprint_is_of_all_that_was_imported_and_of_no_later_edit(folder: Path):
    (folder / "rewards_that_import.py").write_text("from helper_they_edit import value\n")

    def imported(value: int) -> str:
        (folder / "helper_they_edit.py").write_text(f"value = {value}\n")
        for name in ("rewards_that_import", "helper_they_edit"):
            sys.modules.pop(name, None)
        return plugins.source_digest("data.name", "rewards_that_import:value")

    before, after = imported(1), imported(2)
    assert before != after == imported(2)
    (folder / "helper_they_edit.py").write_text("value = 3\n")  # what runs here is still 2
    assert plugins.source_digest("data.name", "rewards_that_import:value") == after


@pytest.mark.processes
def test_a_folder_full_of_our_names_changes_nothing(tmp_path: Path):
    for name in ("luceloop", "core", "workers", "sweeps", "analysis", "torch", "queue", "tests"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the wrong module')\n")
    (tmp_path / "my_rewards.py").write_text("def first(x):\n    return x[:, 0]\n")
    command = Path(sys.executable).with_name("luceloop")
    arguments = ["validate", "demo", "reward.name=my_rewards:first"]
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RAY_ADDRESS")}
    ran = subprocess.run(
        [command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("ok: 4 points") and ran.stderr == ""


def test_a_folder_that_is_on_the_path_keeps_its_place(folder: Path, tmp_path):
    """As that of a script has, whatever is asked of us from it and how often."""
    script = tmp_path / "of-the-script"
    script.mkdir()
    sys.path.insert(0, str(script))
    for _ in range(3):
        plugins.use_folder(script)
        assert sys.path[0] == str(script) and sys.path.count(str(script)) == 1
    plugins.use_folder(tmp_path)
    assert sys.path[0] == str(script) and sys.path[-1] == str(tmp_path)
