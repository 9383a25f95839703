"""The learner `otcfm` against what single networks and `torch.optim` make of the same batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torchcfm.conditional_flow_matching import ConditionalFlowMatcher

from luceloop.core.errors import LoopError
from luceloop.core.learners.base import Fitted, State, TrainingSet
from luceloop.core.learners.coupling import couple
from luceloop.core.learners.otcfm import OTCFM, OTCFMConfig
from luceloop.core.learners.regression.networks import build_network
from luceloop.core.learners.regression.parameters import clip_rows
from luceloop.core.learners.regression.regression import Batch

SMALL = {"batch_size": 16, "width": 32, "depth": 2, "nfe": 4, "ot_batch": 8}
SEEDS = [5, 6, 7]


def _learner(**keys: object) -> OTCFM:
    config = OTCFMConfig(**{"steps": 6, "initial_steps": 7} | SMALL | keys)
    return OTCFM(config, build_network(config, (2,), "cpu"), (2,))


def _training(rows: int = 3, size: int = 50) -> TrainingSet:
    samples = torch.randn(rows, size, 2, generator=torch.Generator().manual_seed(0))
    return TrainingSet(samples + torch.arange(rows)[:, None, None], torch.full((rows,), size))


def _difference(a: State, b: State) -> float:
    """Largest difference of the weights of two states."""
    return max(float((a["weights"][k] - b["weights"][k]).abs().max()) for k in a["weights"])


# --- batches


def _batches(learner: OTCFM, training: TrainingSet, steps: int, iteration: int) -> list[Batch]:
    """The batches a fit of `steps` steps sees, each `(R, B, ...)`."""
    chunks = learner.batches(training, steps, SEEDS, iteration)
    return [Batch(*parts) for c in chunks for parts in zip(c.t, c.x_t, c.target, strict=True)]


def _joined(batches: Sequence[Batch]) -> tuple[Tensor, Tensor, Tensor]:
    """Times `(C, R, B, 1)` and both ends `(C, R, B, d)` of the straight paths."""
    t = torch.stack([batch.t for batch in batches])
    x_t = torch.stack([batch.x_t for batch in batches])
    velocity = torch.stack([batch.target for batch in batches])
    return t, x_t - t * velocity, x_t + (1 - t) * velocity


def test_paths_run_from_standard_noise_to_the_rows_own_data():
    training, steps = _training(), 60
    t, x_0, x_1 = _joined(_batches(_learner(), training, steps, 0))
    assert t.shape == (steps, 3, 16, 1) and x_0.shape == (steps, 3, 16, 2)
    assert stats.kstest(t.flatten().numpy(), stats.uniform.cdf).pvalue > 1e-6
    assert stats.kstest(x_0.flatten().numpy(), stats.norm.cdf).pvalue > 1e-6
    for row in range(3):
        ends = x_1[:, row].reshape(-1, 2)
        distance, nearest = torch.cdist(ends.double(), training.samples[row].double()).min(1)
        assert distance.max() < 1e-5  # rounding of the path
        # 960 samples of 50 are 19 epochs and a fifth: nothing is missed, nothing seen too often.
        counts = torch.bincount(nearest, minlength=50)
        assert counts.min() >= 19 and counts.max() <= 20


def test_noise_is_optimally_coupled_within_sub_batches():
    _, x_0, x_1 = _joined(_batches(_learner(), _training(), 10, 0))
    cost = (x_1 - x_0).square().sum((2, 3))
    again = (x_1 - couple(x_0, x_1, 8)).square().sum((2, 3))
    assert torch.allclose(cost, again, rtol=1e-5)
    _, y_0, y_1 = _joined(_batches(_learner(ot_batch=1), _training(), 10, 0))
    assert cost.sum() < 0.8 * (y_1 - y_0).square().sum()


def test_sigma_scatters_points_about_their_paths():
    # Data on a coarse lattice, so that a scattered end still names the sample it belongs to.
    samples = 10.0 * torch.randint(-3, 4, (3, 50, 2), generator=torch.Generator().manual_seed(0))
    training = TrainingSet(samples, torch.full((3,), 50))
    sigma = 0.2
    _, _, end = _joined(_batches(_learner(sigma=sigma), training, 60, 0))
    residual = (end - 10 * (end / 10).round()).flatten().double().numpy()
    assert stats.kstest(residual, stats.norm(0, sigma).cdf).pvalue > 1e-6


@pytest.mark.parametrize("sigma", [0.0, 0.3])
def test_paths_are_those_of_torchcfm(sigma):
    learner, generator = _learner(sigma=sigma), torch.Generator().manual_seed(3)
    x_0, x_1, epsilon = torch.randn(3, 4, 3, 16, 2, generator=generator).unbind()
    t = torch.rand(4, 3, 16, generator=generator)
    batch = learner.path(t, x_0, x_1, epsilon)
    matcher = ConditionalFlowMatcher(sigma=sigma)
    flat = x_0.flatten(0, 2), x_1.flatten(0, 2), t.flatten()
    x_t = matcher.sample_xt(*flat, epsilon.flatten(0, 2))
    velocity = matcher.compute_conditional_flow(*flat, x_t)
    assert torch.equal(batch.t.flatten(), t.flatten())
    assert torch.allclose(batch.x_t.flatten(0, 2), x_t, atol=1e-6)
    assert torch.equal(batch.target.flatten(0, 2), velocity)


# --- training


UNITS = {"silu": nn.SiLU, "selu": nn.SELU}


@dataclass
class Reference:
    """One row's network as a module, trained by `torch.optim.Adam`."""

    module: nn.Sequential
    optimizer: torch.optim.Adam
    average: list[Tensor]

    @classmethod
    def of(cls, weights: State, row: int, config: OTCFMConfig) -> Reference:
        layers: list[nn.Module] = []
        for i in range(len(weights) // 2):
            weight, bias = weights[f"weight{i}"][row], weights[f"bias{i}"][row]
            linear = nn.Linear(*weight.shape)
            linear.weight.data, linear.bias.data = weight.T.clone(), bias[0].clone()
            layers += [linear, UNITS[config.activation]()]
        module = nn.Sequential(*layers[:-1])
        optimizer = torch.optim.Adam(module.parameters(), lr=config.lr)
        return cls(module, optimizer, [p.detach().clone() for p in module.parameters()])

    def step(self, batch: Batch, row: int, clip: float | None, ema: float | None) -> float:
        inputs = torch.cat([batch.x_t[row], batch.t[row]], dim=1)
        loss = nn.functional.mse_loss(self.module(inputs), batch.target[row])
        self.optimizer.zero_grad()
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), clip)
        self.optimizer.step()
        if ema is not None:
            new = self.module.parameters()
            pairs = zip(self.average, new, strict=True)
            self.average = [ema * a + (1 - ema) * p.detach() for a, p in pairs]
        return float(loss.detach())

    def difference(self, weights: State, row: int, values: Sequence[Tensor]) -> float:
        named: Iterator[Tensor] = iter(values)
        worst = 0.0
        for i in range(len(weights) // 2):
            weight, bias = weights[f"weight{i}"][row].T, weights[f"bias{i}"][row, 0]
            worst = max(worst, float((weight - next(named)).abs().max()))
            worst = max(worst, float((bias - next(named)).abs().max()))
        return worst


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"activation": "selu"},
        {"clip": 0.3},
        {"ema": 0.8},
        {"sigma": 0.1, "depth": 1},
        {"carry_optimizer": True},
    ],
    ids=str,
)
def test_an_ensemble_trains_like_separate_modules(keys):
    """p_0 and a warm retraining: weights, averages and losses of each row's own module."""
    learner, training = _learner(lr=0.01, **keys), _training()
    config = learner.config
    first = learner.fit(None, training, SEEDS, 0)
    second = learner.fit(first.state, training, SEEDS, 1)
    weights = learner.network.initialize(SEEDS, 0)
    for row in range(3):
        reference = Reference.of(weights, row, config)
        for fitted, steps, iteration in ((first, 7, 0), (second, 6, 1)):
            if iteration and not config.carry_optimizer:
                reference.optimizer = torch.optim.Adam(reference.module.parameters(), config.lr)
            for batch in _batches(learner, training, steps, iteration):
                loss = reference.step(batch, row, config.clip, config.ema)
            # Adam moves a weight by up to lr a step; a float32 gradient that rounds the other
            # way changes that by 1e-6 or so of it, unless it is itself all rounding.
            allowed = 1e-3 * config.lr * steps
            values = [p.detach() for p in reference.module.parameters()]
            assert reference.difference(fitted.state["weights"], row, values) < allowed
            if config.ema is not None:
                assert reference.difference(fitted.state["ema"], row, reference.average) < allowed
            # Of 6 or 7 steps, the last tenth is the last one.
            assert fitted.loss is not None
            assert float(fitted.loss[row]) == pytest.approx(loss, rel=1e-4)


def test_new_weights_are_uniform_as_in_linear_layers():
    learner = _learner(width=96)
    weights = learner.network.initialize(SEEDS, 0)
    for i, inputs in enumerate((3, 96, 96)):
        values = torch.cat([weights[f"{kind}{i}"].flatten() for kind in ("weight", "bias")])
        law = stats.uniform(-1 / math.sqrt(inputs), 2 / math.sqrt(inputs))
        assert stats.kstest(values.double().numpy(), law.cdf).pvalue > 1e-6


def test_the_reported_loss_is_the_mean_of_the_last_tenth_of_the_steps():
    # With so small a learning rate the network stays as it was, so any step's loss is known.
    learner, training, steps = _learner(lr=1e-12, initial_steps=37), _training(), 37
    fitted = learner.fit(None, training, SEEDS, 0)
    weights = learner.network.initialize(SEEDS, 0)
    last = _batches(learner, training, steps, 0)[-3:]
    errors = [learner.network(weights, b.t, b.x_t) - b.target for b in last]
    expected = torch.stack([e.square().mean((1, 2)) for e in errors]).mean(0)
    assert fitted.loss is not None
    assert fitted.loss.tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def _steps_taken(fitted: Fitted) -> list[float]:
    return fitted.state["adam"]["step"].tolist()


@pytest.mark.parametrize(("given", "expected"), [(40, 40), (None, 12)])
def test_p_0_takes_its_own_number_of_steps_or_twice_that_of_a_retraining(given, expected):
    learner = _learner(initial_steps=given, carry_optimizer=True)
    first = learner.fit(None, _training(), SEEDS, 0)
    assert _steps_taken(first) == [expected] * 3
    assert _steps_taken(learner.fit(first.state, _training(), SEEDS, 1)) == [expected + 6] * 3


def test_a_carried_optimizer_keeps_counting():
    learner = _learner(carry_optimizer=True)
    first = learner.fit(None, _training(), SEEDS, 0)
    second = learner.fit(first.state, _training(), SEEDS, 1)
    assert _steps_taken(second) == [7 + 6] * 3
    assert _steps_taken(learner.fit(second.state, _training(), SEEDS, 2)) == [7 + 6 + 6] * 3


def test_a_warm_start_goes_on_from_the_last_weights():
    still = {"lr": 1e-12}
    first = _learner().fit(None, _training(), SEEDS, 0).state
    assert _difference(_learner(**still).fit(first, _training(), SEEDS, 1).state, first) < 1e-8


def test_a_start_from_scratch_forgets_the_last_model_and_its_optimizer():
    scratch = _learner(init="scratch", carry_optimizer=True, ema=0.9)
    states = [scratch.fit(None, _training(), seeds, 0).state for seeds in (SEEDS, [8, 9, 10])]
    retrained = [scratch.fit(state, _training(), SEEDS, 1) for state in states]
    parts = [fitted.state | fitted.state["adam"] for fitted in retrained]
    for part in ("weights", "ema", "exp_avg", "exp_avg_sq"):
        for key, value in parts[0][part].items():
            assert torch.equal(value, parts[1][part][key])
    assert _steps_taken(retrained[0]) == [6] * 3
    again = scratch.fit(states[0], _training(), SEEDS, 2).state
    assert _difference(again, retrained[0].state) > 0.01  # every iteration starts elsewhere


def test_p_0_may_have_an_average_of_its_own():
    """After n steps the start's share of an average of decay d is d^n."""
    first = _learner(ema=0.5, initial_ema=0.999, initial_steps=2).fit(None, _training(), SEEDS, 0)
    same = _learner(ema=0.999, initial_steps=2).fit(None, _training(), SEEDS, 0)
    for name, value in first.state["ema"].items():
        assert torch.equal(value, same.state["ema"][name])
    retrained = [
        _learner(ema=0.5, initial_ema=decay).fit(first.state, _training(), SEEDS, 1).state["ema"]
        for decay in (None, 0.999)
    ]
    assert all(torch.equal(value, retrained[1][name]) for name, value in retrained[0].items())
    with pytest.raises(ValueError, match=r"initial_ema=0.999: needs ema"):
        _learner(initial_ema=0.999)


def test_samples_come_from_the_average_where_there_is_one():
    learner = _learner(ema=0.99)
    state = learner.fit(None, _training(), SEEDS, 0).state
    averaged = learner.sample(learner.model(state), 5, SEEDS, 0, 0)
    plain = _learner()
    assert torch.equal(plain.sample(state["ema"], 5, SEEDS, 0, 0), averaged)
    assert not torch.equal(plain.sample(state["weights"], 5, SEEDS, 0, 0), averaged)


# --- clipping


def test_each_rows_gradient_is_clipped_to_its_own_norm():
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([0.01, 1.0, 50.0])
    shapes = [(4, 6), (1, 6), (6, 2)]
    gradients = [
        scale[:, None, None] * torch.randn(3, *shape, generator=generator) for shape in shapes
    ]
    expected = []
    for row in range(3):
        parameters = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient[row].clone()
        nn.utils.clip_grad_norm_(parameters, 1.5)
        expected.append([parameter.grad for parameter in parameters])
    untouched = [gradient[0].clone() for gradient in gradients]
    clip_rows(gradients, 1.5)
    for row, parts in enumerate(expected):
        for gradient, part in zip(gradients, parts, strict=True):
            # torch adds 1e-6 to a norm before dividing by it.
            assert part is not None and torch.allclose(gradient[row], part, rtol=1e-5)
    for gradient, before in zip(gradients, untouched, strict=True):
        assert torch.equal(gradient[0], before)


def test_clipping_leaves_zero_gradients_zero():
    gradients = [torch.zeros(2, 3, 4), torch.zeros(2, 1, 4)]
    clip_rows(gradients, 1.0)
    assert all((gradient == 0).all() for gradient in gradients)


# --- failures


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_bad_data_fails_naming_the_seeds_it_belongs_to(bad):
    training = _training()
    training.samples[1, 3] = bad
    learner = _learner(ot_batch=1, initial_steps=60)
    with pytest.raises(LoopError, match=r"iteration 4 for seeds \[6\]"):
        learner.fit(None, training, SEEDS, 4)


def test_bad_data_that_is_to_be_coupled_fails_the_same_way():
    training = _training()
    training.samples[1, 3] = torch.nan
    with pytest.raises(LoopError, match=r"seeds \[6\]"):
        _learner(initial_steps=60).fit(None, training, SEEDS, 0)


def test_a_diverging_training_fails_with_that_reason():
    learner = _learner(lr=1e20, initial_steps=60)
    with pytest.raises(LoopError, match=r"loss is NaN or infinite at iteration 0") as error:
        learner.fit(None, _training(), SEEDS, 0)
    assert "learner.lr" in str(error.value)


def test_a_row_samples_from_its_own_weights_only():
    learner = _learner()
    state = learner.fit(None, _training(), SEEDS, 0).state
    first = {k: v.clone() for k, v in learner.model(state).items()}
    for value in first.values():
        value[1:] = torch.nan
    x = learner.sample(first, 20, SEEDS, 0, 0)
    assert torch.equal(x[0], learner.sample(learner.model(state), 20, SEEDS, 0, 0)[0])
