"""Moments against numpy, the Fréchet distance against scipy and closed forms, and precision and
recall against a double loop."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from luceloop.core.measures import quality
from luceloop.core.measures.quality import (
    FeatureMoments,
    Neighbourhoods,
    frechet_distance,
    precision_recall,
)

ROWS, POOL, WIDTH = 3, 101, 5
NEIGHBOURS = 3
SPLITS = {
    "whole": [],
    "halves": [50],
    "one by one": list(range(1, POOL)),
    "uneven": [1, 2, 3, 90],
    "with empty parts": [0, 40, 40, POOL],
}


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def _pool() -> tuple[Tensor, Tensor]:
    """Float32 features `(ROWS, POOL, WIDTH)` and a mask."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(ROWS, POOL, generator=generator) < torch.tensor([[1.1], [0.5], [0.2]])
    return _normal(ROWS, POOL, WIDTH).mul(2).add(1).float(), mask


def _gaussians(rows: int = 4, width: int = WIDTH, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Means `(rows, width)` and well-conditioned covariances."""
    factor = _normal(rows, width, 3 * width, seed=seed)
    return _normal(rows, width, seed=seed + 100), factor @ factor.mT / (3 * width)


def _rotation(width: int = WIDTH) -> Tensor:
    return torch.linalg.qr(_normal(width, width, seed=9)).Q


def _approx(expected: Tensor | list[float], scale: float = 10.0):
    """Equality up to some hundred roundings of float64, on terms of up to `scale`."""
    values = expected.tolist() if isinstance(expected, Tensor) else expected
    return pytest.approx(values, rel=0, abs=1e-13 * scale)


@pytest.mark.parametrize("cuts", SPLITS.values(), ids=SPLITS)
def test_merged_moments_equal_numpy_on_the_pool(cuts):
    features, mask = _pool()
    merged: FeatureMoments | None = None
    for start, stop in itertools.pairwise([0, *cuts, POOL]):
        part = FeatureMoments.of(features[:, start:stop], mask[:, start:stop])
        merged = part if merged is None else merged + part
    assert merged is not None
    for row in range(ROWS):
        x = features[row][mask[row]].double().numpy()
        assert int(merged.count[row]) == len(x)
        np.testing.assert_allclose(merged.mean[row], x.mean(0), rtol=0, atol=1e-13)
        np.testing.assert_allclose(merged.covariance[row], np.cov(x.T), rtol=0, atol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e6])
def test_covariance_survives_a_large_mean(offset):
    x = _normal(1, 4000, WIDTH) + offset
    everything = torch.ones(1, 4000, dtype=torch.bool)
    parts = [slice(0, 1000), slice(1000, 4000)]
    left, right = (FeatureMoments.of(x[:, part], everything[:, part]) for part in parts)
    # Deviations carry a rounding of |offset|·1e-16 each, on a spread of 1.
    found = (left + right).covariance[0].numpy()
    np.testing.assert_allclose(found, np.cov((x[0] - offset).T), rtol=0, atol=1e-9)


@pytest.mark.parametrize("outside", [1e6, math.nan, math.inf])
def test_masked_samples_do_not_count(outside):
    features, mask = _pool()
    expected = FeatureMoments.of(features, mask)
    found = FeatureMoments.of(features.where(mask[:, :, None], outside), mask)
    assert torch.equal(found.count, expected.count)
    assert torch.equal(found.mean, expected.mean)
    assert torch.equal(found.squares, expected.squares)


def test_moments_are_float64():
    features, mask = _pool()
    moments = FeatureMoments.of(features.half(), mask).to("cpu")
    assert {moments.count.dtype, moments.mean.dtype, moments.squares.dtype} == {torch.float64}


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_samples_have_no_covariance(count):
    features, _ = _pool()
    mask = (torch.arange(POOL) < count).expand(ROWS, POOL)
    moments = FeatureMoments.of(features, mask)
    assert not moments.covariance.any()
    assert torch.equal(moments.mean, features[:, 0].double() * count)


def test_frechet_distance_equals_scipy():
    mean, covariance = _gaussians()
    real_mean, real_covariance = (part[0] for part in _gaussians(seed=1))
    expected = []
    for m, c in zip(mean.numpy(), covariance.numpy(), strict=True):
        root = scipy.linalg.sqrtm(c @ real_covariance.numpy()).real
        shift = ((m - real_mean.numpy()) ** 2).sum()
        expected.append(shift + np.trace(c + real_covariance.numpy() - 2 * root))
    found = frechet_distance(mean, covariance, real_mean, real_covariance)
    assert found.dtype == torch.float64
    assert found.tolist() == _approx(expected, scale=100)


def test_frechet_distance_of_commuting_gaussians():
    # In a common basis of eigenvectors: Σ(σ - σ')², plus the shift.
    basis = _rotation()
    std, real_std = _normal(4, WIDTH).abs(), _normal(WIDTH, seed=1).abs()
    covariance = (basis * std.square()[:, None]) @ basis.T
    real_covariance = (basis * real_std.square()) @ basis.T
    mean, real_mean = _normal(4, WIDTH, seed=2), _normal(WIDTH, seed=3)
    expected = (std - real_std).square().sum(1) + (mean - real_mean).square().sum(1)
    found = frechet_distance(mean, covariance, real_mean, real_covariance)
    assert found.tolist() == _approx(expected, scale=30)


def test_frechet_distance_of_identical_moments_is_zero():
    mean, covariance = _gaussians()
    found = frechet_distance(mean, covariance, mean, covariance)
    assert (found >= 0).all()
    assert found.tolist() == _approx([0.0] * 4)


def test_a_translation_adds_its_square():
    mean, covariance = _gaussians()
    delta = _normal(4, WIDTH, seed=5)
    found = frechet_distance(mean + delta, covariance, mean, covariance)
    assert found.tolist() == _approx(delta.square().sum(1))


def test_frechet_distance_is_symmetric():
    left, right = _gaussians(), _gaussians(seed=1)
    found = frechet_distance(*left, *right)
    assert found.tolist() == _approx(frechet_distance(*right, *left))


def test_frechet_distance_does_not_see_a_rotation():
    (mean, covariance), (real_mean, real_covariance) = _gaussians(), _gaussians(seed=1)
    q = _rotation()
    rotated = frechet_distance(
        mean @ q.T, q @ covariance @ q.T, real_mean @ q.T, q @ real_covariance @ q.T
    )
    expected = frechet_distance(mean, covariance, real_mean, real_covariance)
    assert rotated.tolist() == _approx(expected, scale=30)


@pytest.mark.parametrize(("width", "rank"), [(8, 2), (64, 5), (64, 63), (32, 0)])
def test_rank_deficient_covariances_are_fine(width, rank):
    # With C = AA' and C' = BB', tr (CC')^½ is the nuclear norm of A'B.
    a, b = _normal(1, width, rank), _normal(width, rank, seed=1)
    mean = torch.zeros(1, width, dtype=torch.float64)
    common = np.linalg.svd((a[0].T @ b).numpy(), compute_uv=False).sum() if rank else 0.0
    traces = float(a.square().sum() + b.square().sum())
    found = frechet_distance(mean, a @ a.mT, mean[0], b @ b.T)
    assert float(found) == pytest.approx(traces - 2 * common, rel=0, abs=1e-12 * traces)
    identical = frechet_distance(mean, a @ a.mT, mean, a @ a.mT)
    assert 0 <= float(identical) <= 1e-13 * traces


def test_pools_of_one_sample_have_a_distance():
    features = _normal(2, 1, WIDTH)
    one = FeatureMoments.of(features, torch.ones(2, 1, dtype=torch.bool))
    real_mean, real_covariance = _gaussians(rows=1)
    expected = (one.mean - real_mean).square().sum(1) + real_covariance[0].trace()
    found = frechet_distance(one.mean, one.covariance, real_mean[0], real_covariance[0])
    assert found.tolist() == _approx(expected)


def test_rows_are_independent():
    mean, covariance = _gaussians()
    real_mean, real_covariance = (part[0] for part in _gaussians(seed=1))
    expected = frechet_distance(mean, covariance, real_mean, real_covariance)
    for row in range(len(mean)):
        part = slice(row, row + 1)
        alone = frechet_distance(mean[part], covariance[part], real_mean, real_covariance)
        assert alone.tolist() == _approx(expected[part])
    mean[1], covariance[1] = math.nan, math.nan
    covariance[2] = math.inf
    found = frechet_distance(mean, covariance, real_mean, real_covariance)
    assert found.isfinite().tolist() == [True, False, False, True]
    assert found[[0, 3]].tolist() == _approx(expected[[0, 3]])


@pytest.mark.parametrize("count", [30, 300, 3000, 30000])
def test_distance_of_samples_tends_to_that_of_their_law(count):
    # The distance is a W₂², whose root obeys the triangle inequality: the root's error is at most
    # the W₂ of the sample's moments and the law's. Writing the sample's covariance as C^½WC^½, that
    # is at most |μ̂ - μ|² + tr C(W^½ - 1)² when squared, and (W^½ - 1)² ≤ (W - 1)², which has mean
    # (F+1)/(N-1); so the whole has mean below tr C (F+2)/(N-1).
    (mean, covariance), (real_mean, real_covariance) = _gaussians(1), _gaussians(1, seed=1)
    rng = np.random.default_rng(count)
    x = torch.from_numpy(rng.multivariate_normal(mean[0], covariance[0], size=(1, count)))
    moments = FeatureMoments.of(x, torch.ones(1, count, dtype=torch.bool))
    found = frechet_distance(moments.mean, moments.covariance, real_mean, real_covariance)
    limit = frechet_distance(mean, covariance, real_mean, real_covariance)
    bound = math.sqrt(float(covariance.diagonal(dim1=1, dim2=2).sum()) * (WIDTH + 2) / (count - 1))
    assert abs(float(found.sqrt() - limit.sqrt())) < bound


def _naive(real: np.ndarray, generated: np.ndarray, neighbours: int) -> tuple[float, float]:
    def inside(points, centres) -> float:
        hits = []
        for point in points:
            hit = False
            for i, centre in enumerate(centres):
                others = np.delete(centres, i, axis=0)
                radius = np.sort(np.sqrt(((others - centre) ** 2).sum(1)))[neighbours - 1]
                hit |= bool(np.sqrt(((point - centre) ** 2).sum()) <= radius)
            hits.append(hit)
        return float(np.mean(hits))

    return inside(generated, real), inside(real, generated)


@pytest.mark.parametrize(("neighbours", "count"), [(1, 2), (1, 40), (3, 17), (5, 30), (29, 30)])
@pytest.mark.parametrize("copies", [False, True])
def test_precision_and_recall_equal_a_double_loop(neighbours, count, copies):
    real, generated = _normal(30, 2), 1.5 * _normal(count, 2, seed=1) + 0.5
    if copies:
        real, generated = real.round(), generated.round()
    found = precision_recall(Neighbourhoods.of(real, neighbours), generated)
    assert found == pytest.approx(_naive(real.numpy(), generated.numpy(), neighbours), abs=1e-15)


def test_radius_reaches_the_kth_nearest_other_sample():
    points = torch.tensor([[0.0], [1.0], [3.0], [3.0], [10.0]])
    assert Neighbourhoods.of(points, 1).radius.tolist() == [1, 1, 0, 0, 7]
    assert Neighbourhoods.of(points, 2).radius.tolist() == [3, 2, 2, 2, 7]


def test_identical_sets_have_full_precision_and_recall():
    x = _normal(50, WIDTH)
    assert precision_recall(Neighbourhoods.of(x, NEIGHBOURS), x) == (1.0, 1.0)


def test_copies_of_one_sample_hold_themselves_only():
    real = _normal(50, WIDTH)
    copies = real[:1].expand(20, WIDTH)
    assert precision_recall(Neighbourhoods.of(real, NEIGHBOURS), copies) == (1.0, 1 / 50)
    assert precision_recall(Neighbourhoods.of(copies, NEIGHBOURS), real) == (1 / 50, 1.0)


def test_sets_far_apart_have_none():
    real, generated = _normal(50, WIDTH), _normal(60, WIDTH, seed=1) + 1e3
    assert precision_recall(Neighbourhoods.of(real, NEIGHBOURS), generated) == (0.0, 0.0)


def test_one_of_two_clusters_is_precise_but_recalls_half():
    # A sample of the same cluster falls outside every ball where it is extreme in some direction:
    # a few in a hundred do, while no ball reaches the other cluster.
    ends = torch.tensor([0.0, 1e3], dtype=torch.float64).repeat_interleave(200)[:, None]
    real = _normal(400, 2) + ends
    precision, recall = precision_recall(
        Neighbourhoods.of(real, NEIGHBOURS), _normal(200, 2, seed=1)
    )
    assert 0.9 <= precision <= 1
    assert 0.45 <= recall <= 0.5


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_near_samples_far_from_the_origin_are_told_apart(offset):
    # Multiples of 2⁻²⁰ stay exact beside 1e6; |x|² + |y|² - 2xy would lose them all.
    grid = torch.arange(20, dtype=torch.float64)[:, None] * 2.0**-20 + offset
    balls = Neighbourhoods.of(grid, 1)
    assert balls.radius.tolist() == [2.0**-20] * 20
    assert precision_recall(balls, grid[:10]) == (1.0, 11 / 20)


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_chunks_change_nothing(monkeypatch, chunk):
    real, generated = _normal(150, WIDTH), 0.7 * _normal(130, WIDTH, seed=1)
    expected = Neighbourhoods.of(real, NEIGHBOURS)
    both = precision_recall(expected, generated)
    monkeypatch.setattr(quality, "CHUNK", chunk)
    found = Neighbourhoods.of(real, NEIGHBOURS)
    assert torch.equal(found.radius, expected.radius)
    assert precision_recall(found, generated) == both


def test_the_order_of_samples_does_not_matter():
    real, generated = _normal(150, WIDTH), 0.7 * _normal(130, WIDTH, seed=1)
    generator = torch.Generator().manual_seed(0)
    mixed_real = real[torch.randperm(150, generator=generator)]
    mixed = generated[torch.randperm(130, generator=generator)]
    expected = precision_recall(Neighbourhoods.of(real, NEIGHBOURS), generated)
    assert precision_recall(Neighbourhoods.of(mixed_real, NEIGHBOURS), mixed) == expected


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_generated_samples_that_are_not_finite_are_misses(value):
    real, generated = _normal(50, WIDTH), _normal(40, WIDTH, seed=1)
    balls = Neighbourhoods.of(real, NEIGHBOURS)
    precision, recall = precision_recall(balls, generated)
    broken = torch.cat([generated, torch.full_like(generated, value)])
    assert precision_recall(balls, broken) == (precision / 2, recall)


def test_more_neighbours_than_other_samples_are_refused():
    with pytest.raises(ValueError, match="3 nearest neighbours need at least 4 samples, not 3"):
        Neighbourhoods.of(_normal(3, WIDTH), NEIGHBOURS)
    real = Neighbourhoods.of(_normal(4, WIDTH), NEIGHBOURS)
    with pytest.raises(ValueError, match="3 nearest neighbours need at least 4 samples, not 2"):
        precision_recall(real, _normal(2, WIDTH))


def test_no_neighbours_are_refused():
    with pytest.raises(ValueError, match="neighbours must be at least 1, not 0"):
        Neighbourhoods.of(_normal(3, WIDTH), 0)
