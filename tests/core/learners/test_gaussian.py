"""The learner `gaussian`: its estimates, its samples, and what loops of it come to in closed form.

With d independent coordinates of variance σ², n samples a set and e_t = E|μ_t - μ|² n/(dσ²):
without real data, from p_0 on, 1/i² for the i-th retraining where sets accumulate, 1 where they are
replaced (Kazdan et al. 2024, arXiv 2410.16713, count the training of p_0 as the first).
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from luceloop.core.config.parsing import parse_config
from luceloop.core.errors import ConfigError
from luceloop.core.learners.base import TrainingSet
from luceloop.core.learners.gaussian import Gaussian, GaussianConfig
from luceloop.core.loop.loop import run_loop

SIZES = torch.tensor([400, 7, 2, 1])


def _training(dim: int) -> TrainingSet:
    """Four rows of their own sizes, with correlated coordinates far from the origin."""
    generator = torch.Generator().manual_seed(dim)
    factor = torch.randn(dim, dim, generator=generator)
    x = torch.randn(4, 400, dim, generator=generator) @ factor + 1000
    return TrainingSet(x, SIZES)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_estimates_are_the_mean_and_the_unbiased_covariance(dim):
    training = _training(dim)
    state = Gaussian((dim,)).fit(None, training, [0, 1, 2, 3], 0).state
    for row, size in enumerate(SIZES.tolist()):
        x = training.samples[row, :size].double()
        assert torch.allclose(state["mean"][row], x.mean(0), rtol=1e-14)
        root = state["root"][row]
        expected = x.T.cov().reshape(dim, dim) if size > 1 else torch.zeros(dim, dim).double()
        assert torch.equal(root, root.T) or torch.allclose(root, root.T, atol=1e-13)
        scale = expected.diagonal().max() + 1e-300
        assert torch.allclose(root @ root, expected, atol=float(1e-12 * scale))


def test_a_law_without_width_is_a_point():
    learner, training = Gaussian((3,)), _training(3)
    x = learner.sample(learner.fit(None, training, [0, 1, 2, 3], 0).state, 50, [0, 1, 2, 3], 0, 0)
    assert torch.equal(x[3], training.samples[3, :1].expand(50, 3))
    # Two samples span a line, on which all of that row's are; float32 at 1,000 resolves 6e-5.
    line = (training.samples[2, 1] - training.samples[2, 0]).double()
    apart = (x[2] - training.samples[2, 0]).double()
    across = apart - (apart @ line)[:, None] * line / line.square().sum()
    assert across.abs().max() < 1e-3 < apart.abs().max()


def test_samples_have_the_law_that_was_fitted():
    """Whitened, they are standard normal: moments within five standard errors of 100,000."""
    learner, training = Gaussian((3,)), _training(3)
    state = learner.fit(None, training, [0, 1, 2, 3], 0).state
    x = learner.sample(learner.model(state), 100_000, [0, 1, 2, 3], 0, 0)
    white = torch.linalg.solve(state["root"][0], (x[0].double() - state["mean"][0]).T)
    allowed = 5 / math.sqrt(100_000)
    assert white.mean(1).abs().max() < allowed
    assert (white.cov() - torch.eye(3)).abs().max() < allowed * math.sqrt(2)
    fourth = white.pow(4).mean(1)  # of variance E[z⁸] - 9 = 96
    assert (fourth - 3).abs().max() < allowed * math.sqrt(96)


def test_images_are_taken_as_vectors():
    learner = GaussianConfig().build((1, 2, 2))
    x = torch.randn(2, 50, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    state = learner.fit(None, TrainingSet(x, torch.tensor([50, 50])), [0, 1], 0).state
    assert learner.sample(learner.model(state), 7, [0, 1], 0, 0).shape == (2, 7, 1, 2, 2)
    flat = Gaussian((4,)).fit(None, TrainingSet(x.flatten(2), torch.tensor([50, 50])), [0, 1], 0)
    assert torch.equal(flat.state["root"], state["root"])
    with pytest.raises(ConfigError, match="at most 4096 coordinates"):
        GaussianConfig().build((3, 64, 64))


# --- loops without pickers

SEEDS, SIZE, DIM, STD, T = 500, 100, 4, 2.0, 8


def _laws(synthetic: str, lam: float, real: str = "fixed") -> dict[str, Tensor]:
    """What every seed fitted: `mean` `(T+1, R, d)` and `root` `(T+1, R, d, d)`."""
    point = parse_config(
        {
            "name": "gaussian",
            "data": {"name": "gaussian", "size": SIZE, "dim": DIM, "std": STD},
            "learner": {"name": "gaussian"},
            "curation": {"k": 1, "beta": 0},
            "training": {"real": real, "synthetic": synthetic},
            "lam": lam,
            "iterations": T,
            "seeds": SEEDS,
            "sampling": {"preview": 0},
        }
    ).point
    states = [result.state.learner for result in run_loop(point)]
    return {name: torch.stack([state[name] for state in states]) for name in ("mean", "root")}


def _means(synthetic: str, lam: float, real: str = "fixed") -> Tensor:
    """μ_t of every seed `(T+1, R, d)`."""
    return _laws(synthetic, lam, real)["mean"]


def _assert_errors(error: Tensor, expected: list[float]) -> None:
    """E|error|² n/(dσ²), of `error` `(T+1, R, d)`, is as expected within three standard errors."""
    scaled = error.square().sum(2) * SIZE / (DIM * STD**2)
    for t, (values, value) in enumerate(zip(scaled, expected, strict=True)):
        allowed = 3 * float(values.std()) / math.sqrt(SEEDS)
        assert abs(float(values.mean()) - value) < allowed + 1e-12, (t, float(values.mean()), value)


def _harmonic(count: int) -> float:
    """Σ_{i ≤ count} 1/i², below π²/6 = 1.645."""
    return sum(1 / i**2 for i in range(1, count + 1))


def test_a_replaced_normal_law_drifts_without_end():
    means = _means("replace", math.inf)
    _assert_errors(means - means[0], [float(t) for t in range(T + 1)])
    _assert_errors(means, [t + 1.0 for t in range(T + 1)])


def test_a_replaced_normal_law_loses_its_volume_though_not_its_mean_variance():
    """det Σ_{t+1}/det Σ_t is that of a Wishart matrix; tr Σ_t stays what it is on average."""
    roots = _laws("replace", math.inf)["root"]
    log_volume = 2 * torch.linalg.slogdet(roots).logabsdet
    half = torch.tensor([(SIZE - i) / 2 for i in range(1, DIM + 1)], dtype=torch.float64)
    step = float(torch.digamma(half).sum()) + DIM * math.log(2 / (SIZE - 1))
    assert -DIM * (DIM + 1.2) / (2 * SIZE) < step < -DIM * (DIM + 1) / (2 * SIZE)
    lost = log_volume - 2 * DIM * math.log(STD)
    variance = roots.square().sum((2, 3)) / (DIM * STD**2)
    for t in range(T + 1):
        allowed = 3 / math.sqrt(SEEDS)
        assert abs(float(lost[t].mean()) - (t + 1) * step) < allowed * float(lost[t].std())
        assert abs(float(variance[t].mean()) - 1) < allowed * float(variance[t].std())


def test_an_accumulated_normal_law_stays_within_the_sum_of_inverse_squares():
    means = _means("accumulate", math.inf)
    _assert_errors(means - means[0], [_harmonic(t) for t in range(T + 1)])


def test_real_data_that_stay_in_the_pool_count_as_the_first_set():
    """At λ=1, n real samples and n for every retraining: the loop of the papers, from μ itself."""
    _assert_errors(_means("accumulate", 1), [_harmonic(t + 1) for t in range(T + 1)])


def test_a_sample_of_all_kept_sets_stays_within_twice_that():
    """Its own draw adds 1 - 1/t, anew each time; altogether less than π²/2 - 2 = 2.935."""
    pool = [1 + sum((2 - 1 / (i - 1)) / i**2 for i in range(2, t + 1)) for t in range(1, T + 1)]
    expected = [0.0, *(own + 1 - 1 / t for t, own in enumerate(pool, 1))]
    assert max(expected) < math.pi**2 / 2 - 2
    means = _means("subsample", math.inf)
    _assert_errors(means - means[0], expected)


@pytest.mark.parametrize("lam", [0.5, 1.0])
def test_real_data_hold_a_normal_law_where_fresh_ones_mend_it(lam):
    """With the share s = λ/(1+λ): μ_t is s(μ_{t-1} + noise of λn samples) beside the real mean."""
    share, fixed, fresh = lam / (1 + lam), [0.0], [1.0]
    for _ in range(T):
        fixed.append(share**2 * (fixed[-1] + 1 / lam))
        fresh.append((1 - share) ** 2 + share**2 * (fresh[-1] + 1 / lam))
    assert fixed[-1] == pytest.approx(lam / (1 + 2 * lam), rel=1e-3)
    assert fresh[-1] == pytest.approx((1 + lam) / (1 + 2 * lam), rel=1e-3)
    _assert_errors(_means("replace", lam, "fixed"), [1 + own for own in fixed])
    _assert_errors(_means("replace", lam, "fresh"), fresh)


def test_without_kept_samples_only_fresh_ones_change_anything():
    fixed, fresh = _means("replace", 0, "fixed"), _means("replace", 0, "fresh")
    assert torch.equal(fixed, fixed[:1].expand_as(fixed))
    _assert_errors(fresh, [1.0] * (T + 1))
    _assert_errors((fresh - fresh[0])[1:], [2.0] * T)
