"""A trial's samplers: shards and rows the same whoever computes them, and whoever dies."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from luceloop.core.errors import LoopError
from luceloop.core.loop.executor import LocalExecutor
from luceloop.core.loop.loop import Loop
from luceloop.core.loop.state import LoopState
from luceloop.workers.arrays import from_numpy, to_numpy
from luceloop.workers.executor import ActorExecutor, ActorPool, SamplerDiedError
from luceloop.workers.messages import PointSetup, SamplerSetup, TrialSetup, Work
from luceloop.workers.sampler import Sampler, SamplerActor
from tests.workers.test_trial import point_of


def test_weights_survive_the_object_store_to_the_bit():
    model = {"a": torch.randn(2, 3), "b": torch.randn(2, 1)}
    back = from_numpy(to_numpy(model), "cpu")
    assert all(torch.equal(back[name], model[name]) for name in model)


@pytest.fixture
def loop() -> Loop:
    return Loop(point_of())


def model_of(loop: Loop) -> dict[str, torch.Tensor]:
    state = next(loop.run()).state
    return loop.learner.model(state.learner)


def executor_of(
    loop: Loop, tmp_path: Path, count: int, *, takes_part: bool = False
) -> tuple[ActorPool, ActorExecutor]:
    """Actors for a loop; the process takes part where it holds a GPU, which it only says here."""
    samplers = SamplerSetup(count, cpus=0.5)
    pool = ActorPool(TrialSetup((PointSetup(0, loop.config),), str(tmp_path / "cache"), samplers))
    pool._takes_part = takes_part
    return pool, ActorExecutor(pool, loop)


def test_shards_come_back_in_order_and_equal_those_computed_here(local_ray, loop, tmp_path):
    model, tasks = model_of(loop), loop.tasks(0)
    here = list(LocalExecutor(loop.fitter, loop.sampler).run_shards(model, tasks))
    assert len(tasks) > 3
    for count, takes_part in ((3, False), (1, True)):
        pool, executor = executor_of(loop, tmp_path, count, takes_part=takes_part)
        there = list(executor.run_shards(model, tasks))
        pool.close()
        for a, b in zip(here, there, strict=True):
            assert torch.equal(a.kept, b.kept) and torch.equal(a.kept_reward, b.kept_reward)
            assert torch.equal(a.statistics.reward.mean, b.statistics.reward.mean)
            assert torch.equal(a.preview, b.preview)


def test_one_sampler_serves_points_and_models_in_any_order(loop):
    """A call carries all it needs: nothing of the call before it is left."""
    model, point = model_of(loop), loop.config
    other_point = point_of("beta=0", "seeds=[8,9]")
    other_model = {name: weight * 1.1 for name, weight in model.items()}
    task = loop.tasks(0)[1]
    fresh = Sampler(1).generate(Work(point), to_numpy(model), "a", task)
    used = Sampler(1)
    used.generate(Work(other_point), to_numpy(model), "a", replace(task, iteration=1))
    used.generate(Work(point), to_numpy(other_model), "b", replace(task, curate=False))
    again = used.generate(Work(point), to_numpy(model), "a", task)
    assert torch.equal(again.kept, fresh.kept)


def test_a_killed_sampler_costs_nothing(local_ray, loop, tmp_path):
    model, tasks = model_of(loop), loop.tasks(0)
    pool, executor = executor_of(loop, tmp_path, 2)
    before = list(executor.run_shards(model, tasks))
    for process in sampler_processes():
        os.kill(process, signal.SIGKILL)
    after = list(executor.run_shards(model, tasks))
    pool.close()
    assert all(torch.equal(a.kept, b.kept) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(("samplers", "takes_part"), [(2, False), (1, True)])
def test_rows_of_large_networks_train_side_by_side(local_ray, samplers, takes_part, tmp_path):
    loop = Loop(point_of("learner={name: 'users_own:WhoTrains'}"))
    assert loop.fitter.one_by_one
    pool, executor = executor_of(loop, tmp_path, samplers, takes_part=takes_part)
    start = None
    for iteration in range(2):
        fitted = executor.fit_rows(start)
        who = fitted.state["who"].flatten().tolist()
        assert len(set(who)) == 2 and (os.getpid() in who) == takes_part
        assert fitted.state["iteration"].flatten().tolist() == [iteration] * 2
        kept = torch.zeros(2, 120, 2)
        start = LoopState(iteration, fitted.state, kept, {"reward_mean": torch.zeros(2)})
    pool.close()


def sampler_processes() -> list[int]:
    """Ray titles a worker by the actor it runs."""
    workers = psutil.Process().children(recursive=True)
    found = [worker.pid for worker in workers if "ray::Sampler" in " ".join(worker.cmdline())]
    assert len(found) == 2
    return found


def test_errors_in_a_sampler_arrive_as_they_were(local_ray, loop, tmp_path):
    pool, executor = executor_of(loop, tmp_path, 1)
    broken = {name: weight * torch.nan for name, weight in model_of(loop).items()}
    with pytest.raises(LoopError, match=r"samples are NaN .* seeds \[5, 6\]"):
        list(executor.run_shards(broken, loop.tasks(0)))
    pool.close()


def test_a_sampler_that_the_same_work_always_ends_fails_its_trial(local_ray, tmp_path):
    """And does not begin it again for ever."""
    loop = Loop(point_of("reward={name: 'users_own:crashes'}"))
    pool, executor = executor_of(loop, tmp_path, 1)
    with pytest.raises(SamplerDiedError, match=r"died 5 times .* memory, or compiled code"):
        list(executor.run_shards(model_of(Loop(point_of())), Loop(point_of()).tasks(0)))
    pool.close()


@pytest.mark.parametrize(("trial", "sampler"), [(0.0, 0.0), (1.0, 1.0), (1.0, 0.0), (0.0, 1.0)])
def test_a_trial_with_a_gpu_works_beside_samplers_with_one(trial, sampler, loop, mine, monkeypatch):
    """And trains rows on its actors only where all compute on one kind of device."""
    monkeypatch.syspath_prepend(mine)
    monkeypatch.setattr(SamplerActor, "options", lambda **_: SamplerActor)
    setup = TrialSetup(
        (PointSetup(0, loop.config),), "", SamplerSetup(0, gpus=sampler), trial_gpus=trial
    )
    pool = ActorPool(setup)
    assert pool.takes_part == (trial > 0 and sampler > 0)
    large = Loop(point_of("learner={name: 'users_own:WhoTrains'}"))
    assert pool.may_train(large) == ((trial > 0) == (sampler > 0))
    assert not pool.may_train(loop)
