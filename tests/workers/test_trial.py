"""The trainable: one row a step, checkpoints that continue to the bit."""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from luceloop.core.config.parsing import override, parse_config
from luceloop.core.config.point import PointConfig
from luceloop.core.errors import ChangedFileError
from luceloop.core.io import plugins
from luceloop.core.io.fingerprints import file_digest
from luceloop.core.loop.loop import Loop
from luceloop.core.pool.shards import ShardTask
from luceloop.core.theory.real_law import RealRewards, real_law
from luceloop.workers.messages import (
    REAL,
    FailureReport,
    IterationReport,
    PointSetup,
    SamplerSetup,
    TrialSetup,
    Work,
    pack_setup,
    unpack_reports,
)
from luceloop.workers.point_run import checkpoint_name, read_checkpoint
from luceloop.workers.sampler import Sampler
from luceloop.workers.trial import Trial

POINT: dict[str, Any] = {
    "name": "point",
    "data": {"name": "eight_gaussians", "size": 120},
    "learner": {"steps": 15, "initial_steps": 15, "batch_size": 32},
    "curation": {"k": 2, "beta": 3},
    "lam": 1,
    "iterations": 3,
    "seeds": [5, 6],
    "sampling": {"shard_size": 50, "preview": 20},
}


def point_of(*assignments: str) -> PointConfig:
    """`POINT` with some keys set otherwise."""
    return parse_config(override(copy.deepcopy(POINT), list(assignments))).point


def given(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """What the driver gives a trial."""
    of_trial = {field.name for field in dataclasses.fields(TrialSetup)} & changes.keys()
    rest = {key: changes.pop(key) for key in of_trial}
    own = dataclasses.replace(PointSetup(index=4, point=point_of()), **changes)
    return pack_setup(TrialSetup(**{"points": (own,), "cache": str(tmp_path / "cache")} | rest))


def steps(trial: Trial, count: int = 10) -> list[IterationReport]:
    """Reports until `count` of them, or the last one."""
    reports: list[IterationReport] = []
    while len(reports) < count:
        result = trial.train()
        [report] = unpack_reports(result)
        assert isinstance(report, IterationReport)
        reports.append(report)
        if result["done"]:
            break
    return reports


def curves(reports: list[IterationReport]) -> list[tuple[int, dict[str, list[float]]]]:
    return [
        (r.iteration, {m: v for m, v in r.metrics.items() if not m.startswith("seconds/")})
        for r in reports
    ]


@pytest.fixture
def undisturbed(tmp_path: Path) -> list[tuple[int, dict[str, list[float]]]]:
    return curves(steps(Trial(given(tmp_path))))


def test_a_trial_reports_what_the_loop_computes(undisturbed):
    assert [iteration for iteration, _ in undisturbed] == [0, 1, 2, 3]
    for (_, row), result in zip(undisturbed, Loop(point_of()).run(), strict=True):
        for name, values in row.items():
            assert values == result.metrics[name].tolist()


@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_a_trial_restored_from_a_checkpoint_goes_on_to_the_same_bits(
    killed_after, undisturbed, tmp_path
):
    """As Tune restarts a trial whose process died."""
    first = Trial(given(tmp_path))
    reports = steps(first, killed_after)
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    first.save_checkpoint(str(folder))
    second = Trial(given(tmp_path))
    second.load_checkpoint(str(folder))
    assert curves(reports + steps(second)) == undisturbed


@pytest.mark.parametrize("reported", [-1, 0, 1, 2])
@pytest.mark.parametrize("saved", [1, 2, 3])
def test_a_resumed_trial_reports_exactly_what_is_not_on_record(
    saved, reported, undisturbed, tmp_path
):
    """The driver may have died before or after the checkpoint that it finds."""
    first = Trial(given(tmp_path))
    steps(first, saved)
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    first.save_checkpoint(str(folder))
    second = Trial(given(tmp_path, checkpoint=str(folder), reported=reported))
    early = steps(second, 1)
    between = tmp_path / "between"
    between.mkdir()
    second.save_checkpoint(str(between))  # and dies again
    third = Trial(given(tmp_path, checkpoint=str(folder), reported=reported))
    third.load_checkpoint(str(between))
    rest = [] if early[-1].iteration == POINT["iterations"] else steps(third)
    assert curves(early + rest) == undisturbed[reported + 1 :]


def test_a_reused_actor_starts_the_next_point_afresh(undisturbed, tmp_path):
    trial = Trial(given(tmp_path))
    steps(trial, 2)
    other = point_of("beta=0")
    assert trial.reset_config(given(tmp_path, index=5, point=other))
    reports = steps(trial)
    assert {report.index for report in reports} == {5}
    assert curves(reports) != undisturbed
    assert trial.reset_config(given(tmp_path))
    assert curves(steps(trial)) == undisturbed


def test_checkpoints_hold_plain_types_only(tmp_path):
    trial = Trial(given(tmp_path))
    *_, report = steps(trial, 2)
    assert report.arrays["preview"].shape == (2, 20, 2)
    trial.save_checkpoint(str(tmp_path))
    assert not report.arrays  # of which Tune would keep a copy with each checkpoint
    content = torch.load(tmp_path / checkpoint_name(4), weights_only=True)
    assert content["state"]["iteration"] == 1 and sorted(content["rows"]) == [0, 1]
    assert read_checkpoint(tmp_path, 4)["next"] == 2


def test_an_error_of_the_loop_is_the_points_result(tmp_path):
    result = Trial(given(tmp_path, point=point_of("learner.lr=1e30"))).train()
    [report] = unpack_reports(result)
    assert isinstance(report, FailureReport)
    assert result["done"] and report.index == 4
    assert "NaN or infinite" in report.reason and "LoopError" in report.traceback


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder in use, whose reward no process has imported yet."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(plugins, "_folder", None)
    folder = tmp_path / "users"
    folder.mkdir()
    (folder / "reward_of_a_node.py").write_text("raise SystemExit('it was imported')\n")
    monkeypatch.chdir(folder)
    plugins.use_folder(folder)
    yield folder
    sys.modules.pop("reward_of_a_node", None)


def test_a_process_refuses_another_version_of_the_code_before_importing_it(users, tmp_path):
    """It is not what the point came to: Tune is to try again, and the sweep to be resumed."""
    point = point_of("reward.name=reward_of_a_node:first")
    began = {"reward_of_a_node.py": "0" * 64}
    trial = Trial(given(tmp_path, point=point, folder=str(users), files=began))
    with pytest.raises(ChangedFileError, match=r"^reward_of_a_node\.py has changed on node"):
        trial.train()
    model, task = dict[str, Any](), cast(ShardTask, None)
    with pytest.raises(ChangedFileError, match=r"^reward_of_a_node\.py has changed on node"):
        Sampler(1, folder=str(users)).generate(Work(point, began), model, "a", task)


def test_a_process_that_holds_the_code_works_on_after_an_edit(users, tmp_path):
    (users / "reward_of_a_node.py").write_text("def first(x):\n    return x[:, 0]\n")
    point = point_of("reward.name=reward_of_a_node:first", "iterations=1")
    files = {"reward_of_a_node.py": file_digest(users / "reward_of_a_node.py")}
    trial = Trial(given(tmp_path, point=point, folder=str(users), files=files))
    before = curves(steps(trial))
    (users / "reward_of_a_node.py").write_text("def first(x):\n    return -x[:, 0]\n")
    assert trial.reset_config(given(tmp_path, point=point, folder=str(users), files=files))
    assert curves(steps(trial)) == before


def test_rewards_that_only_the_users_code_tells_are_reported_once(users, tmp_path):
    (users / "reward_of_a_node.py").write_text("def first(x):\n    return x[:, 0]\n")
    point = point_of("reward.name=reward_of_a_node:first", "iterations=1")
    trial = Trial(given(tmp_path, point=point, folder=str(users)))
    first, second = steps(trial)
    found = {n.removeprefix(REAL): a for n, a in first.arrays.items() if n.startswith(REAL)}
    law, exact = RealRewards.of(found).law, real_law(point)
    for name in ("reward", "reference", "edges", "classes"):
        assert np.array_equal(getattr(law, name), getattr(exact, name)), name
    assert law.supremum is exact.supremum is None and law.classes.shape[1] == 8
    assert set(second.arrays) == {"preview"}
    [ours, *_] = steps(Trial(given(tmp_path)), 1)
    assert set(ours.arrays) == {"preview", "reward"}  # ours can be scored anywhere


UNET = {"channels": 32, "multipliers": [1], "blocks": 1, "attention": [], "head_channels": 32}
SHORT = {"steps": 2, "initial_steps": 3, "batch_size": 4, "nfe": 4}
IMAGES = {
    "name": "images",
    "data": {"name": "digits", "size": 20},
    "learner": {**SHORT, "ema": 0.9, "carry_optimizer": True, "unet": UNET},
    "classifier": {"name": "small_cnn", "epochs": 1},
    "reward": {"name": "class_probability"},
    "quality": {"samples": 8},
    "lam": 1,
    "kept_size": 6,
    "iterations": 2,
    "seeds": [5, 6, 7],
    "sampling": {"shard_size": 4},
}


def test_curves_of_images_do_not_depend_on_who_trains_and_samples(local_ray, tmp_path):
    point = parse_config(IMAGES).point
    alone = curves(steps(Trial(given(tmp_path, point=point))))
    samplers = SamplerSetup(count=2, cpus=0.5)
    spread = given(tmp_path / "other", point=point, samplers=samplers)
    trial = Trial(spread)
    assert curves(steps(trial)) == alone
    trial.cleanup()
