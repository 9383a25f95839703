"""Loops in a pack: every one of them computes the bits that it would alone."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from luceloop.core.config.parsing import override, parse_config
from luceloop.core.config.point import PointConfig
from luceloop.core.errors import LoopError
from luceloop.core.io.places import Folder
from luceloop.core.learners.regression.regression import Regression
from luceloop.core.loop.loop import Loop
from luceloop.core.loop.pack import Member, iterate_all, pack_key
from luceloop.core.loop.state import IterationResult, LoopState

PLAIN: dict[str, Any] = {
    "name": "pack",
    "data": {"name": "eight_gaussians", "size": 120},
    "learner": {"steps": 12, "initial_steps": 12, "batch_size": 32, "width": 32},
    "quality": {"samples": 40},
    "iterations": 3,
    "seeds": [5, 6],
    "sampling": {"shard_size": 50, "preview": 20},
}
POINTS = [
    ["lam=1", "curation.k=2", "beta=3"],
    ["lam=0.5", "curation.k=3", "beta=0"],  # other sizes of training sets, pools and shards
    ["lam=inf", "curation.k=inf", "beta=inf"],
    ["lam=0", "seeds=[6,7,8]", "iterations=2"],
    ["lam=2", "reward.mode=3", "data.size=90", "real_size=60"],
]


def points(*common: str) -> dict[int, PointConfig]:
    found = [parse_config(override(copy.deepcopy(PLAIN), [*own, *common])).point for own in POINTS]
    return dict(enumerate(found))


def run_all(loops: Mapping[int, Loop]) -> dict[int, list[IterationResult]]:
    """All loops to their ends, as one pack."""
    found: dict[int, list[IterationResult]] = {key: [] for key in loops}
    states: dict[int, LoopState | None] = dict.fromkeys(loops)
    while True:
        left = {k: loop for k, loop in loops.items() if len(found[k]) <= loop.config.iterations}
        if not left:
            return found
        members = {key: Member(loop, states[key]) for key, loop in left.items()}
        for key, result in iterate_all(members).items():
            assert isinstance(result, IterationResult), result
            found[key].append(result)
            states[key] = result.state


def assert_same(one: IterationResult, other: IterationResult) -> None:
    assert one.iteration == other.iteration
    for name, values in one.metrics.items():
        if not name.startswith("seconds/"):
            assert values.tolist() == other.metrics[name].tolist(), name
    assert torch.equal(one.preview, other.preview)
    for name, weight in one.state.learner["weights"].items():
        assert torch.equal(weight, other.state.learner["weights"][name])
    assert (one.state.kept is None) == (other.state.kept is None)
    if one.state.kept is not None and other.state.kept is not None:
        assert torch.equal(one.state.kept, other.state.kept)


@pytest.mark.parametrize(
    "learner",
    [
        ["learner.name=otcfm"],
        [
            "learner.name=ddpm",
            "learner.timesteps=30",
            "learner.steps=12",
            "learner.initial_steps=12",
        ],
        ["learner.carry_optimizer=true"],
        ["learner.ema=0.9"],
        ["learner.solver=dopri5"],
    ],
    ids=str,
)
def test_a_pack_computes_what_each_of_its_loops_does_alone(learner, tmp_path):
    configs = points(*learner)
    together = run_all({key: Loop(config) for key, config in configs.items()})
    for key, config in configs.items():
        alone = list(Loop(config, cache=tmp_path).run())
        assert len(alone) == len(together[key])
        for one, other in zip(alone, together[key], strict=True):
            assert_same(one, other)


def test_a_pack_is_one_ensemble(monkeypatch):
    """Beyond p_0, whose rows are shared, all loops at an iteration train in one call."""
    rows: list[int] = []
    fit = Regression.fit

    def counted(self: Regression, *args: Any) -> Any:
        rows.append(len(args[2]))
        return fit(self, *args)

    monkeypatch.setattr(Regression, "fit", counted)
    configs = points()
    del configs[4]  # of other data
    run_all({key: Loop(config) for key, config in configs.items()})
    assert rows == [2, 3, 9, 9, 6]


def test_loops_at_different_iterations_go_on_by_themselves():
    configs = points()
    members = {}
    for key, config in configs.items():
        loop, state = Loop(config), None
        for result in loop.run():
            if result.iteration == key % 3:
                break
            state = result.state
        members[key] = Member(loop, state)
    found = iterate_all(members)
    for key, config in configs.items():
        after = found[key]
        assert isinstance(after, IterationResult)
        assert_same(list(Loop(config).run())[key % 3], after)


def test_one_loop_that_fails_takes_no_other_with_it():
    """A reward that is NaN for one point, and a state that diverges for another."""
    configs = points()
    loops = {key: Loop(config) for key, config in configs.items()}
    first = {key: next(loop.run()).state for key, loop in loops.items()}
    broken = first[2].learner
    first[2] = LoopState(
        0,
        {**broken, "weights": {n: torch.full_like(w, 1e30) for n, w in broken["weights"].items()}},
        first[2].kept,
        first[2].metrics,
    )
    found = iterate_all({key: Member(loop, first[key]) for key, loop in loops.items()})
    error = found.pop(2)
    assert isinstance(error, LoopError) and "seeds [5, 6]" in str(error)
    for key, result in found.items():
        assert isinstance(result, IterationResult)
        assert_same(list(Loop(configs[key]).run())[1], result)


def test_a_pack_that_memory_does_not_suffice_for_is_halved(monkeypatch):
    fit = Regression.fit

    def limited(self: Regression, *args: Any) -> Any:
        if len(args[2]) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return fit(self, *args)

    monkeypatch.setattr(Regression, "fit", limited)
    configs = points()
    together = run_all({key: Loop(config) for key, config in configs.items()})
    monkeypatch.undo()
    for key, config in configs.items():
        for one, other in zip(Loop(config).run(), together[key], strict=True):
            assert_same(one, other)


def test_learners_whose_states_are_of_any_size_share_a_pack_too():
    configs = {
        key: parse_config(
            override(
                copy.deepcopy(PLAIN | {"learner": {"name": "empirical"}}), [*own, "iterations=2"]
            )
        ).point
        for key, own in enumerate(POINTS)
    }
    together = run_all({key: Loop(config) for key, config in configs.items()})
    for key, config in configs.items():
        for one, other in zip(Loop(config).run(), together[key], strict=True):
            assert one.metrics["reward_mean"].tolist() == other.metrics["reward_mean"].tolist()


def test_keys_tell_which_points_may_share_an_ensemble():
    first, *others = [pack_key(config) for config in points().values()]
    assert set(others) == {first}
    for change in ("learner.width=64", "learner.lr=0.1", "data.std=0.2", "resources.threads=2"):
        assert pack_key(points(change)[0]) != first


def test_initial_models_of_a_pack_come_from_the_cache(tmp_path: Folder):
    configs = points()
    list(Loop(configs[0], cache=tmp_path).run())
    loops = {key: Loop(configs[key], cache=tmp_path) for key in (0, 1)}
    for result in iterate_all({key: Member(loop, None) for key, loop in loops.items()}).values():
        assert isinstance(result, IterationResult)
        weights = next(Loop(configs[0]).run()).state.learner["weights"]
        for name, weight in weights.items():
            assert torch.equal(weight, result.state.learner["weights"][name])
