"""Choices by code of the user's own: what they are given, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch

from luceloop.core.config.dependencies import dependencies
from luceloop.core.config.point import PointConfig
from luceloop.core.errors import ConfigError, LoopError
from luceloop.core.loop.loop import Loop, run_loop
from luceloop.core.pickers.custom import check_curation
from luceloop.core.pool.rows import training_sizes

Make = Callable[..., PointConfig]
TOP = """
import torch
def top(samples, reward, count, generator):
    return reward.argsort(descending=True, stable=True)[:count]
class Best:
    def __init__(self, most): self.most = most
    def __call__(self, samples, reward, count, generator):
        best = reward.argsort(descending=True)[:self.most]
        return best[torch.randint(len(best), (count,), generator=generator)]
"""


@pytest.fixture
def top(write_module: Callable[[str], str]) -> str:
    return write_module(TOP)


@pytest.mark.parametrize("shard_size", [37, 1024])
def test_the_top_of_the_whole_pool_is_kept_however_it_is_cut(make_config: Make, top, shard_size):
    point = make_config(
        curation={"kind": f"{top}:top"}, pool_size=150, sampling={"shard_size": shard_size}
    )
    loop = Loop(point)
    first = next(loop.run())
    assert first.reward is not None and first.state.kept is not None
    best = first.reward.sort(1, descending=True).values[:, :60]
    kept = loop.scorer.of_rows(first.state.kept).reward.reshape(2, 60)
    assert torch.equal(kept.sort(1, descending=True).values, best)
    assert torch.allclose(first.metrics["kept_reward_mean"], best.double().mean(1))
    assert not any(name.startswith("margin/") for name in first.metrics)


def test_chance_comes_from_the_seeds_own_stream(make_config: Make, top):
    curation = {"kind": f"{top}:Best", "args": {"most": 20}}
    both = list(run_loop(make_config(curation=curation, seeds=[3, 5])))
    alone = list(run_loop(make_config(curation=curation, seeds=[5])))
    for one, other in zip(both, alone, strict=True):
        assert torch.equal(one.metrics["reward_mean"][1:], other.metrics["reward_mean"])


def test_the_pool_is_four_times_what_is_kept_unless_it_is_given(make_config: Make, top):
    point = make_config(curation={"kind": f"{top}:top", "k": 7})
    assert training_sizes(point, 60).pool == 240


def test_its_source_is_one_of_the_files_that_numbers_depend_on(make_config: Make, top):
    point = make_config(curation={"kind": f"{top}:top"})
    assert any(name.endswith(f"{top}.py") for name in dependencies([point]))


def test_what_cannot_be_imported_or_called_is_refused_before_anything_runs(
    make_config: Make, write_module
):
    module = write_module("number = 3")
    for attribute, words in (("nothing", "no attribute"), ("number", "must be a function")):
        with pytest.raises(ConfigError, match=words) as error:
            Loop(make_config(curation={"kind": f"{module}:{attribute}"}))
        assert error.value.key == "curation.kind"


def test_a_broken_one_fails_before_anything_is_trained(make_config: Make, write_module):
    module = write_module("def all_of_it(samples, reward, count, generator): return reward")
    with pytest.raises(LoopError, match="must return int64"):
        Loop(make_config(curation={"kind": f"{module}:all_of_it"})).prepare()


BROKEN = [
    (lambda x, r, n, g: r[:n], "float32 of shape (3,)"),
    (lambda x, r, n, g: torch.arange(n + 1), "int64 of shape (4,)"),
    (lambda x, r, n, g: [0] * n, "returned list"),
    (lambda x, r, n, g: torch.full((n,), len(x)), "position 8; positions are from 0 to 7"),
    (lambda x, r, n, g: torch.full((n,), -1), "position -1"),
    (lambda x, r, n, g: 1 / 0, "raised ZeroDivisionError: division by zero"),
]


@pytest.mark.parametrize(("function", "words"), BROKEN, ids=[words for _, words in BROKEN])
def test_a_breach_of_the_contract_is_told_in_one_line(function, words):
    curation = check_curation("mine:own", function)
    with pytest.raises(LoopError, match=f"curation mine:own .*{re.escape(words)}"):
        curation(torch.zeros(8, 2), torch.zeros(8), 3, torch.Generator())


def test_what_it_does_to_the_pool_stays_with_it():
    def spoil(samples, reward, count, generator):
        samples.zero_(), reward.zero_()
        return torch.arange(count)

    x, r = torch.ones(8, 2), torch.ones(8)
    check_curation("mine:own", spoil)(x, r, 3, torch.Generator())
    assert x.all() and r.all()
