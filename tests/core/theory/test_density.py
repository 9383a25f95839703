"""The density that retraining leads to, against closed forms and against resampled laws."""

from __future__ import annotations

import numpy as np
import pytest

from luceloop.core.config.parsing import parse_point
from luceloop.core.theory.density import density_by_bin, density_of
from luceloop.core.theory.law import RewardLaw
from luceloop.core.theory.real_law import real_law

INF = float("inf")


def point(**keys: object):
    plain = {"data": {"name": "eight_gaussians", "size": 500}, "iterations": 3}
    curation = {"k": keys.pop("k", 2), "beta": keys.pop("beta", 1)}
    return parse_point(plain | {"curation": curation} | keys)


@pytest.fixture
def law() -> RewardLaw:
    reward = np.random.default_rng(0).uniform(-2, 0, 400)
    return RewardLaw.of(reward, None, 0, 0.0)


def test_without_a_preference_it_is_one_everywhere(law):
    found = density_of(law, point(beta=0, lam=1))
    assert found.last == pytest.approx(1) and found.limit == pytest.approx(1)


def test_it_is_one_after_one_step_of_luce_choices_in_closed_form(law):
    """At K=2 and t=1: (1 + λ E[2 w/(w + w')]) / (1 + λ)."""
    found = density_of(law, point(beta=2, lam=3, iterations=1))
    w = np.exp(2 * law.reward)
    chosen = (2 * w[:, None] / (w[:, None] + w[None])) @ law.reference
    assert np.allclose(found.last, (1 + 3 * chosen) / 4)


def test_the_limit_at_k_infinite_is_the_fixed_point(law):
    found = density_of(law, point(beta=2, lam=1, k=INF, iterations=1))
    eta, w = 0.5, np.exp(2 * law.reward)
    z = eta * (w[-1] * found.limit[-1] - w[0] * found.limit[0]) / (found.limit[-1] - found.limit[0])
    assert np.allclose(found.limit, (1 - eta) * z / (z - eta * w), rtol=1e-9)
    assert float(law.reference @ found.limit) == pytest.approx(1)


def test_the_limit_does_not_move_under_another_step(law):
    config = point(beta=2, lam=1)
    far = density_of(law, config.model_copy(update={"iterations": 400}))
    assert np.allclose(far.last, density_of(law, config).limit, rtol=1e-6)


def test_without_real_data_there_is_no_limiting_density(law):
    assert np.isnan(density_of(law, point(beta=2, lam=INF)).limit).all()


def test_densities_integrate_to_one_and_grow_with_the_reward():
    config = point(beta=5, lam=1)
    law = real_law(config)
    found = density_of(law, config)
    assert (np.diff(found.last) >= -1e-9).all() and (np.diff(found.limit) >= -1e-9).all()


def test_by_bin_it_is_a_share_over_a_share(law):
    """Samples of p_ref have density 1; those of one bin have all of it there."""
    assert density_by_bin(law, law.reward) == pytest.approx(1, abs=0.3)
    top = density_by_bin(law, np.full(10, law.reward[-1]))
    assert top[:-1] == pytest.approx(0) and top[-1] == pytest.approx(1 / law.real_bins[-1])
    assert float(density_by_bin(law, law.reward) @ law.real_bins) == pytest.approx(1)
