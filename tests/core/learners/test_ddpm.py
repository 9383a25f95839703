"""Sampling by diffusion with the exact score of a Gaussian, against closed forms."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from luceloop.core.learners.ddpm import DDPM, DDPMConfig
from luceloop.core.learners.networks.mlp import EnsembleMLP
from luceloop.core.learners.regression.regression import Streams


class ExactNoise(EnsembleMLP):
    """Predicts the noise in samples of a normal law of mean 0, as a perfect network would."""

    def __init__(self, std: float, alpha_bar: np.ndarray) -> None:
        super().__init__(1, 32, 1)
        object.__setattr__(self, "std", std)
        object.__setattr__(self, "alpha_bar", alpha_bar)

    def __call__(self, parameters: Mapping[str, Tensor], t: Tensor, x: Tensor) -> Tensor:
        here = float(self.alpha_bar[round(float(t) * (len(self.alpha_bar) - 1))])  # type: ignore[attr-defined]
        return x * (1 - here) ** 0.5 / (here * self.std**2 + 1 - here)  # type: ignore[attr-defined]


def _one_generation(std: float, count: int, generation: int, **keys: object) -> Tensor:
    """Samples `(1, count, 1)` of a perfect network of a normal law."""
    learner = DDPM(DDPMConfig(**keys), EnsembleMLP(1, 32, 1), (1,))
    learner.network = ExactNoise(std, learner.alpha_bar)
    return learner.transport({}, count, Streams([3], generation, 0, "cpu"))


GENERATIONS = [
    ("fixed_small", 0.1, 0.892),
    ("fixed_small", 0.562, 0.974),
    ("fixed_large", 0.1, 1.032),
    ("fixed_large", 0.562, 1.005),
]
"""Variance, std of the law, and by how much one generation of 250 steps changes it."""


@pytest.mark.parametrize(("variance", "std", "factor"), GENERATIONS)
def test_one_generation_of_the_exact_score_changes_the_width_by_a_known_factor(
    variance, std, factor
):
    count = 40_000
    x = _one_generation(std, count, 0, variance=variance)
    # A sample's std has the relative error 1/√(2N); the factor is given to three digits.
    tolerance = 4 / math.sqrt(2 * count) + 0.0005
    assert float(x.std()) / std == pytest.approx(factor, abs=tolerance)


def test_six_generations_of_small_variance_shrink_a_narrow_law_to_two_fifths():
    std, count = 0.1, 40_000
    for generation in range(6):
        std = float(_one_generation(std, count, generation, variance="fixed_small").std())
    # Each generation estimates the std anew: six relative errors of 1/√(2N). Narrower laws
    # shrink faster, so 0.40 is less than 0.892⁶ = 0.50.
    assert std / 0.1 == pytest.approx(0.40, abs=0.005 + 0.4 * 4 * math.sqrt(6 / (2 * count)))


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_ddim_has_no_noise_to_choose(variance):
    first = _one_generation(0.5, 50, 0, sampler="ddim", variance=variance)
    assert torch.equal(first, _one_generation(0.5, 50, 0, sampler="ddim"))


def test_variances_share_a_trained_p_0():
    small, large = (DDPMConfig(variance=v).initial_fit() for v in ("fixed_small", "fixed_large"))
    assert small == large
