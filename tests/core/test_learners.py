"""The contract of a learner, run over every implementation."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from luceloop.core.config import DDPMConfig, EmpiricalConfig, LearnerConfig, OTCFMConfig
from luceloop.core.learners.base import Learner, State, TrainingSet, select_row, stack_rows
from luceloop.core.learners.build import build_learner

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
}
SEEDS = [11, 12, 13, 14, 15]
DIM = 2

Build = Callable[..., Learner]


@pytest.fixture(params=LEARNERS.values(), ids=LEARNERS)
def build(request: pytest.FixtureRequest) -> Build:
    return lambda dim=DIM: build_learner(request.param, (dim,))


def _training(
    rows: list[int], dim: int = DIM, sizes: tuple[int, ...] = (40,) * 5, fill: float = 0.0
) -> TrainingSet:
    """Training sets of some of the `SEEDS`; the padding holds `fill`."""
    count = torch.tensor([sizes[row] for row in rows])
    samples = torch.full((len(rows), int(count.max()), dim), fill)
    for out, row in zip(samples, rows, strict=True):
        data = torch.randn(max(sizes), dim, generator=torch.Generator().manual_seed(row))
        out[: sizes[row]] = 2 * data[: sizes[row]] + row
    return TrainingSet(samples, count)


def _seeds(rows: list[int]) -> list[int]:
    return [SEEDS[row] for row in rows]


def _leaves(state: State, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in state.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _assert_equal(a: State, b: State) -> None:
    """Both states hold the same bits."""
    found, expected = dict(_leaves(a)), dict(_leaves(b))
    assert found.keys() == expected.keys()
    different = [key for key in found if not torch.equal(found[key], expected[key])]
    assert not different


def _saved(state: State) -> dict[str, Any]:
    """The state as another process would read it."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    buffer.seek(0)
    loaded: dict[str, Any] = torch.load(buffer, weights_only=True)
    return loaded


def _sample(learner: Learner, state: State, rows: list[int], count: int = 50) -> Tensor:
    return learner.sample(learner.model(state), count, _seeds(rows), 1, 2)


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 7])
def test_samples_have_the_shape_asked_for(build, dim, count):
    learner, rows = build(dim), [0, 1, 2]
    state = learner.fit(None, _training(rows, dim), _seeds(rows), 0).state
    x = _sample(learner, state, rows, count)
    assert x.shape == (3, count, dim)
    assert x.dtype == torch.float32 and not x.requires_grad and x.isfinite().all()


def test_losses_are_one_finite_number_a_row(build):
    rows = [0, 1, 2]
    loss = build().fit(None, _training(rows), _seeds(rows), 0).loss
    if loss is not None:
        assert loss.shape == (3,) and loss.dtype == torch.float64
        assert loss.isfinite().all() and not loss.requires_grad


def test_a_state_is_tensors_with_a_leading_row_axis(build):
    learner, rows = build(), [0, 1, 2]
    state = learner.fit(None, _training(rows), _seeds(rows), 0).state
    for leaves in (_leaves(state), _leaves(learner.model(state))):
        for _, leaf in leaves:
            assert isinstance(leaf, Tensor) and leaf.shape[0] == 3 and not leaf.requires_grad


@pytest.mark.parametrize("rows", [[3], [1, 2, 3], [4, 3, 2, 1, 0]], ids=str)
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_a_row_is_bitwise_the_same_whatever_its_neighbours(build, dim, rows):
    learner, everyone = build(dim), [0, 1, 2, 3, 4]
    first = learner.fit(None, _training(everyone, dim), _seeds(everyone), 0)
    alone = learner.fit(None, _training(rows, dim), _seeds(rows), 0)
    _assert_equal(alone.state, stack_rows([select_row(first.state, row) for row in rows]))
    # What follows starts from the same bits, so that a failure names what broke first.
    start = stack_rows([select_row(first.state, row) for row in rows])
    x = _sample(learner, first.state, everyone)
    assert torch.equal(_sample(learner, start, rows), x[rows])
    second = learner.fit(first.state, _training(everyone, dim), _seeds(everyone), 1)
    alone = learner.fit(start, _training(rows, dim), _seeds(rows), 1)
    _assert_equal(alone.state, stack_rows([select_row(second.state, row) for row in rows]))
    if second.loss is not None:
        assert torch.equal(alone.loss, second.loss[rows])


@pytest.mark.parametrize("rows", [[3], [1, 2, 3], [0, 4]], ids=str)
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_samples_of_a_row_do_not_depend_on_its_neighbours(build, dim, rows):
    learner, everyone = build(dim), [0, 1, 2, 3, 4]
    state = learner.fit(None, _training(everyone, dim), _seeds(everyone), 0).state
    part = stack_rows([select_row(state, row) for row in rows])
    for count in (1, 7, 33, 256):
        together = _sample(learner, state, everyone, count)
        assert torch.equal(_sample(learner, part, rows, count), together[rows]), count


def test_the_same_call_gives_the_same_bits_whatever_the_global_state(build):
    learner, rows = build(), [0, 1]
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        fitted = learner.fit(None, _training(rows), _seeds(rows), 0)
        found.append((fitted.state, _sample(learner, fitted.state, rows)))
    _assert_equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_seeds_iterations_and_shards_draw_apart(build):
    learner, rows = build(), [0, 0]
    fitted = learner.fit(None, _training(rows), SEEDS[:2], 0)
    model = learner.model(stack_rows([select_row(fitted.state, 0)] * 2))
    names = [(SEEDS[:2], 1, 1), (SEEDS[:2], 1, 2), (SEEDS[:2], 2, 1)]
    draws = [learner.sample(model, 20, *name) for name in names]
    for draw in draws:
        assert not torch.equal(draw[0], draw[1])
    for other in draws[1:]:
        assert not torch.equal(draws[0], other)


def test_fitting_and_sampling_leave_what_they_are_given_alone(build):
    learner, rows = build(), [0, 1, 2]
    state = learner.fit(None, _training(rows), _seeds(rows), 0).state
    before, training = _saved(state), _training(rows)
    given = training.samples.clone()
    learner.fit(state, training, _seeds(rows), 1)
    _sample(learner, state, rows)
    _assert_equal(state, before)
    assert torch.equal(training.samples, given)


def test_a_state_survives_saving_and_splitting_into_rows(build):
    learner, rows = build(), [0, 1, 2]
    state = learner.fit(None, _training(rows), _seeds(rows), 0).state
    _assert_equal(_saved(state), state)
    parts = [_saved(select_row(state, row)) for row in rows]
    _assert_equal(stack_rows(parts), state)
    assert torch.equal(_sample(learner, stack_rows(parts), rows), _sample(learner, state, rows))


def test_continuing_from_a_saved_state_equals_continuing_directly(build):
    learner, rows = build(), [0, 1, 2]
    state = learner.fit(None, _training(rows), _seeds(rows), 0).state
    saved = _saved(state)
    directly = learner.fit(state, _training(rows), _seeds(rows), 1)
    resumed = build().fit(saved, _training(rows), _seeds(rows), 1)
    _assert_equal(resumed.state, directly.state)


def test_padding_is_never_seen(build):
    """Row r has its own number of samples; what pads the shorter ones must not matter."""
    learner, rows, sizes = build(), [0, 1, 2, 3, 4], (40, 17, 1, 25, 64)
    found = []
    for fill in (0.0, torch.nan):
        training = _training(rows, sizes=sizes, fill=fill)
        state = learner.fit(None, training, _seeds(rows), 0).state
        fitted = learner.fit(state, training, _seeds(rows), 1)
        found.append((fitted.loss, _sample(learner, fitted.state, rows)))
    assert found[1][1].isfinite().all()
    assert torch.equal(found[0][1], found[1][1])
    if found[0][0] is not None:
        assert torch.equal(found[0][0], found[1][0])


def test_a_row_trains_on_its_own_samples_only(build):
    learner, rows = build(), [0, 1, 2]
    training = _training(rows)
    expected = learner.fit(None, training, _seeds(rows), 0).state
    training.samples[1] += 100
    found = learner.fit(None, training, _seeds(rows), 0).state
    for row in (0, 2):
        _assert_equal(select_row(found, row), select_row(expected, row))


LEARNING: dict[str, LearnerConfig] = {
    "empirical": EmpiricalConfig(),
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
    ),
    "otcfm from scratch": OTCFMConfig(
        steps=600, initial_steps=600, batch_size=128, width=32, depth=2, init="scratch"
    ),
}


@pytest.mark.parametrize("config", LEARNING.values(), ids=LEARNING)
def test_samples_follow_the_training_data(config):
    """p_0 on one Gaussian, then a retraining on a shifted one, each row its own."""
    learner, size, count = build_learner(config, (2,)), 2000, 4000
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
