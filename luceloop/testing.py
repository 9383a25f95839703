"""Contracts of code of your own: checks of datasets, rewards, curations, learners and metrics.

    from luceloop.testing import check_dataset, check_learner, check_metric, check_reward

    def test_my_learner():
        check_learner(lambda shape: MyLearner(shape, device="cpu"))

Each raises `AssertionError`, saying in one sentence what the loop relies on and does not get. The
single checks stand in `DATASET_CHECKS`, `REWARD_CHECKS`, `CURATION_CHECKS`, `LEARNER_CHECKS` and
`METRIC_CHECKS`, for tests that want to name the one that fails. Our own kinds are held to the same.

Axes: R rows, N training samples, B samples, `...` the sample's own shape.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from luceloop.core import rng
from luceloop.core.custom_metrics import Metric
from luceloop.core.custom_metrics import check_metric as checked_metric
from luceloop.core.data.base import MOST_CLASSES, Dataset
from luceloop.core.errors import LoopError
from luceloop.core.learners.base import Learner, State, TrainingSet, select_row, stack_rows
from luceloop.core.pickers.custom import Curation
from luceloop.core.pickers.custom import check_curation as checked_curation
from luceloop.core.rewards.custom import check_reward as checked

__all__ = [
    "CURATION_CHECKS",
    "DATASET_CHECKS",
    "LEARNER_CHECKS",
    "METRIC_CHECKS",
    "REWARD_CHECKS",
    "check_curation",
    "check_dataset",
    "check_learner",
    "check_metric",
    "check_reward",
]

LearnerBuild = Callable[[tuple[int, ...]], Learner]
"""Makes a new learner for samples of a shape, always the same one."""
RewardFunction = Callable[[Tensor], Tensor]


def check_dataset(dataset: Dataset) -> None:
    """Check that a dataset does what the loop relies on; see `luceloop.Dataset`.

    Raises:
        AssertionError: saying what it does not do.
    """
    for check in DATASET_CHECKS:
        check(dataset)


def check_reward(reward: RewardFunction, samples: Tensor) -> None:
    """Check that a reward does what the loop relies on; see `luceloop.Reward`.

    Args:
        reward: a function of samples `(B, ...)`.
        samples: some that it will meet `(B, ...)`, at least two.

    Raises:
        AssertionError: saying what it does not do.
    """
    for check in REWARD_CHECKS:
        check(reward, samples)


def check_learner(build: LearnerBuild, shape: tuple[int, ...] = (2,)) -> None:
    """Check that a learner does what the loop relies on; see `luceloop.Learner`.

    Args:
        build: makes a new learner for samples of a shape.
        shape: of a sample.

    Raises:
        AssertionError: saying what it does not do.
    """
    for check in LEARNER_CHECKS:
        check(build, shape)


def check_curation(curation: Curation, samples: Tensor, reward: Tensor) -> None:
    """Check that a curation does what the loop relies on; see `luceloop.Curation`.

    Args:
        curation: a function of samples, rewards, a count and a generator.
        samples: a pool such as it will meet `(N, ...)`, of at least two.
        reward: of each `(N,)`.

    Raises:
        AssertionError: saying what it does not do.
    """
    for check in CURATION_CHECKS:
        check(curation, samples, reward)


def check_metric(metric: Metric, samples: Tensor, real: Tensor) -> None:
    """Check that a metric does what the loop relies on; see `luceloop.Metric`.

    Args:
        metric: a function of samples and real samples.
        samples: some that it will meet `(N, ...)`.
        real: real ones `(M, ...)`.

    Raises:
        AssertionError: saying what it does not do.
    """
    for check in METRIC_CHECKS:
        check(metric, samples, real)


def _require(condition: object, what: str) -> None:
    if not condition:
        raise AssertionError(what)


# What the loop relies on of a dataset.


def _describes_itself(dataset: Dataset) -> None:
    _require(isinstance(dataset, Dataset), "has size, shape, n_classes, draw and classify")
    _require(isinstance(dataset.size, int) and dataset.size > 0, "size is a whole number from 1")
    sides = [isinstance(side, int) and side > 0 for side in dataset.shape]
    _require(sides and all(sides), "shape is a tuple of whole numbers from 1")
    classes = isinstance(dataset.n_classes, int) and 0 <= dataset.n_classes <= MOST_CLASSES
    _require(classes, f"n_classes is a whole number from 0 to {MOST_CLASSES}")


def _draws_what_it_says(dataset: Dataset) -> None:
    for count in (1, dataset.size):
        x = dataset.draw(count, rng.stream(0, "check"))
        _require(x.shape == (count, *dataset.shape), "draw returns as many samples as asked for")
        _require(x.dtype == torch.float32, "samples are float32")
        _require(x.isfinite().all(), "samples are finite")


def _draws_by_the_generator_alone(dataset: Dataset) -> None:
    draws = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        draws.append(dataset.draw(dataset.size, rng.stream(0, "check")))
    _require(torch.equal(*draws), "the same generator draws the same, whatever the global state")


def _tells_classes(dataset: Dataset) -> None:
    if not dataset.n_classes:
        return
    x = dataset.draw(dataset.size, rng.stream(0, "check"))
    before = x.clone()
    classes = dataset.classify(x)
    _require(torch.equal(x, before), "classify leaves the samples as they are")
    _require(classes.shape == x.shape[:1], "classify returns a class for each sample")
    _require(classes.dtype == torch.int64, "classes are int64")
    inside = (classes >= 0) & (classes < dataset.n_classes)
    _require(inside.all(), "classes are from 0 to n_classes - 1")
    alone = torch.cat([dataset.classify(part) for part in torch.split(x, 1)])
    _require(torch.equal(classes, alone), "a sample's class does not depend on the others")


DATASET_CHECKS: tuple[Callable[[Dataset], None], ...] = (
    _describes_itself,
    _draws_what_it_says,
    _draws_by_the_generator_alone,
    _tells_classes,
)


# What the loop relies on of a reward.


def _rewards_each_sample(reward: RewardFunction, samples: Tensor) -> None:
    try:
        checked("reward", reward)(samples)
    except (LoopError, ValueError) as error:
        raise AssertionError(str(error)) from error


def _repeats_its_rewards(reward: RewardFunction, samples: Tensor) -> None:
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(reward(samples.clone()))
    _require(
        torch.equal(*found), "the same samples get the same rewards, whatever the global state"
    )


def _rewards_samples_by_themselves(reward: RewardFunction, samples: Tensor) -> None:
    together = reward(samples.clone()).double()
    order = torch.arange(len(samples) - 1, -1, -1)
    turned = reward(samples[order].clone()).double()
    alone = torch.cat([reward(part.clone()).double() for part in torch.split(samples, 1)])
    close = [
        torch.allclose(other, together, rtol=1e-4, atol=1e-6) for other in (turned[order], alone)
    ]
    _require(all(close), "a sample's reward does not depend on the samples beside it")


REWARD_CHECKS: tuple[Callable[[RewardFunction, Tensor], None], ...] = (
    _rewards_each_sample,
    _repeats_its_rewards,
    _rewards_samples_by_themselves,
)


# What the loop relies on of a curation.


def _keeps_samples_of_the_pool(curation: Curation, samples: Tensor, reward: Tensor) -> None:
    for count in (1, len(samples) // 2, len(samples)):
        try:
            checked_curation("given", curation)(
                samples, reward, count, rng.stream(0, "check", count)
            )
        except (LoopError, ValueError) as error:
            raise AssertionError(str(error)) from error


def _keeps_by_the_generator_alone(curation: Curation, samples: Tensor, reward: Tensor) -> None:
    found, count = [], len(samples) // 2
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(curation(samples.clone(), reward.clone(), count, rng.stream(0, "check")))
    what = "the same pool and generator keep the same samples, whatever the global state"
    _require(torch.equal(*found), what)


CURATION_CHECKS: tuple[Callable[[Curation, Tensor, Tensor], None], ...] = (
    _keeps_samples_of_the_pool,
    _keeps_by_the_generator_alone,
)


# What the loop relies on of a metric.


def _measures_finite_numbers(metric: Metric, samples: Tensor, real: Tensor) -> None:
    try:
        checked_metric("metric", "given", metric)(samples, real)
    except (LoopError, ValueError) as error:
        raise AssertionError(str(error)) from error


def _repeats_its_numbers(metric: Metric, samples: Tensor, real: Tensor) -> None:
    checked, found = checked_metric("metric", "given", metric), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(checked(samples, real))
    what = "the same samples get the same numbers, whatever the global state"
    _require(found[0] == found[1], what)


METRIC_CHECKS: tuple[Callable[[Metric, Tensor, Tensor], None], ...] = (
    _measures_finite_numbers,
    _repeats_its_numbers,
)


# What the loop relies on of a learner. Rows are runs that share an ensemble.

SEEDS = (11, 12, 13, 14, 15)
"""The seed of each row."""
EVERYONE = (0, 1, 2, 3, 4)
PARTS: tuple[tuple[int, ...], ...] = ((3,), (1, 2, 3), (4, 3, 2, 1, 0))
"""Rows that train and sample together, to be compared with all of them."""


def _training(
    rows: Sequence[int],
    shape: tuple[int, ...],
    sizes: Sequence[int] = (40,) * 5,
    fill: float = 0.0,
) -> TrainingSet:
    """Training sets of some rows; the padding holds `fill`."""
    count = torch.tensor([sizes[row] for row in rows])
    samples = torch.full((len(rows), int(count.max()), *shape), fill)
    for out, row in zip(samples, rows, strict=True):
        data = torch.randn(max(sizes), *shape, generator=torch.Generator().manual_seed(row))
        out[: sizes[row]] = 2 * data[: sizes[row]] + row
    return TrainingSet(samples, count)


def _seeds(rows: Sequence[int]) -> list[int]:
    return [SEEDS[row] for row in rows]


def _leaves(state: State, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in state.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _require_equal(a: State, b: State, what: str) -> None:
    found, expected = dict(_leaves(a)), dict(_leaves(b))
    _require(found.keys() == expected.keys(), f"{what}: the states have other parts")
    different = [key for key in found if not torch.equal(found[key], expected[key])]
    _require(not different, f"{what}: {', '.join(different)} differ")


def _require_same_loss(a: Tensor | None, b: Tensor | None, what: str) -> None:
    _require((a is None) == (b is None), f"{what}: only one of them has a loss")
    if a is not None and b is not None:
        _require(torch.equal(a, b), what)


def _saved(state: State) -> dict[str, Any]:
    """The state as another process would read it."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    buffer.seek(0)
    loaded: dict[str, Any] = torch.load(buffer, weights_only=True)
    return loaded


def _sample(learner: Learner, state: State, rows: Sequence[int], count: int = 50) -> Tensor:
    return learner.sample(learner.model(state), count, _seeds(rows), 1, 2)


def _fitted(learner: Learner, rows: Sequence[int], shape: tuple[int, ...]) -> State:
    return learner.fit(None, _training(rows, shape), _seeds(rows), 0).state


def _samples_have_the_shape_asked_for(build: LearnerBuild, shape: tuple[int, ...]) -> None:
    learner, rows = build(shape), (0, 1, 2)
    state = _fitted(learner, rows, shape)
    for count in (1, 7):
        x = _sample(learner, state, rows, count)
        _require(x.shape == (3, count, *shape), "sample returns `count` samples of every row")
        _require(x.dtype == torch.float32 and not x.requires_grad, "samples are plain float32")
        _require(x.isfinite().all(), "samples are finite")


def _losses_are_one_number_a_row(build: LearnerBuild, shape: tuple[int, ...]) -> None:
    rows = (0, 1, 2)
    loss = build(shape).fit(None, _training(rows, shape), _seeds(rows), 0).loss
    if loss is not None:
        _require(loss.shape == (3,) and loss.dtype == torch.float64, "losses are float64 `(R,)`")
        _require(loss.isfinite().all() and not loss.requires_grad, "losses are finite and plain")


def _states_are_tensors_with_a_row_axis(build: LearnerBuild, shape: tuple[int, ...]) -> None:
    learner, rows = build(shape), (0, 1, 2)
    state = _fitted(learner, rows, shape)
    for leaves in (_leaves(state), _leaves(learner.model(state))):
        for name, leaf in leaves:
            plain = isinstance(leaf, Tensor) and leaf.shape[:1] == (3,) and not leaf.requires_grad
            _require(plain, f"state: {name} is a plain tensor with a leading axis of rows")


def _rows_ignore_their_neighbours(build: LearnerBuild, shape: tuple[int, ...]) -> None:
    what = "a row is trained to the same bits whatever its neighbours"
    learner = build(shape)
    first = learner.fit(None, _training(EVERYONE, shape), _seeds(EVERYONE), 0)
    second = learner.fit(first.state, _training(EVERYONE, shape), _seeds(EVERYONE), 1)
    x = _sample(learner, first.state, EVERYONE)
    for rows in PARTS:
        start = stack_rows([select_row(first.state, row) for row in rows])
        alone = learner.fit(None, _training(rows, shape), _seeds(rows), 0)
        _require_equal(alone.state, start, what)
        # What follows starts from the same bits, so that a failure names what broke first.
        same = torch.equal(_sample(learner, start, rows), x[list(rows)])
        _require(same, "a row is sampled to the same bits whatever its neighbours")
        alone = learner.fit(start, _training(rows, shape), _seeds(rows), 1)
        _require_equal(
            alone.state, stack_rows([select_row(second.state, row) for row in rows]), what
        )
        expected = None if second.loss is None else second.loss[list(rows)]
        _require_same_loss(alone.loss, expected, "a row has the same loss whatever its neighbours")


def _samples_ignore_neighbours_at_any_count(build: LearnerBuild, shape: tuple[int, ...]) -> None:
    learner = build(shape)
    state = _fitted(learner, EVERYONE, shape)
    for rows in ((3,), (1, 2, 3), (0, 4)):
        part = stack_rows([select_row(state, row) for row in rows])
        for count in (1, 7, 33, 256):
            together = _sample(learner, state, EVERYONE, count)[list(rows)]
            same = torch.equal(_sample(learner, part, rows, count), together)
            _require(same, f"{count} samples of a row are the same bits whatever its neighbours")


def _draws_come_from_named_streams(build: LearnerBuild, shape: tuple[int, ...]) -> None:
    learner, rows, found = build(shape), (0, 1), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        state = _fitted(learner, rows, shape)
        found.append((state, _sample(learner, state, rows)))
    _require_equal(found[0][0], found[1][0], "training does not depend on the global state")
    same = torch.equal(found[0][1], found[1][1])
    _require(same, "sampling does not depend on the global state")


def _seeds_iterations_and_shards_draw_apart(build: LearnerBuild, shape: tuple[int, ...]) -> None:
    learner, seeds = build(shape), list(SEEDS[:2])
    state = learner.fit(None, _training((0, 0), shape), seeds, 0).state
    model = learner.model(stack_rows([select_row(state, 0)] * 2))
    draws = [learner.sample(model, 20, seeds, *name) for name in ((1, 1), (1, 2), (2, 1))]
    for draw in draws:
        _require(not torch.equal(draw[0], draw[1]), "two seeds draw different samples")
    for other in draws[1:]:
        _require(not torch.equal(draws[0], other), "iterations and shards draw different samples")


def _what_is_given_stays_as_it_is(build: LearnerBuild, shape: tuple[int, ...]) -> None:
    learner, rows = build(shape), (0, 1, 2)
    state = _fitted(learner, rows, shape)
    before, training = _saved(state), _training(rows, shape)
    given = training.samples.clone()
    learner.fit(state, training, _seeds(rows), 1)
    _sample(learner, state, rows)
    _require_equal(state, before, "fit and sample leave the state as it is")
    _require(torch.equal(training.samples, given), "fit leaves the training set as it is")


def _states_survive_saving_and_splitting(build: LearnerBuild, shape: tuple[int, ...]) -> None:
    learner, rows = build(shape), (0, 1, 2)
    state = _fitted(learner, rows, shape)
    _require_equal(_saved(state), state, "a state is read as it was saved")
    parts = stack_rows([_saved(select_row(state, row)) for row in rows])
    _require_equal(parts, state, "a state can be split into rows and stacked again")
    same = torch.equal(_sample(learner, parts, rows), _sample(learner, state, rows))
    _require(same, "a state that was split and stacked draws the same samples")


def _saved_states_go_on(build: LearnerBuild, shape: tuple[int, ...]) -> None:
    learner, rows = build(shape), (0, 1, 2)
    state = _fitted(learner, rows, shape)
    saved = _saved(state)
    directly = learner.fit(state, _training(rows, shape), _seeds(rows), 1)
    resumed = build(shape).fit(saved, _training(rows, shape), _seeds(rows), 1)
    what = "a new learner goes on from a saved state as the old one would have"
    _require_equal(resumed.state, directly.state, what)


def _padding_is_never_seen(build: LearnerBuild, shape: tuple[int, ...]) -> None:
    learner, sizes, found = build(shape), (40, 17, 1, 25, 64), []
    for fill in (0.0, torch.nan):
        training = _training(EVERYONE, shape, sizes, fill)
        state = learner.fit(None, training, _seeds(EVERYONE), 0).state
        fitted = learner.fit(state, training, _seeds(EVERYONE), 1)
        found.append((fitted.loss, _sample(learner, fitted.state, EVERYONE)))
    what = "of a row, only its first `sizes[r]` samples count; what pads them does not matter"
    _require(found[1][1].isfinite().all() and torch.equal(found[0][1], found[1][1]), what)
    _require_same_loss(found[0][0], found[1][0], what)


def _rows_train_on_their_own_samples(build: LearnerBuild, shape: tuple[int, ...]) -> None:
    learner, rows = build(shape), (0, 1, 2)
    training = _training(rows, shape)
    before = learner.fit(None, training, _seeds(rows), 0).state
    training.samples[1] += 100
    after = learner.fit(None, training, _seeds(rows), 0).state
    for row in (0, 2):
        what = "a row trains on its own samples only"
        _require_equal(select_row(after, row), select_row(before, row), what)
    drawn = [_sample(learner, state, rows)[1] for state in (before, after)]
    _require(not torch.equal(*drawn), "what a row is trained on changes what it draws")


LEARNER_CHECKS: tuple[Callable[[LearnerBuild, tuple[int, ...]], None], ...] = (
    _states_are_tensors_with_a_row_axis,
    _samples_have_the_shape_asked_for,
    _losses_are_one_number_a_row,
    _rows_ignore_their_neighbours,
    _samples_ignore_neighbours_at_any_count,
    _draws_come_from_named_streams,
    _seeds_iterations_and_shards_draw_apart,
    _what_is_given_stays_as_it_is,
    _states_survive_saving_and_splitting,
    _saved_states_go_on,
    _padding_is_never_seen,
    _rows_train_on_their_own_samples,
)
