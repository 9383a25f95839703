"""Learners with a U-Net on small images: rows apart, interruptions without a trace, what is fit."""

from __future__ import annotations

import io
import threading
from collections.abc import Generator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchcfm.models.unet.unet import QKVAttentionLegacy, UNetModelWrapper

from luceloop.core.errors import ConfigError
from luceloop.core.learners.base import (
    Learner,
    LearnerConfig,
    State,
    TrainingSet,
    select_row,
    stack_rows,
    to_device,
)
from luceloop.core.learners.ddpm import DDPMConfig
from luceloop.core.learners.networks.unet import BACKEND, OPTIONS, Attention, UNet, UNetConfig
from luceloop.core.learners.otcfm import OTCFMConfig
from luceloop.core.learners.regression.networks import build_network
from luceloop.core.learners.regression.parameters import FlatParameters
from luceloop.core.learners.regression.regression import ahead

SHAPE = (1, 4, 4)
NET = UNetConfig(
    channels=32, multipliers=(1, 1), blocks=1, attention=(2,), head_channels=32, dropout=0.3
)
COMMON: dict[str, Any] = {"steps": 2, "initial_steps": 3, "batch_size": 4, "unet": NET}
LEARNERS: dict[str, LearnerConfig] = {
    "otcfm": OTCFMConfig(**COMMON, ot_batch=4, solver="euler", nfe=2, ema=0.9, warmup=2, clip=1.0),
    "ddpm": DDPMConfig(**COMMON, sampler="ddim", ddim_steps=2, carry_optimizer=True, flip=True),
}
SEEDS = [3, 4, 5]


@pytest.fixture(params=list(LEARNERS.values()), ids=list(LEARNERS))
def learner(request: pytest.FixtureRequest) -> Learner:
    return request.param.build(SHAPE)


def _training(rows: list[int]) -> TrainingSet:
    generators = [torch.Generator().manual_seed(row) for row in rows]
    samples = torch.stack([torch.rand(10, *SHAPE, generator=g) * 2 - 1 for g in generators])
    return TrainingSet(samples, torch.tensor([10 - row for row in rows]))


def _seeds(rows: list[int]) -> list[int]:
    return [SEEDS[row] for row in rows]


def _leaves(state: State) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        inner = _leaves(value) if isinstance(value, dict) else {"": value}
        found |= {f"{key}.{name}": leaf for name, leaf in inner.items()}
    return found


def _assert_equal(a: State, b: State) -> None:
    found, expected = _leaves(a), _leaves(b)
    assert found.keys() == expected.keys()
    assert not [name for name in found if not torch.equal(found[name], expected[name])]


def test_a_row_is_the_same_whatever_its_neighbours_and_the_global_state(learner):
    everyone = [0, 1, 2]
    torch.manual_seed(0)
    first = learner.fit(None, _training(everyone), _seeds(everyone), 0)
    second = learner.fit(first.state, _training(everyone), _seeds(everyone), 1)
    torch.manual_seed(1)
    x = learner.sample(learner.model(second.state), 5, _seeds(everyone), 1, 0)
    assert x.shape == (3, 5, *SHAPE) and x.isfinite().all()
    for rows in ([2], [1, 0]):
        alone = learner.fit(None, _training(rows), _seeds(rows), 0)
        _assert_equal(alone.state, stack_rows([select_row(first.state, row) for row in rows]))
        alone = learner.fit(alone.state, _training(rows), _seeds(rows), 1)
        assert alone.loss is not None and torch.equal(alone.loss, second.loss[rows])
        found = learner.sample(learner.model(alone.state), 5, _seeds(rows), 1, 0)
        assert torch.equal(found, x[rows])


def test_continuing_from_a_saved_state_equals_continuing_directly(learner):
    state = learner.fit(None, _training([0]), _seeds([0]), 0).state
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    directly = learner.fit(state, _training([0]), _seeds([0]), 1)
    _assert_equal(learner.fit(saved, _training([0]), _seeds([0]), 1).state, directly.state)
    _assert_equal(saved, state)  # and what was given is left alone


def test_the_network_is_torchcfms_at_the_same_weights():
    network = build_network(OTCFMConfig(unet=NET), SHAPE, "cpu")
    weights = network.initialize(SEEDS, 0)
    module = UNetModelWrapper(
        dim=SHAPE, num_channels=32, num_res_blocks=1, channel_mult=[1, 1],
        attention_resolutions="2", num_heads=4, num_head_channels=32, dropout=0.3,
    ).eval()  # fmt: skip
    x = torch.randn(3, 6, 16, generator=torch.Generator().manual_seed(0))
    t = torch.rand(3, 6, 1, generator=torch.Generator().manual_seed(1))
    weights = {name: w + 0.1 for name, w in weights.items()}  # the last layer begins at zero
    with torch.no_grad():
        found = network(weights, t, x)
        for row in range(3):
            module.load_state_dict({name: w[row] for name, w in weights.items()})
            expected = module(t[row, :, 0], x[row].reshape(6, *SHAPE)).flatten(1)
            assert torch.allclose(found[row], expected, atol=1e-5)


def test_attention_is_torchcfms_in_training_and_in_sampling():
    qkv = torch.randn(2, 4 * 3 * 8, 9, generator=torch.Generator().manual_seed(0))
    own, theirs = Attention(4), QKVAttentionLegacy(4)
    given = [qkv.clone().requires_grad_(), qkv.clone().requires_grad_()]
    for attention, x in zip((own, theirs), given, strict=True):
        attention(x).square().sum().backward()
    torch.testing.assert_close(given[0].grad, given[1].grad, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        fused, expected = own(qkv), theirs(qkv)
        alone = torch.cat([own(row[None]) for row in qkv])
    assert torch.allclose(fused, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(alone, fused)


def test_units_drop_in_training_alone():
    network = build_network(OTCFMConfig(unet=NET), SHAPE, "cpu")
    assert isinstance(network, UNet)
    weights = {name: w + 0.1 for name, w in network.initialize([3], 0).items()}
    x, t = torch.ones(1, 4, 16), torch.tensor(0.5)
    with torch.no_grad():
        outside = [network(weights, t, x) for _ in range(2)]
        assert torch.equal(*outside)
        with network.training([3], 1):
            inside = [network(weights, t, x) for _ in range(2)]
        assert not torch.equal(*inside)
        assert torch.equal(network(weights, t, x), outside[0])


def test_bfloat16_is_close_and_leaves_weights_as_they_are():
    results = []
    for precision in ("fp32", "bf16"):
        network = build_network(OTCFMConfig(unet=NET, precision=precision), SHAPE, "cpu")
        weights = {name: w + 0.05 for name, w in network.initialize([3], 0).items()}
        x = torch.randn(1, 8, 16, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            results.append(network(weights, torch.tensor(0.3), x))
    assert results[1].dtype == torch.float32
    # bfloat16 keeps 8 bits; a few dozen layers lose a little more.
    assert (results[1] - results[0]).norm() < 0.05 * results[0].norm()


def test_mirrored_images_are_half_of_what_training_sees():
    config = OTCFMConfig(**COMMON | {"flip": True, "batch_size": 500, "ot_batch": 1})
    learner = config.build(SHAPE)
    image = torch.zeros(1, 4, 4)
    image[..., 0] = 1.0  # a bright left edge
    training = TrainingSet(image.expand(1, 10, 1, 4, 4), torch.tensor([10]))
    [batch] = learner.batches(training, 1, [3], 0)
    x_1 = (batch.x_t + (1 - batch.t) * batch.target).reshape(500, 4, 4)
    left = (x_1[:, 0, 0] > 0.5).float().mean()
    right = (x_1[:, 0, 3] > 0.5).float().mean()
    assert left + right == 1
    assert abs(left - 0.5) < 5 * 0.5 / 500**0.5


def test_the_learning_rate_warms_up_once():
    """Adam's first steps are all of about lr; a warm-up over w steps makes step i one of lr·i/w."""
    moved = {}
    for warmup in (0, 10):
        config = OTCFMConfig(**COMMON | {"initial_steps": 1, "lr": 1e-3}, warmup=warmup)
        learner = config.build(SHAPE)
        start = build_network(config, SHAPE, "cpu").initialize([3], 0)
        state = learner.fit(None, _training([0]), [3], 0).state
        name = "time_embed.0.weight"
        moved[warmup] = float((state["weights"][name] - start[name]).abs().max())
    assert moved[10] == pytest.approx(moved[0] / 10, rel=1e-2)


BAD = [
    ((1, 4, 5), {}, "data=.*square|data="),
    ((1, 6, 6), {"multipliers": (1, 1, 1)}, "learner.unet.multipliers=.*6 pixels"),
    (SHAPE, {"channels": 16}, "learner.unet.channels=16: must make every level a multiple of 32"),
    (SHAPE, {"head_channels": 24}, "learner.unet.head_channels=24: must divide"),
]


@pytest.mark.parametrize(("shape", "keys", "message"), BAD, ids=str)
def test_networks_that_cannot_be_are_one_clear_error(shape, keys, message):
    config = OTCFMConfig(unet=NET.model_copy(update=keys))
    with pytest.raises(ConfigError, match=message):
        config.build(shape)


def test_a_compiled_network_computes_and_trains_the_same(monkeypatch):
    # The graph is what is tested; generating code for this processor would take a minute.
    monkeypatch.setattr("luceloop.core.learners.networks.unet.BACKEND", "aot_eager")
    monkeypatch.setattr("luceloop.core.learners.networks.unet.OPTIONS", {})
    fitted, samples = [], []
    for compiled in (False, True):
        config = OTCFMConfig(**COMMON, solver="euler", nfe=2, clip=1.0, compile=compiled)
        learner = config.build(SHAPE)
        fitted.append(learner.fit(None, _training([0, 1]), _seeds([0, 1]), 0))
        samples.append(learner.sample(learner.model(fitted[-1].state), 5, _seeds([0, 1]), 0, 0))
    # Dropout draws the same units; rounding may differ where operations were rearranged.
    plain, other = (fit.loss for fit in fitted)
    assert plain is not None and other is not None
    assert torch.allclose(plain, other, rtol=1e-5)
    assert torch.allclose(samples[0], samples[1], atol=1e-4)


def test_gradients_of_one_network_are_clipped_to_their_norm():
    flat = FlatParameters({"a": torch.zeros(1, 3, 5), "b": torch.zeros(1, 7)}, "cpu")
    given = [torch.randn(1, 3, 5), torch.randn(1, 7)]
    for norm in (0.3, 100.0):
        parts = [nn.Parameter(torch.zeros_like(gradient)) for gradient in given]
        for part, name, gradient in zip(parts, flat.gradients, given, strict=True):
            part.grad = gradient.clone()
            flat.gradients[name].copy_(gradient)
        nn.utils.clip_grad_norm_(parts, norm)
        flat.clip_gradient(norm, apart=False)
        for part, found in zip(parts, flat.gradients.values(), strict=True):
            assert part.grad is not None and torch.allclose(found, part.grad, rtol=1e-5)


def test_batches_prepared_ahead_are_the_same_and_stop_with_their_user():
    config = OTCFMConfig(**COMMON)
    learner = config.build(SHAPE)
    plain = list(learner.batches(_training([0]), 60, [3], 0))
    threaded = list(ahead(learner.batches(_training([0]), 60, [3], 0)))
    assert len(plain) == len(threaded) == 3
    for a, b in zip(plain, threaded, strict=True):
        assert torch.equal(a.x_t, b.x_t) and torch.equal(a.target, b.target)
    before = threading.active_count()
    left = ahead(learner.batches(_training([0]), 60, [3], 0))
    assert isinstance(left, Generator)
    next(left)
    left.close()
    assert threading.active_count() == before


@pytest.mark.slow
def test_torch_takes_the_options_that_networks_are_compiled_with():
    compiled = torch.compile(lambda x: 2 * x, dynamic=False, backend=BACKEND, options=OPTIONS)
    assert torch.equal(compiled(torch.ones(5)), torch.full((5,), 2.0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_two_trainings_and_an_interrupted_one_end_in_the_same_bits():
    states, samples = [], []
    for _ in range(2):
        config = OTCFMConfig(**COMMON, precision="bf16", compile=True, clip=1.0, ema=0.9)
        learner = config.build(SHAPE, "cuda")
        first = learner.fit(None, _training([0]), _seeds([0]), 0).state
        saved = to_device(to_device(first, "cpu"), "cuda")
        states.append(learner.fit(saved, _training([0]), _seeds([0]), 1).state)
        samples.append(learner.sample(learner.model(states[-1]), 5, _seeds([0]), 1, 0))
    _assert_equal(*states)
    assert torch.equal(*samples) and samples[0].isfinite().all()
