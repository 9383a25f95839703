"""The width within classes against NumPy, closed forms and the laws that datasets have."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from luceloop.core.config.parsing import parse_config
from luceloop.core.loop.loop import Loop, run_loop
from luceloop.core.measures.metrics import VECTOR_QUALITY
from luceloop.core.measures.width import ClassMoments, width_ratio

ROWS, POOL, CLASSES, COORDINATES = 3, 90, 4, 2


def _pool() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(ROWS, POOL, COORDINATES, generator=generator) + 5
    classes = torch.randint(CLASSES - 1, (ROWS, POOL), generator=generator)  # one stays empty
    mask = torch.rand(ROWS, POOL, generator=generator) < 0.7
    return values, classes, mask


@pytest.mark.parametrize("cuts", [[], [45], [1, 2, 80], [0, 30, 30, POOL]], ids=str)
def test_merged_moments_equal_numpy_on_the_pool(cuts):
    values, classes, mask = _pool()
    merged: ClassMoments | None = None
    for start, stop in itertools.pairwise([0, *cuts, POOL]):
        part = slice(start, stop)
        found = ClassMoments.of(values[:, part], classes[:, part], mask[:, part], CLASSES)
        merged = found if merged is None else merged + found
    assert merged is not None
    for row, own in itertools.product(range(ROWS), range(CLASSES)):
        inside = values[row][mask[row] & (classes[row] == own)].double().numpy()
        assert int(merged.count[row, own]) == len(inside)
        expected = ((inside - inside.mean(0)) ** 2).sum() if len(inside) else 0.0
        assert float(merged.squares[row, own]) == pytest.approx(expected, abs=1e-11)


def test_rows_have_the_same_bits_whatever_their_neighbours():
    values, classes, mask = _pool()
    together = ClassMoments.of(values, classes, mask, CLASSES)
    for row in range(ROWS):
        part = slice(row, row + 1)
        alone = ClassMoments.of(values[part], classes[part], mask[part], CLASSES)
        assert torch.equal(alone.squares[0], together.squares[row])


def test_classes_blurred_by_a_factor_have_that_ratio_whatever_their_shares_and_centres():
    generator = np.random.default_rng(1)
    real_std, centres = np.array([0.1, 2.0, 30.0]), np.array([0.0, 50.0, -700.0])
    classes = torch.from_numpy(generator.choice(3, p=[0.1, 0.1, 0.8], size=(1, 40000)))
    own = classes[0].numpy()
    x = centres[own] + 1.5 * real_std[own] * generator.normal(size=40000)
    values = torch.from_numpy(x)[None, :, None]
    moments = ClassMoments.of(values, classes, torch.ones_like(classes, dtype=torch.bool), 3)
    ratio = float(width_ratio(moments, torch.from_numpy(real_std**2)))
    assert ratio == pytest.approx(1.5, abs=4 * 1.5 / np.sqrt(2 * 40000))


def test_classes_without_a_real_width_are_left_out():
    values = torch.tensor([[[0.0], [2.0], [5.0], [9.0]]])
    classes = torch.tensor([[0, 0, 1, 1]])
    moments = ClassMoments.of(values, classes, torch.ones_like(classes, dtype=torch.bool), 2)
    real = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert float(width_ratio(moments, real)) == 1.0


SAMPLED = 3000
"""Samples of a seed; a ratio of standard deviations of W coordinates has the std 1/√(2WN)."""


@pytest.mark.parametrize(
    ("data", "coordinates"),
    [
        ({"name": "eight_gaussians"}, 2),
        ({"name": "eight_gaussians", "std": 0.2, "radius": 9}, 2),
        ({"name": "two_moons"}, 1),
        ({"name": "two_moons", "noise": 0.02}, 1),
    ],
    ids=str,
)
def test_a_perfect_learner_starts_at_distances_of_sampling_noise(data, coordinates):
    plain = {
        "name": "perfect",
        "data": data | {"size": SAMPLED},
        "learner": {"name": "empirical"},
        "iterations": 0,
        "lam": 0,
        "seeds": 2,
        "quality": {},
    }
    [result] = list(run_loop(parse_config(plain)))
    assert set(VECTOR_QUALITY) <= set(result.metrics)
    # Resampling a sample adds its own noise: √2 of one sample's.
    noise = 4 * (2 / (2 * coordinates * SAMPLED)) ** 0.5
    assert result.metrics["width_ratio"].tolist() == pytest.approx([1, 1], abs=noise)
    assert (result.metrics["precision"] > 0.9).all() and (result.metrics["recall"] > 0.9).all()


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_a_class_is_as_wide_across_as_its_noise(factor):
    config = parse_config({"name": "wide", "data": {"name": "two_moons"}, "quality": {}}).point
    loop = Loop(config)
    noise = loop.dataset.noise * factor  # type: ignore[attr-defined]
    data = parse_config({"name": "wide", "data": {"name": "two_moons", "noise": noise}}).point.data
    x = data.build().draw(20000, torch.Generator().manual_seed(0))
    scores = loop.scorer(x)
    assert scores.across is not None and scores.classes is not None
    everything = torch.ones(1, len(x), dtype=torch.bool)
    moments = ClassMoments.of(scores.across[None], scores.classes[None], everything, 2)
    assert loop.real_features is not None and loop.real_features.variance is not None
    found = float(width_ratio(moments, loop.real_features.variance))
    # Beyond the tips and between the moons the nearest arc is nearer than the sample's own.
    assert found == pytest.approx(factor, rel=0.05)
