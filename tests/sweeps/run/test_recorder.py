"""What the driver keeps of running trials: their newest checkpoints, and no pictures in memory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from luceloop.core.config.parsing import parse_config, parse_point
from luceloop.sweeps.record.folders import SweepFolder
from luceloop.sweeps.record.ledger import Ledger, Point
from luceloop.sweeps.run.recorder import Recorder, _appended
from luceloop.sweeps.search.journal import StudyJournal
from luceloop.workers.messages import (
    FailureReport,
    IterationReport,
    PointSetup,
    TrialSetup,
    pack_reports,
    pack_setup,
)

POINT = parse_point({"data": {"name": "eight_gaussians"}})


class Silent:
    """Progress that nobody watches."""

    def show(self, point: Point) -> None:
        pass

    def tell(self, line: str) -> None:
        pass

    def close(self) -> None:
        pass


def _folder(output: Path) -> SweepFolder:
    return SweepFolder(output / "sweeps" / "one")


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.begin_point(0, {})
    folder = _folder(tmp_path)
    config = parse_config({"name": "alone", "data": {"name": "eight_gaussians"}})
    return Recorder(folder, ledger, {}, Silent(), StudyJournal(folder.study, folder.id, config))


def test_arrays_of_a_batch_never_stand_for_other_seeds(tmp_path):
    file = tmp_path / "preview.npz"
    assert _appended(file, "samples", 2, np.ones((1, 3))) is None  # those before are not there
    np.savez(file, samples=np.zeros((1, 3)))
    assert _appended(file, "samples", 2, np.ones((1, 3))) is None  # not all of them are
    np.savez(file, samples=np.zeros((5, 3)))  # a batch that was begun before
    found = _appended(file, "samples", 2, np.ones((1, 3)))
    assert found is not None and found[:, 0].tolist() == [0, 0, 1]


def _checkpoint(recorder: Recorder, point: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "loop-0000.pt").touch()
    setup = TrialSetup((PointSetup(point, POINT),), cache="")
    trial = SimpleNamespace(config=pack_setup(setup))
    checkpoint = SimpleNamespace(path=str(folder))
    recorder.on_checkpoint(0, [], trial, checkpoint)


def _folders(recorder: Recorder, point: int, count: int) -> list[Path]:
    tune = recorder._folder.tune
    assert isinstance(tune, Path)
    attempt = tune / "attempt-0001" / f"point-{point:04d}"
    return [attempt / f"checkpoint_{i:06d}" for i in range(count)]


def test_each_trial_keeps_its_two_newest_checkpoints(recorder: Recorder):
    folders = {point: _folders(recorder, point, 4) for point in (0, 1)}
    with recorder:
        for i in range(4):
            for point in (0, 1):
                _checkpoint(recorder, point, folders[point][i])
    for point in (0, 1):
        assert [folder.exists() for folder in folders[point]] == [False, False, True, True]


def test_a_checkpoint_written_again_counts_once(recorder: Recorder):
    first, second = _folders(recorder, 0, 2)
    with recorder:
        for folder in (first, second, second, second):
            _checkpoint(recorder, 0, folder)
    assert first.exists() and second.exists()


def test_arrays_of_a_report_go_to_disk_and_out_of_memory(recorder: Recorder, tmp_path: Path):
    arrays = {"preview": np.ones((1, 3, 2)), "reward": np.zeros((1, 3))}
    report = IterationReport(0, 0, {"loss": [1.0]}, arrays=arrays)
    recorder.on_trial_result(0, [], None, pack_reports([report], done=False))
    assert not arrays  # the very dictionary that Tune keeps
    folder = _folder(tmp_path)
    with np.load(folder.preview(0, 0)) as file:
        assert file["samples"].shape == (1, 3, 2)
    assert folder.initial_reward(0).exists()


def test_a_point_that_cannot_go_on_is_on_record_with_its_reason(recorder: Recorder):
    report = FailureReport(0, "the loss is NaN", "Traceback: ...")
    recorder.on_trial_result(0, [], None, pack_reports([report], done=True))
    point = recorder._ledger.points[0]
    assert (point.status, point.reason) == ("failed", "the loss is NaN")
