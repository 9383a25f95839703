"""The examples run as they stand, and what they show keeps the contracts."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
import torch
from nbclient import NotebookClient

from luceloop.testing import (
    check_curation,
    check_dataset,
    check_learner,
    check_metric,
    check_reward,
)
from tests.support import ALONE, QUICK, Cli

EXAMPLES = Path(__file__).parents[1] / "examples"
FILES = sorted(EXAMPLES.glob("own_*.py"))
MOST_LINES = 45
"""An example fits on one screen."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the examples as the current folder, which nothing is left in."""
    copy = tmp_path / "examples"
    shutil.copytree(EXAMPLES, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The modules of the examples, by name."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield {file.stem: importlib.import_module(file.stem) for file in FILES}
    for file in FILES:
        sys.modules.pop(file.stem, None)


def test_there_is_an_example_of_each_kind():
    assert [file.stem for file in FILES] == [
        "own_curation",
        "own_data",
        "own_learner",
        "own_metric",
        "own_reward",
    ]
    assert all(len(file.read_text().splitlines()) <= MOST_LINES for file in FILES)


def test_the_dataset_keeps_its_contract(module):
    check_dataset(module["own_data"].Ring(size=60))
    ring = module["own_data"].Ring(size=60, noise=0.0, pieces=8)
    x = ring.draw(4000, torch.Generator().manual_seed(0))
    assert torch.allclose(x.norm(dim=1), torch.tensor(2.0))
    assert torch.bincount(ring.classify(x), minlength=8).min() > 400  # of 500 expected, std 21


def test_the_rewards_keep_their_contract(module):
    x = 5 * torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    check_reward(module["own_reward"].rightness, x)
    check_reward(module["own_reward"].Rightness(scale=3.0), x)


def test_the_curations_keep_their_contract(module):
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    reward = x[:, 0].round()
    own = module["own_curation"]
    check_curation(own.top, x, reward)
    check_curation(own.Threshold(share=0.3), x, reward)
    kept = own.top(x, reward, 20, torch.Generator().manual_seed(1))
    assert reward[kept].sort().values.equal(reward.sort().values[-20:])


def test_the_metrics_keep_their_contract(module):
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    check_metric(module["own_metric"].spread, x, 2 * x)
    coverage = module["own_metric"].Coverage(sectors=4)
    check_metric(coverage, x, x)
    corners = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert coverage(corners, x) == {"covered": 0.75, "fullest": 0.5}


@pytest.mark.parametrize("shape", [(2,), (1, 2, 2)], ids=str)
def test_the_learner_keeps_its_contract(module, shape):
    check_learner(lambda shape: module["own_learner"].Gaussian(shape, "cpu"), shape)


@pytest.mark.parametrize("name", [file.stem for file in FILES])
def test_an_example_runs_by_its_first_lines(name, local_ray, folder, cli: Cli, output: Path):
    lines = (folder / f"{name}.py").read_text().splitlines()
    [command] = [line.split() for line in lines if line.startswith("    luceloop ")]
    assert command == ["luceloop", "run", f"{name}.yaml"]
    ran = cli(*command[1:], ALONE, QUICK, "--output", str(output))
    assert ran.code == 0, ran.err
    assert "done" in cli("list", "--output", str(output)).out


@pytest.mark.slow
@pytest.mark.processes
def test_the_notebook_runs(folder: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("MLFLOW_TRACKING_URI", "LUCELOOP_OUTPUT", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    notebook = nbformat.read(folder / "notebook.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "kept without its outputs"
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output.output_type == "error" for output in outputs)
