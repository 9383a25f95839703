"""The trainable and its samplers: one row a step, checkpoints that continue to the bit."""

from __future__ import annotations

import copy
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from luceloop.core.loop import Loop, LoopState
from luceloop.core.parsing import override, parse_config
from luceloop.sweeps.output import plain
from luceloop.workers.pool import SamplerPool
from luceloop.workers.sampler import Sampler, from_numpy, to_numpy
from luceloop.workers.trial import CHECKPOINT, Trial, read_checkpoint

POINT = {
    "name": "point",
    "data": {"name": "eight_gaussians", "size": 120},
    "learner": {"steps": 15, "initial_steps": 15, "batch_size": 32},
    "curation": {"k": 2, "beta": 3},
    "lam": 1,
    "iterations": 3,
    "seeds": [5, 6],
    "sampling": {"shard_size": 50, "preview": 20},
}

EDGES = torch.tensor([-2.0, -1.0], dtype=torch.float64)


def given(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """What the driver gives a trial."""
    return {
        "index": 4,
        "point": plain(parse_config(POINT)),
        "cache": str(tmp_path / "cache"),
        "samplers": 0,
        "trial_gpus": 0.0,
        "sampler_cpus": 0.5,
        "sampler_gpus": 0.0,
        "checkpoint": None,
        "reported": -1,
    } | changes


def steps(trial: Trial, count: int = 10) -> list[dict[str, Any]]:
    reports = []
    while len(reports) < count:
        reports.append(trial.train())
        if reports[-1]["done"]:
            break
    return reports


def curves(reports: list[dict[str, Any]]) -> list[tuple[int, dict[str, list[float]]]]:
    return [
        (r["iteration"], {m: v for m, v in r["metrics"].items() if not m.startswith("seconds/")})
        for r in reports
    ]


@pytest.fixture
def undisturbed(tmp_path: Path) -> list[tuple[int, dict[str, list[float]]]]:
    return curves(steps(Trial(given(tmp_path))))


def test_a_trial_reports_what_the_loop_computes(undisturbed):
    assert [iteration for iteration, _ in undisturbed] == [0, 1, 2, 3]
    for (_, row), result in zip(undisturbed, Loop(parse_config(POINT)).run(), strict=True):
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
    rest = [] if early[-1]["done"] else steps(third)
    assert curves(early + rest) == undisturbed[reported + 1 :]


def test_a_reused_actor_starts_the_next_point_afresh(undisturbed, tmp_path):
    trial = Trial(given(tmp_path))
    steps(trial, 2)
    other = plain(parse_config(override(copy.deepcopy(POINT), ["beta=0"])))
    assert trial.reset_config(given(tmp_path, index=5, point=other))
    reports = steps(trial)
    assert {report["index"] for report in reports} == {5}
    assert curves(reports) != undisturbed
    assert trial.reset_config(given(tmp_path))
    assert curves(steps(trial)) == undisturbed


def test_checkpoints_hold_plain_types_only(tmp_path):
    trial = Trial(given(tmp_path))
    *_, report = steps(trial, 2)
    assert report["arrays"]["preview"].shape == (2, 20, 2)
    trial.save_checkpoint(str(tmp_path))
    assert not report["arrays"]  # of which Tune would keep a copy with each checkpoint
    content = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert content["state"]["iteration"] == 1 and sorted(content["rows"]) == [0, 1]
    assert read_checkpoint(tmp_path)["next"] == 2


def test_an_error_of_the_loop_is_the_points_result(tmp_path):
    point = plain(parse_config(override(copy.deepcopy(POINT), ["learner.lr=1e30"])))
    report = Trial(given(tmp_path, point=point)).train()
    assert report["done"] and report["index"] == 4
    assert "NaN or infinite" in report["failed"] and "LoopError" in report["traceback"]


def test_weights_survive_the_object_store_to_the_bit():
    model = {"a": torch.randn(2, 3), "b": torch.randn(2, 1)}
    back = from_numpy(to_numpy(model), "cpu")
    assert all(torch.equal(back[name], model[name]) for name in model)


@pytest.fixture
def loop() -> Loop:
    return Loop(parse_config(POINT))


def model_of(loop: Loop) -> dict[str, torch.Tensor]:
    state = next(loop.run()).state
    return loop.learner.model(state.learner)


def test_shards_come_back_in_order_and_equal_those_computed_here(local_ray, loop):
    model, point = model_of(loop), plain(loop.config)
    here = list(loop.run_shards_here(model, 0, loop.shards, True, EDGES))
    assert len(loop.shards) > 3
    for count, takes_part in ((3, False), (1, True)):
        pool = SamplerPool(count, cpus=0.5, gpus=0, threads=1, takes_part=takes_part)
        there = list(pool.run(loop, point, model, 0, loop.shards, True, EDGES))
        pool.close()
        for a, b in zip(here, there, strict=True):
            assert torch.equal(a.kept, b.kept) and torch.equal(a.kept_reward, b.kept_reward)
            assert torch.equal(a.statistics.reward.mean, b.statistics.reward.mean)
            assert torch.equal(a.preview, b.preview)


def test_one_sampler_serves_points_and_models_in_any_order(loop):
    """A call carries all it needs: nothing of the call before it is left."""
    model, point = model_of(loop), plain(loop.config)
    other_point = plain(parse_config(override(copy.deepcopy(POINT), ["beta=0", "seeds=[8,9]"])))
    other_model = {name: weight * 1.1 for name, weight in model.items()}
    shard = loop.shards[1]
    fresh = Sampler(1).generate(point, to_numpy(model), 0, shard, True, EDGES)
    used = Sampler(1)
    used.generate(other_point, to_numpy(model), 1, shard, True, EDGES)
    used.generate(point, to_numpy(other_model), 0, shard, False, EDGES)
    again = used.generate(point, to_numpy(model), 0, shard, True, EDGES)
    assert torch.equal(again.kept, fresh.kept)


def test_a_killed_sampler_costs_nothing(local_ray, loop):
    model, point = model_of(loop), plain(loop.config)
    pool = SamplerPool(2, cpus=0.5, gpus=0, threads=1)
    before = list(pool.run(loop, point, model, 0, loop.shards, True, EDGES))
    for process in sampler_processes():
        os.kill(process, signal.SIGKILL)
    after = list(pool.run(loop, point, model, 0, loop.shards, True, EDGES))
    pool.close()
    assert all(torch.equal(a.kept, b.kept) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(("samplers", "takes_part"), [(2, False), (1, True)])
def test_rows_of_large_networks_train_side_by_side(local_ray, samplers, takes_part):
    point = POINT | {"learner": {"name": "users_own:WhoTrains"}}
    config = parse_config(point)
    loop = Loop(config)
    assert loop.one_by_one
    pool = SamplerPool(samplers, cpus=0.5, gpus=0, threads=1, takes_part=takes_part)
    start = None
    for iteration in range(2):
        fitted = pool.fit(loop, plain(config), start)
        who = fitted.state["who"].flatten().tolist()
        assert len(set(who)) == 2 and (os.getpid() in who) == takes_part
        assert fitted.state["iteration"].flatten().tolist() == [iteration] * 2
        kept = torch.zeros(2, 120, 2)
        start = LoopState(iteration, fitted.state, kept, {"reward_mean": torch.zeros(2)})
    pool.close()


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
    point = plain(parse_config(IMAGES))
    alone = curves(steps(Trial(given(tmp_path, point=point))))
    spread = given(tmp_path / "other", point=point, samplers=2)
    trial = Trial(spread)
    assert curves(steps(trial)) == alone
    trial.cleanup()


def sampler_processes() -> list[int]:
    """Ray titles a worker by the actor it runs."""
    workers = psutil.Process().children(recursive=True)
    found = [worker.pid for worker in workers if "ray::Sampler" in " ".join(worker.cmdline())]
    assert len(found) == 2
    return found


def test_errors_in_a_sampler_arrive_as_they_were(local_ray, loop):
    from luceloop.core.errors import LoopError

    pool = SamplerPool(1, cpus=0.5, gpus=0, threads=1)
    broken = {name: weight * torch.nan for name, weight in model_of(loop).items()}
    with pytest.raises(LoopError, match=r"samples are NaN .* seeds \[5, 6\]"):
        list(pool.run(loop, plain(loop.config), broken, 0, loop.shards, True, EDGES))
    pool.close()
