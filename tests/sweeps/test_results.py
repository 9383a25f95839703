"""What follows a sweep: its figures and report, and what MLflow is told of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from luceloop.sweeps import results
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.tracking import delivery
from luceloop.sweeps.tracking.delivery import Delivery
from luceloop.sweeps.tracking.experiment import Experiment
from tests.support import Finished


@pytest.fixture
def ended(finished: Finished, tmp_path: Path, monkeypatch) -> tuple[Output, SweepFolder]:
    """A copy of a sweep that has ended and whose store has all of it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    copy = tmp_path / "copy"
    shutil.copytree(finished.output, copy)
    output = Output.of(copy)
    return output, output.find("latest")


def fail(*given: object, **named: object) -> None:
    raise RuntimeError("no pen")


def test_a_figure_that_cannot_be_drawn_is_told_and_leaves_the_sweep_to_sync(ended, monkeypatch):
    output, folder = ended
    monkeypatch.setattr(results, "draw_all", fail)
    found = results.finish(Delivery(1, 0), output, folder, figures=True)
    assert not found.is_whole and found.error == "no pen"


@pytest.mark.parametrize("given", [Delivery(3, 1), Delivery(3, 0, "down")], ids=["rows", "files"])
def test_nothing_is_drawn_where_something_is_missing(given, ended, monkeypatch):
    monkeypatch.setattr(results, "draw_and_report", fail)
    assert results.finish(given, *ended, figures=True) == given


def test_an_interrupted_sweep_is_neither_drawn_nor_marked_as_ended(ended, monkeypatch):
    monkeypatch.setattr(results, "draw_and_report", fail)
    monkeypatch.setattr(Experiment, "end", fail)
    given = Delivery(3, 0, figures=False)
    assert results.finish(given, *ended, figures=True) == given


def test_a_sweep_that_is_marked_as_ended_is_left_as_it_is(ended, monkeypatch):
    output, folder = ended
    for change in ("log_file", "end"):
        monkeypatch.setattr(Experiment, change, fail)
    found = delivery.sync(folder, output)
    assert found.is_whole and not found.figures
    assert results.finish(found, output, folder, figures=True) == found
