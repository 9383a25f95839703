"""What of the user's a point's numbers depend on: every file that its configuration leads to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from luceloop.core.config.dependencies import dependencies
from luceloop.core.config.parsing import parse_config
from luceloop.core.io import plugins


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's folder, in use and the current one."""
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.setattr(plugins, "_folder", None)
    monkeypatch.chdir(tmp_path)
    plugins.use_folder(tmp_path)
    yield tmp_path


def of(**keys: Any) -> set[str]:
    plain = {"name": "some", "data": {"name": "eight_gaussians"}} | keys
    return dependencies([parse_config(plain).point])


def test_a_point_of_ours_alone_depends_on_no_file(folder):
    assert of() == set()


@pytest.mark.parametrize("part", ["data", "reward", "learner"])
def test_code_counts_in_every_part_with_what_it_imports(part, folder: Path):
    (folder / "mine.py").write_text("import helper_of_mine\n")
    (folder / "helper_of_mine.py").write_text("")
    assert of(**{part: {"name": "mine:Thing"}}) == {"mine.py", "helper_of_mine.py"}


def test_files_and_folders_that_keys_name_count(folder: Path):
    """By the absolute path or URL that a configuration makes of their names."""
    weights = {"name": "vgg11_bn", "weights": "weights.pt"}
    learner = {"name": "otcfm", "checkpoint": "s3://bucket/p0.pt"}
    elsewhere = str(folder.parent / "images")
    data = {"name": "image_folder", "root": elsewhere}
    expected = {str(folder / "weights.pt"), "s3://bucket/p0.pt", elsewhere}
    assert of(data=data, classifier=weights, learner=learner) == expected
    assert of(data={"name": "npz", "path": "mine.npz"}) == {str(folder / "mine.npz")}
    quality = {"inception": "inception.pt"}
    assert of(data={"name": "cifar10"}, quality=quality) == {
        str(folder / "inception.pt"),
        str(folder / "data" / "cifar-10-batches-py"),
    }


def test_strings_in_arguments_count_where_they_are_files(folder: Path):
    (folder / "centres.json").write_text("[]")
    (folder / "words").mkdir()
    args = {"where": {"all": ["centres.json", "words", "linear", "", "x" * 5000, "\0"]}, "n": 3}
    (folder / "mine.py").write_text("")
    assert of(reward={"name": "mine:Thing", "args": args}) == {"mine.py", "centres.json"}
