"""Named streams: functions of their name alone, with the laws they promise."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from luceloop.core import rng

NAMES = [
    (0, "noise", 0, 0),
    (1, "noise", 0, 0),
    (0, "times", 0, 0),
    (0, "noise", 1, 0),
    (0, "noise", 0, 1),
    (0, "noise", 11, 1),  # digits must not run into one another
    (0, "noise", 1, 11),
    (10, "noise", 0, 0),
]

DRAWS = {
    "normal": lambda g, n: rng.normal(g, (n,)),
    "uniform": lambda g, n: rng.uniform(g, (n,)),
    "uniform64": lambda g, n: rng.uniform(g, (n,), torch.float64),
    "gumbel": lambda g, n: rng.gumbel(g, (n,)),
    "integers": lambda g, n: rng.integers(g, torch.full((len(g),), 1000), n),
}


def test_every_part_of_the_name_makes_another_stream():
    draws = [torch.rand(8, generator=rng.stream(*name)) for name in NAMES]
    for a, b in itertools.combinations(draws, 2):
        assert not torch.equal(a, b)


def test_streams_with_different_names_are_uncorrelated():
    count = 10_000
    draws = torch.stack([torch.randn(count, generator=rng.stream(*name)) for name in NAMES])
    correlation = torch.corrcoef(draws) - torch.eye(len(NAMES))
    # A correlation of independent normals has standard error 1/√count.
    assert correlation.abs().max() < 5 / count**0.5


@pytest.mark.parametrize("name", NAMES)
def test_the_same_name_is_the_same_stream(name):
    first = torch.rand(8, generator=rng.stream(*name))
    assert torch.equal(first, torch.rand(8, generator=rng.stream(*name)))


def _global_state() -> tuple[torch.Tensor, Any, Any]:
    numpy: Any = np.random.get_state(legacy=True)  # noqa: NPY002
    return torch.get_rng_state(), numpy[1], random.getstate()


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_drawing_neither_reads_nor_changes_global_state(draw):
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the global state is what is being tested
        random.seed(seed)
        before = _global_state()
        found.append(draw(rng.streams([4, 7], "test"), 33))
        after = _global_state()
        assert torch.equal(before[0], after[0])
        assert np.array_equal(before[1], after[1])
        assert before[2] == after[2]
    assert torch.equal(*found)


@pytest.mark.parametrize("count", [1, 7, 16, 33, 1000])
@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_row_draws_the_same_whatever_its_neighbours(draw, count):
    together = draw(rng.streams([1, 2, 3], "test"), count)
    assert torch.equal(draw(rng.streams([3], "test"), count)[0], together[2])
    assert torch.equal(draw(rng.streams([3, 1], "test"), count), together[[2, 0]])


@pytest.mark.parametrize(
    ("draw", "law"),
    [
        ("normal", stats.norm()),
        ("uniform", stats.uniform()),
        ("uniform64", stats.uniform()),
        ("gumbel", stats.gumbel_r()),
    ],
)
def test_draws_follow_their_law(draw, law):
    values = DRAWS[draw](rng.streams([0, 1], "test"), 50_000).flatten().double().numpy()
    assert np.isfinite(values).all()
    assert stats.kstest(values, law.cdf).pvalue > 1e-6


def test_integers_are_uniform_below_each_rows_bound():
    below, count = torch.tensor([1, 3, 10]), 30_000
    drawn = rng.integers(rng.streams([0, 1, 2], "test"), below, count)
    for row, bound in zip(drawn, below.tolist(), strict=True):
        assert 0 <= row.min() and row.max() < bound
        if bound > 1:
            counts = np.bincount(row.numpy(), minlength=bound)
            assert stats.chisquare(counts).pvalue > 1e-6


def test_code_that_draws_from_the_global_stream_leaves_it_as_it_was(monkeypatch):
    """Also that of a GPU, which such code on the CPU must not touch."""
    touched: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed", touched.append)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", touched.append)
    torch.manual_seed(5)
    touched.clear()
    expected = torch.rand(3, generator=torch.Generator().manual_seed(5))
    with rng.global_stream(9):
        inside = torch.rand(3)
    assert torch.equal(inside, torch.rand(3, generator=torch.Generator().manual_seed(9)))
    assert torch.equal(torch.rand(3), expected) and touched == []
