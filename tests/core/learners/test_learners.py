"""The contract of a learner, run over every implementation."""

from __future__ import annotations

import pytest
import torch

from luceloop.core.learners.base import LearnerConfig, TrainingSet
from luceloop.core.learners.ddpm import DDPMConfig
from luceloop.core.learners.empirical import EmpiricalConfig
from luceloop.core.learners.gaussian import GaussianConfig
from luceloop.core.learners.otcfm import OTCFMConfig
from luceloop.testing import LEARNER_CHECKS

SMALL = {
    "steps": 8,
    "initial_steps": 30,
    "batch_size": 16,
    "width": 32,
    "depth": 2,
    "nfe": 4,
    "ot_batch": 8,
}
DIFFUSION = {key: value for key, value in SMALL.items() if key not in ("nfe", "ot_batch")} | {
    "timesteps": 25
}
OPTIONS = {"ema": 0.9, "carry_optimizer": True, "clip": 0.5, "sigma": 0.1, "solver": "rk4"}
LEARNERS: dict[str, LearnerConfig] = {
    "empirical": EmpiricalConfig(),
    "gaussian": GaussianConfig(),
    "otcfm": OTCFMConfig(**SMALL),
    "otcfm, every option": OTCFMConfig(**SMALL | OPTIONS),
    "otcfm from scratch": OTCFMConfig(**SMALL, init="scratch"),
    "otcfm, adaptive solver": OTCFMConfig(**SMALL, solver="dopri5"),
    "otcfm, odd sizes": OTCFMConfig(**SMALL | {"batch_size": 13, "ot_batch": 5, "clip": 0.2}),
    "ddpm": DDPMConfig(**DIFFUSION),
    "ddpm, every option": DDPMConfig(
        **DIFFUSION, ema=0.9, carry_optimizer=True, clip=0.5, warmup=5, sampled="raw"
    ),
    "ddpm by ddim": DDPMConfig(**DIFFUSION, sampler="ddim", ddim_steps=4, ema=0.5),
    "otcfm, default network": OTCFMConfig(steps=8, initial_steps=30),
    "otcfm, SELU units": OTCFMConfig(**SMALL, activation="selu"),
}


@pytest.mark.parametrize("check", LEARNER_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("dim", [1, 2, 3, 5])
@pytest.mark.parametrize("config", LEARNERS.values(), ids=LEARNERS)
def test_a_learner_keeps_its_contract(config, dim, check):
    check(config.build, (dim,))


LEARNING: dict[str, LearnerConfig] = {
    "empirical": EmpiricalConfig(),
    "gaussian": GaussianConfig(),
    "otcfm": OTCFMConfig(steps=200, initial_steps=600, batch_size=128, width=32, depth=2),
    "otcfm, every option": OTCFMConfig(
        steps=300,
        initial_steps=900,
        batch_size=128,
        width=32,
        depth=2,
        ema=0.99,
        carry_optimizer=True,
        clip=10.0,
        sigma=0.05,
    ),
    "ddpm": DDPMConfig(
        steps=400, initial_steps=1200, batch_size=128, width=64, timesteps=100, ema=0.99
    ),
    "ddpm by ddim": DDPMConfig(
        steps=400,
        initial_steps=1200,
        batch_size=128,
        timesteps=100,
        prediction="velocity",
        sampler="ddim",
        ema=0.99,
    ),
    "otcfm from scratch": OTCFMConfig(
        steps=600, initial_steps=600, batch_size=128, width=32, depth=2, init="scratch"
    ),
}


@pytest.mark.parametrize("config", LEARNING.values(), ids=LEARNING)
def test_samples_follow_the_training_data(config):
    """p_0 on one Gaussian, then a retraining on a shifted one, each row its own."""
    learner, size, count = config.build((2,)), 2000, 4000
    factor = torch.tensor([[0.9, 0.0], [0.5, 0.6]])
    centres = torch.tensor([[1.0, -1.0], [-2.0, 0.5]])[:, None]
    normal = torch.randn(2, size, 2, generator=torch.Generator().manual_seed(0))
    state = None
    for iteration, shift in enumerate((0.0, 0.7)):
        data = normal @ factor.T + centres + shift
        training = TrainingSet(data, torch.full((2,), size))
        state = learner.fit(state, training, [0, 1], iteration).state
        x = learner.sample(learner.model(state), count, [0, 1], iteration, 0)
        for found, expected in zip(x, data, strict=True):
            # Five standard errors of the draws (variance at most 0.81), plus what a short
            # training may leave of a shift of 0.7 and a spread of 0.9.
            allowed = 5 * 0.9 / count**0.5 + 0.1
            assert (found.mean(0) - expected.mean(0)).abs().max() < allowed
            # A sample variance has standard error 0.81·√(2/count).
            allowed = 5 * 0.81 * (2 / count) ** 0.5 + 0.12
            assert (found.T.cov() - expected.T.cov()).abs().max() < allowed
